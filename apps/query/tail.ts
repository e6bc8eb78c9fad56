/**
 * The unsaved tail of the whole log, by partition: what has been read, from where to where, and who waits for more. Drops
 * what a snapshot of the database has shown to be saved; begins a partition anew when its checkpoint has gone back. What
 * memory has no room for goes to disk.
 */
import type { Clock } from "#lib/clock.ts";
import type { FetchedRecords } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Disk } from "./disk/disk.ts";
import { withEarlier } from "./disk/earlier.ts";
import { DiskReads } from "./disk/reads.ts";
import { relieve } from "./disk/relieve.ts";
import { DiskUnreadable } from "./disk/volume.ts";
import type { Selection } from "./merge.ts";
import { type NewTailEvent, PartitionTail, type Pin } from "./partition-tail.ts";
import type { ClientOrder } from "./places.ts";
import { rangeOf } from "./scan.ts";
import { showTail } from "./tail-metrics.ts";
import { Waiters } from "./waiters.ts";

export interface TailParts {
  /** Memory for unsaved events; beyond it they go to disk, or reading stops until some are saved. */
  readonly bytesMax: number;
  /** Left out: none. */
  readonly disk?: Pick<Disk, "bytes" | "trouble" | "write">;
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
  /** Null while there is room left. */
  readonly fullSinceMs: number | null;
  /** Why memory is not relieved by the disk. */
  readonly trouble: string | null;
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
  readonly #diskReads: DiskReads;
  #fullSinceMs: number | null = null;
  #behindSinceMs: number | null;
  /** Told of clients with followers that have news. */
  onNews: (clientIds: ReadonlySet<string>) => void = () => undefined;
  /** Told of partitions that went on without reading everything: their followers must look elsewhere. */
  onSkipped: (partition: number) => void = () => undefined;

  constructor(parts: TailParts, starts: ReadonlyMap<number, TailStart>) {
    this.#parts = parts;
    this.#waiters = new Waiters(parts.clock);
    this.#diskReads = new DiskReads(parts.clock, parts.metrics);
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

  /** Lays the oldest records down on disk, until memory is not full or the disk takes no more. */
  async relieve(): Promise<void> {
    const { disk, clock, metrics } = this.#parts;
    const tails = [...this.#partitions.values()].map(({ tail }) => tail);
    while (disk !== undefined && this.full && (await relieve(tails, disk, clock)))
      metrics.queryTailSegmentsWritten.inc();
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

  /**
   * Pins a client for `use`, with all that its range needs: where that is on disk, when it is this read's turn.
   * @param untilMs on the clock's `elapsed`
   * @returns what `use` leads to; null, too, when the disk did not give what it holds: the partition is read again
   * @throws ProblemError overloaded
   */
  async pinned<T>(
    { partition, clientId, epoch }: ClientOrder,
    selection: Pick<Selection, "after" | "before">,
    untilMs: number,
    use: (pin: Pin) => Promise<T>,
  ): Promise<T | null> {
    const tail = this.partition(partition);
    const pin = tail.pin(clientId);
    const { from, to } = rangeOf(pin, epoch, selection);
    if (from >= pin.low || from >= to) return use({ ...pin, segments: [] });
    try {
      return await this.#diskReads.pinned(tail, clientId, untilMs, use);
    } catch (error) {
      if (!(error instanceof DiskUnreadable)) throw error;
      if (pin.segments.some((segment) => tail.segments.includes(segment))) this.#unreadable(partition, error);
      return null;
    }
  }

  /** Finds what precedes these events on disk. @returns null when that cannot be read: then the partition begins anew */
  async prepared(partition: number, events: readonly NewTailEvent[]): Promise<readonly NewTailEvent[] | null> {
    const { tail } = this.#followed(partition);
    if (tail.segments.length === 0) return events;
    try {
      return await withEarlier(tail, events);
    } catch (error) {
      if (!(error instanceof DiskUnreadable)) throw error;
      this.#unreadable(partition, error);
      return null;
    }
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
    const { disk, metrics, clock } = this.#parts;
    const all = [...this.#partitions.values()];
    if (all.every(({ tail, highWatermark }) => tail.next >= highWatermark)) this.#behindSinceMs = null;
    this.#fullSinceMs = this.full ? (this.#fullSinceMs ?? clock.now()) : null;
    showTail(this.#partitions, disk, metrics);
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
    const trouble = this.#parts.disk?.trouble ?? null;
    return { readRecords, ofRecords, fullSinceMs, trouble, behindSinceMs: this.#behindSinceMs };
  }

  #evict(followed: Followed, at: bigint): void {
    const nowMs = this.#parts.clock.elapsed();
    const { saved, tail } = followed;
    const due = saved === null || nowMs - saved.atMs >= GRACE_MS;
    if (saved !== null && due) tail.evict(at < saved.nextOffset ? at : saved.nextOffset);
    if (due) followed.saved = { nextOffset: at, atMs: nowMs };
    if (this.full) tail.evict(at);
  }

  #unreadable(partition: number, error: DiskUnreadable): void {
    const { tail } = this.#followed(partition);
    this.#parts.log.warn("unsaved tail unreadable on disk: read again", { partition, error: error.message });
    tail.restart(tail.start);
  }

  #followed(partition: number): Followed {
    const followed = this.#partitions.get(partition);
    if (followed === undefined) throw new Error(`the log has no partition ${partition}: restart with its identity`);
    return followed;
  }
}
