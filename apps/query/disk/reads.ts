/**
 * Reads of what is on disk: so many at a time, each with its volumes held. The others wait in order, each to its own deadline.
 * LevelDB has four threads in a Node process; more reads than this would only hold windows in memory, of 8 MiB at most each.
 */
import type { Clock } from "#lib/clock.ts";
import type { Metrics } from "#lib/metrics.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import type { PartitionTail, Pin } from "../partition-tail.ts";

const READS_MAX = 32;

interface Waiting {
  settle(entered: boolean): void;
}

export class DiskReads {
  readonly #clock: Pick<Clock, "elapsed" | "after">;
  readonly #metrics: Pick<Metrics, "queryTailDiskReads">;
  /** Bounded by what the node admits. */
  readonly #waiting = new Set<Waiting>();
  #under = 0;

  constructor(clock: Pick<Clock, "elapsed" | "after">, metrics: Pick<Metrics, "queryTailDiskReads">) {
    this.#clock = clock;
    this.#metrics = metrics;
  }

  /**
   * Pins the client once it is this read's turn, and keeps what is on disk for as long as `use` takes.
   * @param untilMs on the clock's `elapsed`
   * @throws ProblemError overloaded
   */
  async pinned<T>(tail: PartitionTail, clientId: string, untilMs: number, use: (pin: Pin) => Promise<T>): Promise<T> {
    if (this.#under >= READS_MAX) await this.#turn(untilMs);
    else this.#under++;
    this.#metrics.queryTailDiskReads.inc();
    const pin = tail.pin(clientId);
    const held = [...new Set(pin.segments.map(({ volume }) => volume))].map((volume) => volume.hold());
    try {
      return await use(pin);
    } finally {
      for (const letGo of held) letGo();
      this.#leave();
    }
  }

  async #turn(untilMs: number): Promise<void> {
    const entered = await new Promise<boolean>((resolve) => {
      const settle = (got: boolean): void => {
        cancel();
        this.#waiting.delete(waiting);
        resolve(got);
      };
      const waiting: Waiting = { settle };
      const cancel = this.#clock.after(Math.max(0, untilMs - this.#clock.elapsed()), () => settle(false));
      this.#waiting.add(waiting);
    });
    if (entered) return;
    const many = `${READS_MAX} pages that need this node's disk are under way, and others before this one`;
    throw new ProblemError(problem("overloaded", `${many}: try again, or another node.`));
  }

  /** The turn goes to whoever waits longest. */
  #leave(): void {
    const [first] = this.#waiting;
    if (first === undefined) this.#under--;
    else first.settle(true);
  }
}
