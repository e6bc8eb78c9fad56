/**
 * Bytes that live readers have not taken yet, with a bound for each connection and one over all of the node's. Nobody is
 * dropped and nothing is queued beyond them: who has no room is not asked for more, keeps its place, and catches up later.
 *
 * A connection may have a 32nd of what is free: 96 that stand still get 512 KiB each; of the 16 MiB that are left then, a
 * thousand more leave half a MiB, and each of those gets 16 KiB. So whoever does read always finds room.
 */
import type { Metrics } from "#lib/metrics.ts";
import type { Runner, Turns } from "./turns.ts";

/** With one more frame of 256 KiB, or one event, a connection stays below 1 MiB. */
const CONNECTION_BYTES_MAX = 512 * 1024;
const NODE_BYTES_MAX = 64 * 1024 * 1024;
/** Of what is free, one connection may have this part. */
const SHARE = 1 / 32;

export class Outflow {
  readonly #turns: Pick<Turns, "add">;
  readonly #gauge: Pick<Metrics["queryLiveBytes"], "set">;
  readonly #bytesMax: number;
  /** Those for whom nothing is left, though they took all that they were sent. */
  readonly #waiting = new Set<Runner>();
  #bytes = 0;

  constructor(
    turns: Pick<Turns, "add">,
    { queryLiveBytes }: Pick<Metrics, "queryLiveBytes">,
    bytesMax = NODE_BYTES_MAX,
  ) {
    this.#turns = turns;
    this.#gauge = queryLiveBytes;
    this.#bytesMax = bytesMax;
  }

  /** What a connection may be sent now, in bytes. @param waitingBytes that it has not taken yet */
  room(waitingBytes: number): number {
    const share = Math.floor((this.#bytesMax - this.#bytes) * SHARE);
    return Math.max(0, Math.min(CONNECTION_BYTES_MAX, share) - waitingBytes);
  }

  /** So many bytes more wait for their reader. */
  add(bytes: number): void {
    this.#bytes += bytes;
    this.#gauge.set(this.#bytes);
  }

  /** They were taken, or are gone with their connection. */
  remove(bytes: number): void {
    this.#bytes -= bytes;
    this.#gauge.set(this.#bytes);
    this.next();
  }

  /** Gets a turn once there is room. */
  wait(runner: Runner): void {
    this.#waiting.add(runner);
  }

  /** No longer waits. */
  forget(runner: Runner): void {
    this.#waiting.delete(runner);
  }

  /** Whoever has waited longest tries. To be called after each try, so that the next one gets what that one left. */
  next(): void {
    if (this.#waiting.size === 0 || this.room(0) === 0) return;
    const [first] = this.#waiting;
    if (first === undefined) return;
    this.#waiting.delete(first);
    this.#turns.add(first);
  }
}
