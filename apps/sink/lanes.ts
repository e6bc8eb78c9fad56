/** All lanes of this sink: what the group reader fills and the writer empties. Bounded: a full lane pauses its partition. */

import type { Clock } from "#lib/clock.ts";
import type { FetchedRecords, GroupReader } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { take } from "./batch.ts";
import { Lane, type Taken } from "./lane.ts";

export class Lanes {
  readonly #reader: Pick<GroupReader, "pause" | "resume" | "seek">;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #bytesMax: number;
  #lanes = new Map<number, Lane>();
  readonly #paused = new Set<number>();
  #wake: () => void = () => undefined;

  /** @param bytesMax of all lanes together; a lane's share may be exceeded by one fetch */
  constructor(reader: Pick<GroupReader, "pause" | "resume" | "seek">, clock: Clock, log: Log, bytesMax: number) {
    this.#reader = reader;
    this.#clock = clock;
    this.#log = log;
    this.#bytesMax = bytesMax;
  }

  get partitions(): readonly number[] {
    return [...this.#lanes.keys()];
  }
  get waitingUnits(): number {
    return [...this.#lanes.values()].reduce((sum, lane) => sum + lane.waitingUnits, 0);
  }
  get hasNews(): boolean {
    return [...this.#lanes.values()].some((lane) => lane.hasNews);
  }
  lane(partition: number): Lane | undefined {
    return this.#lanes.get(partition);
  }

  /** New lanes for exactly these partitions; the old ones are closed. They take nothing until they are started. */
  assign(partitions: readonly number[]): void {
    this.revoke(this.partitions);
    this.#lanes = new Map(partitions.map((partition) => [partition, new Lane(partition)]));
  }

  revoke(partitions: readonly number[]): void {
    for (const partition of partitions) {
      this.#lanes.get(partition)?.close();
      this.#lanes.delete(partition);
      this.#paused.delete(partition);
    }
  }

  /** Sends a lane back to a checkpoint that is not where it was thought to be. */
  restart(partition: number, nextOffset: bigint): void {
    this.#lanes.get(partition)?.start(nextOffset);
    this.#reader.seek(partition, nextOffset);
    this.#resume();
  }

  push(fetched: FetchedRecords): void {
    const { partition, fromOffset } = fetched;
    const lane = this.#lanes.get(partition);
    if (lane?.state !== "running") return;
    if (!lane.push(fetched)) {
      this.#log.warn("fetch did not follow the one before, read again", {
        partition,
        fromOffset,
        wanted: lane.fetchedTo,
      });
      this.#reader.seek(partition, lane.fetchedTo);
      return;
    }
    if (lane.waitingBytes > this.#bytesMax / this.#lanes.size) {
      this.#paused.add(partition);
      this.#reader.pause([partition]);
    }
    this.#wake();
  }

  /** @param unitsMax of all lanes together; a lane with news gives at least a record */
  take(unitsMax: number): Taken[] {
    const taken = take([...this.#lanes.values()], unitsMax);
    this.#resume();
    return taken;
  }

  /** Resolves when a lane has news, after `waitMs`, or when `signal` aborts. One waiter at a time. */
  async news(waitMs: number, signal: AbortSignal): Promise<void> {
    if (this.hasNews || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    this.#wake = wake;
    signal.addEventListener("abort", wake, { once: true });
    const cancel = this.#clock.after(waitMs, wake);
    await promise;
    cancel();
    signal.removeEventListener("abort", wake);
    this.#wake = () => undefined;
  }

  #resume(): void {
    const share = this.#bytesMax / Math.max(1, this.#lanes.size);
    const ready = [...this.#paused].filter((partition) => (this.#lanes.get(partition)?.waitingBytes ?? 0) < share / 2);
    for (const partition of ready) this.#paused.delete(partition);
    if (ready.length > 0) this.#reader.resume(ready);
  }
}
