/**
 * The four ports through which the rest of Spillway uses Apache Kafka. Only Buffer, bigint and plain objects cross them;
 * the adapters beside this file are the only code that knows the client library.
 */

/** A record to append. */
export interface NewRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

/** A record as the log holds it. Buffers are copies that the receiver may keep: they pin no larger fetch buffer. */
export interface LogRecord extends NewRecord {
  readonly offset: bigint;
  /** The broker's append time (LogAppendTime), in ms since 1970. */
  readonly timestampMs: number;
}

/** Records for one partition, in order. */
export interface PartitionRecords {
  readonly partition: number;
  readonly records: readonly NewRecord[];
}

/** What one fetch brought for one partition. */
export interface FetchedRecords {
  readonly partition: number;
  /** The offset asked for: all that the log has from there to `nextOffset` is in `records`. */
  readonly fromOffset: bigint;
  /** Data records only, ascending, none below the requested offset; control and aborted records are left out. */
  readonly records: readonly LogRecord[];
  /** Where to go on reading: one past the last offset covered, be it a record, a control record or a gap. */
  readonly nextOffset: bigint;
  /** One past the last record. Behind an open transaction it stays above `nextOffset` until that has ended. */
  readonly highWatermark: bigint;
  /** The first offset that the log still has; -1n when the answer did not tell. */
  readonly logStart: bigint;
}

/** First offset still in the log, and one past the last. */
export interface OffsetRange {
  readonly low: bigint;
  readonly high: bigint;
}

/**
 * Port 1. Appends with acks=all, idempotently. At most one `append` may be outstanding (a second one throws): a crowd
 * gathers into the next batch meanwhile.
 */
export interface BatchProducer {
  /**
   * Resolves to the base offset per partition once the broker has acknowledged every partition given. At most 2,000
   * records and 768 KiB (keys and values) a partition: more is an AssertionError.
   * @throws LogError `retriable` (surely not stored), `fatal` (will never be stored as it is) or `unknown` (may be stored).
   */
  append(topic: string, batches: readonly PartitionRecords[]): Promise<ReadonlyMap<number, bigint>>;
  close(): Promise<void>;
}

/** What a group reader tells its owner. Handlers must not throw for a reason outside the log. */
export interface GroupHandlers {
  /**
   * The partitions owned from now on: all of them, at each join, and again when the log may have been made anew meanwhile.
   * Nothing is delivered until the start offsets are known.
   * `signal` aborts when this assignment is superseded or the reader stops. A rejection stops the reader with that error.
   */
  onAssigned(partitions: readonly number[], signal: AbortSignal): Promise<ReadonlyMap<number, bigint>>;
  /** These partitions may belong to another member soon: start nothing new for them. Called before the next `onAssigned`. */
  onRevoked(partitions: readonly number[]): void;
  /** Hands records over. Must return at once; the owner bounds itself with `pause`. Never called for a paused partition. */
  onBatch(batch: FetchedRecords): void;
}

/** Port 2. A member of a consumer group whose truth about offsets is its owner's, not the broker's. */
export interface GroupReader {
  /** Runs until `signal` aborts (then leaves the group and resolves) or until it cannot go on (rejects). */
  run(handlers: GroupHandlers, signal: AbortSignal): Promise<void>;
  pause(partitions: readonly number[]): void;
  resume(partitions: readonly number[]): void;
  /** Deliver from `offset` next. Only for an owned partition; others are ignored. */
  seek(partition: number, offset: bigint): void;
  /** Best effort, for lag tools only. */
  commitHint(offsets: ReadonlyMap<number, bigint>): Promise<void>;
}

