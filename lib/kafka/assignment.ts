/** The partitions of one join: from start offsets over delivery in order to revocation. */
import type { Consumer } from "kafkajs";
import type { Clock } from "#lib/clock.ts";
import { copyRecords } from "./copy.ts";
import type { RawBatch } from "./internals.ts";
import { type Leaders, outOfRange } from "./leaders.ts";
import { type GroupHandlers, LogError } from "./ports.ts";

/** Between attempts to learn the log's range, for as long as the assignment lasts. */
const RANGE_RETRY_MS = 250;

export interface AssignmentOptions {
  readonly topic: string;
  readonly partitions: readonly number[];
  readonly consumer: Consumer;
  readonly leaders: Leaders;
  readonly handlers: GroupHandlers;
  readonly clock: Clock;
  readonly onFailure: (error: unknown) => void;
  /** kafkajs came with something else than what is next: the owner must look again where to start. */
  readonly onDoubt: () => void;
}

export class Assignment {
  readonly #options: AssignmentOptions;
  readonly #ended = new AbortController();
  /**
   * What each partition is to deliver next, once its start is known. kafkajs can come with something else: after a reset it
   * makes by itself, or with the answer to a fetch that an earlier leader got. Such a batch is dropped, and the owner is
   * asked anew: a topic that was deleted and made anew shows itself by nothing else, once it has grown as far again.
   */
  readonly #next = new Map<number, bigint>();
  /** By the owner; forgotten at each join, unlike kafkajs' own. */
  readonly #paused = new Set<number>();
  #open = false;

  /** Pauses everything before it returns: kafkajs would start at the group's offsets otherwise. */
  constructor(options: AssignmentOptions) {
    this.#options = options;
    this.#tell(() => options.consumer.pause(this.#named(options.partitions)));
  }

  /** Asks the owner for start offsets. Delivery begins when they are known and in range. */
  begin(): void {
    this.#begin().catch((error: unknown) => this.#fail(error));
  }

  /** It is the owner's turn to stop: these partitions may be another member's soon. */
  end(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    try {
      this.#options.handlers.onRevoked(this.#options.partitions);
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  owns(partition: number): boolean {
    return this.#next.has(partition);
  }

  pause(partitions: readonly number[]): void {
    const owned = partitions.filter((partition) => this.#options.partitions.includes(partition));
    for (const partition of owned) this.#paused.add(partition);
    this.#tell(() => this.#options.consumer.pause(this.#named(owned)));
  }

  resume(partitions: readonly number[]): void {
    const owned = partitions.filter((partition) => this.#paused.delete(partition));
    if (this.#open) this.#tell(() => this.#options.consumer.resume(this.#named(owned)));
  }

  seek(partition: number, offset: bigint): void {
    if (!this.#next.has(partition)) return;
    this.#next.set(partition, offset);
    if (this.#open) this.#seekAndCheck(partition, offset);
  }

  /** Hands one batch to the owner and moves on, unless it is not what comes next. */
  deliver(batch: RawBatch, resolveOffset: (offset: string) => void): void {
    const { partition } = batch;
    const next = this.#next.get(partition);
    if (!this.#open || next === undefined || this.#ended.signal.aborted || this.#paused.has(partition)) return;
    if (BigInt(batch.fetchedOffset) !== next) {
      this.#options.onDoubt();
      return;
    }
    const nextOffset = BigInt(batch.lastOffset()) + 1n;
    this.#next.set(partition, nextOffset);
    resolveOffset(batch.lastOffset());
    try {
      this.#options.handlers.onBatch({
        partition,
        fromOffset: next,
        records: copyRecords(batch.messages),
        nextOffset,
        highWatermark: BigInt(batch.highWatermark),
        logStart: -1n,
      });
    } catch (error) {
      this.#fail(error);
    }
  }

  async #begin(): Promise<void> {
    const { signal } = this.#ended;
    const { handlers, partitions, consumer } = this.#options;
    const starts = await handlers.onAssigned(partitions, signal);
    if (signal.aborted) return;
    for (const partition of partitions) {
      const start = starts.get(partition);
      if (start === undefined) throw new Error(`onAssigned named no start offset for partition ${partition}`);
      this.#next.set(partition, start);
    }
    if (!(await this.#requireInRange(starts))) return;
    this.#open = true;
    for (const [partition, offset] of this.#next) this.#tell(() => this.#seek(partition, offset));
    const wanted = partitions.filter((partition) => !this.#paused.has(partition));
    this.#tell(() => consumer.resume(this.#named(wanted)));
  }

  #seekAndCheck(partition: number, offset: bigint): void {
    this.#tell(() => this.#seek(partition, offset));
    this.#requireInRange(new Map([[partition, offset]])).catch((error: unknown) => this.#fail(error));
  }

  /** @throws OffsetOutOfRange: kafkajs would go on at the log's start without a word. False: it ended meanwhile. */
  async #requireInRange(wanted: ReadonlyMap<number, bigint>): Promise<boolean> {
    const { topic, leaders, clock } = this.#options;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      try {
        const ranges = await leaders.ranges(topic, [...wanted.keys()]);
        const error = outOfRange(topic, wanted, ranges);
        if (error) throw error;
        return !signal.aborted;
      } catch (error) {
        if (!(error instanceof LogError) || error.kind === "fatal") throw error;
      }
      await clock.sleep(RANGE_RETRY_MS, signal);
    }
    return false;
  }

  #seek(partition: number, offset: bigint): void {
    this.#options.consumer.seek({ topic: this.#options.topic, partition, offset: offset.toString() });
  }

  #named(partitions: readonly number[]): { topic: string; partitions: number[] }[] {
    return [{ topic: this.#options.topic, partitions: [...partitions] }];
  }

  /** A consumer that has just crashed refuses these; its crash is reported elsewhere. */
  #tell(order: () => void): void {
    try {
      order();
    } catch {
      // Nothing is left to be told.
    }
  }

  /** A failure of what was revoked meanwhile is nobody's any more. */
  #fail(error: unknown): void {
    if (!this.#ended.signal.aborted) this.#options.onFailure(error);
  }
}
