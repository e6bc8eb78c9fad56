/**
 * The unsaved tail of the whole log, by partition: what has been read, from where to where, and who waits for more. Drops
 * what a snapshot of the database has shown to be saved; begins a partition anew when its checkpoint has gone back.
 */
import type { Clock } from "#lib/clock.ts";
import type { FetchedRecords } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { type NewTailEvent, PartitionTail } from "./partition-tail.ts";
import { Waiters } from "./waiters.ts";

export interface TailParts {
  /** Memory for unsaved events; beyond it reading stops until some are saved. */
  readonly bytesMax: number;
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** Where to begin a partition. */
export interface TailStart {
  readonly start: bigint;
  /** The first offset that the log still has. */
  readonly logStart: bigint;
}

/** What an operator is told. */
export interface TailStatus {
  readonly readRecords: bigint;
  /** Records from the tail's starts to the log's end when it last answered. */
  readonly ofRecords: bigint;
  /** Null while there is memory left. */
  readonly fullSinceMs: number | null;
  /** Null once every partition was read to the log's end. */
  readonly behindSinceMs: number | null;
}

/**
 * Saved records stay this long: longer than a live event waits for its verdict, so that a follower who is about to take
 * them need not ask the database.
 */
const GRACE_MS = 1_000;

/** A partition with what the log and the database last told about it. */
interface Followed {
  readonly tail: PartitionTail;
  logStart: bigint;
  highWatermark: bigint;
  /** A checkpoint that a snapshot showed, to be evicted up to once it is old enough. */
  saved: { readonly nextOffset: bigint; readonly atMs: number } | null;
}

export class Tail {
  readonly #parts: TailParts;
  readonly #partitions = new Map<number, Followed>();
  readonly #waiters: Waiters;
  #fullSinceMs: number | null = null;
  #behindSinceMs: number | null;
  /** Told of clients with followers that have news. */
  onNews: (clientIds: ReadonlySet<string>) => void = () => undefined;
  /** Told of partitions that went on without reading everything: their followers must look elsewhere. */
  onSkipped: (partition: number) => void = () => undefined;

  constructor(parts: TailParts, starts: ReadonlyMap<number, TailStart>) {
    this.#parts = parts;
    this.#waiters = new Waiters(parts.clock);
    this.#behindSinceMs = parts.clock.now();
    for (const [partition, { start, logStart }] of starts)
      this.#partitions.set(partition, { tail: new PartitionTail(start), logStart, highWatermark: -1n, saved: null });
  }

  get partitions(): readonly number[] {
    return [...this.#partitions.keys()];
  }

  /** Whether memory is used up. */
  get full(): boolean {
    let bytes = 0;
    for (const { tail } of this.#partitions.values()) bytes += tail.bytes;
    return bytes >= this.#parts.bytesMax;
  }

  /** @throws Error for a partition that the log does not have */
  partition(partition: number): PartitionTail {
    return this.#followed(partition).tail;
  }

  /** The first offset that the log still has, as it last told. */
  logStart(partition: number): bigint {
    return this.#followed(partition).logStart;
  }

  /** One past the last record, as far as this node knows. */
  end(partition: number): bigint {
    const { highWatermark, tail } = this.#followed(partition);
    return highWatermark > tail.next ? highWatermark : tail.next;
  }

  /** Resolves to whether the partition was read up to `mark` by `untilMs` (on the clock's `elapsed`). */
  async reached(partition: number, mark: bigint, untilMs: number): Promise<boolean> {
    return this.partition(partition).next >= mark || (await this.#waiters.wait(partition, mark, untilMs));
  }

  /** The log told its bounds. */
  told(partition: number, { highWatermark, logStart }: Pick<FetchedRecords, "highWatermark" | "logStart">): void {
    const followed = this.#followed(partition);
    followed.highWatermark = highWatermark;
    if (logStart >= 0n) followed.logStart = logStart;
  }

  /**
   * Takes what was read.
   * @param from where that began; it is left out when the partition has moved meanwhile
   * @returns whether it was taken
   */
  take(partition: number, from: bigint, events: readonly NewTailEvent[], nextOffset: bigint): boolean {
    const { tail } = this.#followed(partition);
    if (tail.next !== from) return false;
    const news = tail.append(events, nextOffset);
    this.#waiters.reached(partition, tail.next);
    if (news.size > 0) this.onNews(news);
    return true;
  }

  /** A round of reading is over. */
  measure(): void {
    const { queryTailRecords, queryTailBytes, queryReadTo } = this.#parts.metrics;
    let [records, bytes, caughtUp] = [0, 0, true];
    for (const [partition, { tail, highWatermark }] of this.#partitions) {
      records += tail.records;
      bytes += tail.bytes;
      caughtUp &&= tail.next >= highWatermark;
      queryReadTo.set({ partition: String(partition) }, Number(tail.next));
    }
    if (caughtUp) this.#behindSinceMs = null;
    this.#fullSinceMs = this.full ? (this.#fullSinceMs ?? this.#parts.clock.now()) : null;
    queryTailRecords.set(records);
    queryTailBytes.set(bytes);
  }

  /**
   * A snapshot of the database showed this checkpoint; null: none, so nothing of the partition is saved.
   * @param startBefore the partition's start before the snapshot was asked for: only a checkpoint below that has gone back;
   *   one between it and the start now is merely an answer that came late
   */
  observe(partition: number, nextOffset: bigint | null, startBefore: bigint): void {
    const followed = this.#followed(partition);
    const { tail } = followed;
    const at = nextOffset ?? followed.logStart;
    if (at < startBefore && at < tail.start) {
      this.#parts.log.warn("checkpoint went back: tail read again", { partition, from: tail.start, to: at });
      tail.restart(at);
      followed.saved = null;
    } else if (nextOffset !== null && at > tail.next) {
      tail.evict(at);
      this.onSkipped(partition);
    } else if (nextOffset !== null) this.#evict(followed, at);
    this.#waiters.reached(partition, tail.next);
  }

  status(): TailStatus {
    let [readRecords, ofRecords] = [0n, 0n];
    for (const [partition, { tail }] of this.#partitions) {
      readRecords += tail.next - tail.start;
      ofRecords += this.end(partition) - tail.start;
    }
    const fullSinceMs = this.full ? this.#fullSinceMs : null;
    return { readRecords, ofRecords, fullSinceMs, behindSinceMs: this.#behindSinceMs };
  }

  #evict(followed: Followed, at: bigint): void {
    const nowMs = this.#parts.clock.elapsed();
    const { saved, tail } = followed;
    const due = saved === null || nowMs - saved.atMs >= GRACE_MS;
    if (saved !== null && due) tail.evict(at < saved.nextOffset ? at : saved.nextOffset);
    if (due) followed.saved = { nextOffset: at, atMs: nowMs };
    if (this.full) tail.evict(at);
  }

  #followed(partition: number): Followed {
    const followed = this.#partitions.get(partition);
    if (followed === undefined) throw new Error(`the log has no partition ${partition}: restart with its identity`);
    return followed;
  }
}