/** Port 3. Reads partitions without a group, and asks for high watermarks on a connection that a long poll never blocks. */
export interface PartitionReader {
  /**
   * One round: a long poll per leader, answered together as soon as any partition has something or `maxWaitMs` is over.
   * Partitions without news are in the answer too (no records, with their high watermark).
   * @throws OffsetOutOfRange when a wanted offset is below the log's start or above its end; LogError otherwise.
   */
  fetch(request: {
    readonly topic: string;
    readonly offsets: ReadonlyMap<number, bigint>;
    readonly maxWaitMs: number;
    readonly maxBytes: number;
  }): Promise<readonly FetchedRecords[]>;
  /**
   * One ListOffsets round without retries: the high watermark of every partition given, as their leaders know it now.
   * Not the last stable offset: behind a transaction that somebody has left open lie acknowledged records too, and who
   * went by less would not know that they are missing.
   * @throws LogError `retriable` when any of them cannot be had.
   */
  highWatermarks(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>>;
  /** First offset and end of every partition given, asked for likewise. @throws LogError as `highWatermarks` */
  offsets(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, OffsetRange>>;
  /**
   * One past the last record of each leader's own log, those among them that its replicas do not have yet: they lie at or
   * above the high watermark, and may be acknowledged at any moment. @throws LogError as `highWatermarks`
   */
  leaderEnds(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>>;
  close(): Promise<void>;
}

/** What a topic is to be. Values as Kafka's own configuration names. */
export interface TopicSpec {
  readonly topic: string;
  readonly partitions: number;
  readonly config: Readonly<Record<string, string>>;
}

/** What a topic is. */
export interface TopicFacts {
  readonly partitions: number;
  readonly replication: number;
  readonly config: Readonly<Record<string, string>>;
}

/** Port 4. */
export interface LogAdmin {
  /**
   * Creates the topic if it is missing (replication 3 with `min.insync.replicas` 2 where three brokers answer), tolerating
   * others who do the same, and tells what there is once every partition has a leader.
   */
  ensureTopic(spec: TopicSpec): Promise<TopicFacts>;
  /** What a topic is now; undefined when there is none. @throws LogError */
  facts(topic: string): Promise<TopicFacts | undefined>;
  /** By partition number. @throws LogError */
  offsets(topic: string): Promise<ReadonlyMap<number, OffsetRange>>;
  /** Changes these of a topic's settings, and leaves the others as they are. @throws LogError */
  configure(topic: string, changes: Readonly<Record<string, string>>): Promise<void>;
  /** Deletes records below the offsets given. */
  deleteBelow(topic: string, offsets: ReadonlyMap<number, bigint>): Promise<void>;
  close(): Promise<void>;
}

/** Whether a failed request may have changed the log. */
export type LogErrorKind = "retriable" | "fatal" | "unknown";

/** Kafka could not do what was asked. `kind` says whether something may have been stored. */
export class LogError extends Error {
  readonly kind: LogErrorKind;
  constructor(kind: LogErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "LogError";
    this.kind = kind;
  }
}

/** The brokers answer, and know no such topic or partition. A new one may not be known everywhere yet: `retriable`. */
export class TopicMissing extends LogError {
  constructor(message: string, options?: ErrorOptions) {
    super("retriable", message, options);
  }
}

/** A wanted offset is no longer, or not yet, in the log: never skipped silently. */
export class OffsetOutOfRange extends Error {
  readonly topic: string;
  readonly partition: number;
  readonly wanted: bigint;
  readonly range: OffsetRange;
  constructor(topic: string, partition: number, wanted: bigint, range: OffsetRange) {
    super(
      `${topic}/${partition}: offset ${wanted} is wanted, but the log holds ${range.low} to ${range.high}. ` +
        (wanted < range.low
          ? "Records were deleted before they were saved: restore the topic, or accept the loss by moving the checkpoint up."
          : "The topic was recreated or cut: restore it, or begin a new log: another SPILLWAY_TOPIC and another database."),
    );
    this.name = "OffsetOutOfRange";
    this.topic = topic;
    this.partition = partition;
    this.wanted = wanted;
    this.range = range;
  }
}
