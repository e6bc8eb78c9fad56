/**
 * How much the log holds, how much of that is unsaved, and how old: from offsets, published checkpoints and sampled records,
 * so that a role without a database knows it too. Bytes are an estimate, since the broker tells its sizes to clients of
 * another kind only: records times the mean size of those sampled, uncompressed, each with the framing of one that travels alone.
 */
import type { Clock } from "#lib/clock.ts";
import type { Control, LogIdentity } from "#lib/control.ts";
import {
  type LogAdmin,
  LogError,
  type LogRecord,
  OffsetOutOfRange,
  type OffsetRange,
  type PartitionReader,
} from "#lib/kafka/ports.ts";
import type { Metrics } from "#lib/metrics.ts";

/** One partition of the log. */
export interface PartitionFill extends OffsetRange {
  /** As last published: an old one only makes more of the log look unsaved. */
  readonly nextOffset: bigint;
  /** Mean size of its records. */
  readonly recordBytes: number;
}

export interface LogFill {
  readonly partitions: ReadonlyMap<number, PartitionFill>;
  readonly retainedBytes: number;
  readonly unsavedBytes: number;
  /** Mean size of a record, wherever it may go. */
  readonly recordBytes: number;
  /** When the oldest unsaved record that is known was appended, ms since 1970; null: none is. */
  readonly oldestUnsavedMs: number | null;
  /** After which the broker deletes records by itself, saved or not; null: never. */
  readonly timeLimitMs: number | null;
}

export interface LogGaugeParts {
  readonly identity: LogIdentity;
  readonly control: Pick<Control, "checkpoint">;
  readonly admin: Pick<LogAdmin, "offsets" | "facts">;
  /** One for each round of samples: a reader does one fetch at a time. */
  readonly openReader: () => Promise<Pick<PartitionReader, "fetch" | "close">>;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** What was learnt of a partition by looking into it. */
interface Sampled {
  recordBytes: number;
  oldest: { readonly offset: bigint; readonly appendedMs: number } | null;
}

const SAMPLE_EVERY_MS = 30_000;
/** Of one round; with more partitions than that, they take turns. */
const SAMPLED_PARTITIONS_MAX = 16;
/**
 * Of one sample: a fixed number from anywhere, so that every record is as likely to be among them as any other. All that a
 * fetch brings would end where a large record no longer fits, and so leave out the large ones.
 */
const SAMPLE_RECORDS = 20;
const SAMPLE_BYTES = 256 * 1024;
const SAMPLE_WAIT_MS = 1_000;
/** One sample's part of the mean: of the last ten or so. */
const SAMPLE_WEIGHT = 0.2;
/** Until anything was sampled. */
const RECORD_BYTES_UNKNOWN = 512;
/** 61 bytes of a batch and 9 of a record: what one that travels alone costs. In a crowd it is less. */
const FRAMING_BYTES = 70;
/** A platform may set a limit at any time. */
const FACTS_EVERY_MS = 10 * 60_000;

/** Looks at the log as often as it is asked, and into it twice a minute. */
export class LogGauge {
  readonly #parts: LogGaugeParts;
  readonly #sampled = new Map<number, Sampled>();
  #turn = 0;
  #sampledAtMs = Number.NEGATIVE_INFINITY;
  #timeLimit: { readonly ms: number | null; readonly atMs: number } | null = null;

  constructor(parts: LogGaugeParts) {
    this.#parts = parts;
  }

