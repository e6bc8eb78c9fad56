/**
 * Bytes that live readers have not taken yet, within one bound for all connections of the node. Nobody is dropped and nothing
 * is queued beyond it: who has no room is not asked for more, keeps its place, and catches up later.
 *
 * A connection may have a 256th of what is free: 256 KiB at first, which is a frame; when 500 stand still 9 MiB are free and
 * 36 KiB are left for each that comes; after a thousand 5 KiB. So whoever does read finds room.
 */
import type { Metrics } from "#lib/metrics.ts";
import type { Runner, Turns } from "./turns.ts";

const NODE_BYTES_MAX = 64 * 1024 * 1024;
const SHARE = 1 / 256;

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
    return Math.max(0, share - waitingBytes);
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