  /** @throws LogError */
  async look(): Promise<LogFill> {
    const { admin, identity, metrics, clock } = this.#parts;
    const ranges = await admin.offsets(identity.topic);
    if (clock.elapsed() - this.#sampledAtMs >= SAMPLE_EVERY_MS) await this.#sample(ranges);
    const fill = this.#fill(ranges, await this.#limit());
    metrics.logRetainedBytes.set(fill.retainedBytes);
    metrics.logUnsavedBytes.set(fill.unsavedBytes);
    metrics.logLagMs.set(fill.oldestUnsavedMs === null ? 0 : Math.max(0, clock.now() - fill.oldestUnsavedMs));
    return fill;
  }

  #fill(ranges: ReadonlyMap<number, OffsetRange>, timeLimitMs: number | null): LogFill {
    const sizes = [...this.#sampled.values()].map(({ recordBytes }) => recordBytes);
    const usual = sizes.length > 0 ? sizes.reduce((sum, size) => sum + size, 0) / sizes.length : RECORD_BYTES_UNKNOWN;
    const partitions = new Map<number, PartitionFill>();
    let retainedBytes = 0;
    let unsavedBytes = 0;
    let oldestUnsavedMs: number | null = null;
    for (const [partition, range] of ranges) {
      const { recordBytes = usual, oldest = null } = this.#sampled.get(partition) ?? {};
      const nextOffset = this.#nextOffset(partition, range);
      partitions.set(partition, { ...range, nextOffset, recordBytes });
      retainedBytes += Number(range.high - range.low) * recordBytes;
      unsavedBytes += Number(range.high - nextOffset) * recordBytes;
      if (oldest !== null && oldest.offset >= nextOffset)
        oldestUnsavedMs = Math.min(oldestUnsavedMs ?? oldest.appendedMs, oldest.appendedMs);
    }
    return { partitions, retainedBytes, unsavedBytes, recordBytes: usual, oldestUnsavedMs, timeLimitMs };
  }

  #nextOffset(partition: number, { low, high }: OffsetRange): bigint {
    const published = this.#parts.control.checkpoint(this.#parts.identity.epoch, partition)?.nextOffset ?? low;
    if (published < low) return low;
    return published > high ? high : published;
  }

  async #sample(ranges: ReadonlyMap<number, OffsetRange>): Promise<void> {
    const all = [...ranges].filter(([, { low, high }]) => high > low);
    const count = Math.min(all.length, SAMPLED_PARTITIONS_MAX);
    if (count === 0) return;
    const reader = await this.#parts.openReader();
    try {
      for (let n = 0; n < count; n++) {
        const [partition, range] = all[(this.#turn + n) % all.length] as [number, OffsetRange];
        await this.#samplePartition(reader, partition, range);
      }
    } finally {
      await reader.close();
    }
    this.#turn += count;
    this.#sampledAtMs = this.#parts.clock.elapsed();
  }

  async #samplePartition(reader: Pick<PartitionReader, "fetch">, partition: number, range: OffsetRange): Promise<void> {
    const { clock } = this.#parts;
    const nextOffset = this.#nextOffset(partition, range);
    const anywhere = range.low + BigInt(Math.floor(clock.random() * Number(range.high - range.low)));
    const some = (await this.#read(reader, partition, anywhere, SAMPLE_BYTES)).slice(0, SAMPLE_RECORDS);
    const first = nextOffset < range.high ? (await this.#read(reader, partition, nextOffset, 1))[0] : undefined;
    const known = this.#sampled.get(partition);
    const size = some.length > 0 ? some.reduce((sum, one) => sum + recordBytes(one), 0) / some.length : null;
    if (size === null && known === undefined) return;
    const before = known?.recordBytes ?? size ?? RECORD_BYTES_UNKNOWN;
    this.#sampled.set(partition, {
      recordBytes: before + ((size ?? before) - before) * SAMPLE_WEIGHT,
      oldest: first ? { offset: first.offset, appendedMs: first.timestampMs } : null,
    });
  }

  /** None where the log was trimmed meanwhile: the next round will tell. */
  async #read(
    reader: Pick<PartitionReader, "fetch">,
    partition: number,
    offset: bigint,
    maxBytes: number,
  ): Promise<readonly LogRecord[]> {
    const { topic } = this.#parts.identity;
    const request = { topic, offsets: new Map([[partition, offset]]), maxWaitMs: SAMPLE_WAIT_MS, maxBytes };
    try {
      return (await reader.fetch(request))[0]?.records ?? [];
    } catch (error) {
      if (!(error instanceof OffsetOutOfRange)) throw error;
      return [];
    }
  }

  async #limit(): Promise<number | null> {
    const { admin, identity, clock } = this.#parts;
    if (this.#timeLimit === null || clock.elapsed() - this.#timeLimit.atMs >= FACTS_EVERY_MS) {
      const facts = await admin.facts(identity.topic);
      if (facts === undefined) throw new LogError("retriable", `there is no topic ${identity.topic}`);
      const ms = Number(facts.config["retention.ms"] ?? -1);
      this.#timeLimit = { ms: ms >= 0 ? ms : null, atMs: clock.elapsed() };
    }
    return this.#timeLimit.ms;
  }
}

const recordBytes = ({ key, value }: LogRecord): number => (key?.length ?? 0) + (value?.length ?? 0) + FRAMING_BYTES;
