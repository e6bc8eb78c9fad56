/**
 * Continuity: a log is proved to be the one that was saved and read before. A topic that was deleted and made anew has the
 * same name and soon the same offsets; going on with it would hide what lies below them without a word.
 */
import { createHash } from "node:crypto";
import {
  LogError,
  type LogRecord,
  OffsetOutOfRange,
  type OffsetRange,
  type PartitionReader,
} from "#lib/kafka/ports.ts";

/** A record that was met: where, and its hash. */
export interface Met {
  readonly offset: bigint;
  readonly hash: Buffer;
}

/** How far one partition was saved or read, and the last record below that, if there ever was one. */
export interface Checkpoint {
  readonly nextOffset: bigint;
  readonly last: Met | null;
}

/** Where the proof is to be found. */
export interface ProvedLog {
  readonly topic: string;
  /** One for each proof: a reader does one fetch at a time, and a new one learns the leaders first. */
  readonly openReader: () => Promise<PartitionReader>;
}

/** The log does not hold what the checkpoint covers: it is another log. */
class ContinuityBroken extends Error {
  constructor(topic: string, partition: number, offset: bigint) {
    super(
      `${topic}/${partition}: the record at offset ${offset} is not the one that was saved or read there before. The topic was ` +
        "recreated, or DATABASE_URL belongs to another log. What is saved stays as it is. Point this role at the right topic " +
        "and database, restore the topic with its offsets, or begin a new log: another SPILLWAY_TOPIC and another database.",
    );
    this.name = "ContinuityBroken";
  }
}

/** The checkpoints of a log are gone that has succeeded another one: the database is as it was before. */
export class NotBegun extends Error {
  constructor(topic: string, partitions: readonly number[]) {
    super(
      `${topic}: partitions ${partitions.join(", ")} have no checkpoint any more, so the database went back to before this log ` +
        "was adopted. What the log before it holds is saved first.",
    );
    this.name = "NotBegun";
  }
}

/** No wait can mend these: going on would lose records without a word. */
export const isBroken = (error: unknown): boolean =>
  error instanceof OffsetOutOfRange || error instanceof ContinuityBroken || error instanceof NotBegun;

const FETCH_BYTES_MAX = 2 * 1024 * 1024;
const FETCH_WAIT_MS = 5_000;

/**
 * The log must hold what follows each checkpoint, and the last record that it covers, unless that was trimmed.
 * @throws OffsetOutOfRange, ContinuityBroken; LogError when the log does not answer
 */
export async function prove(
  { topic, openReader }: ProvedLog,
  checkpoints: ReadonlyMap<number, Checkpoint>,
): Promise<void> {
  if (checkpoints.size === 0) return;
  const reader = await openReader();
  try {
    const ranges = await reader.offsets(topic, [...checkpoints.keys()]);
    for (const [partition, { nextOffset, last }] of checkpoints) {
      const range = ranges.get(partition) as OffsetRange;
      if (nextOffset < range.low || nextOffset > range.high)
        throw new OffsetOutOfRange(topic, partition, nextOffset, range);
      if (last !== null && last.offset >= range.low) await requireSame(reader, topic, partition, last);
    }
  } finally {
    await reader.close();
  }
}

async function requireSame(reader: PartitionReader, topic: string, partition: number, last: Met): Promise<void> {
  const offsets = new Map([[partition, last.offset]]);
  const request = { topic, offsets, maxWaitMs: FETCH_WAIT_MS, maxBytes: FETCH_BYTES_MAX };
  const [fetched] = await reader.fetch(request).catch((error: unknown) => {
    if (!(error instanceof OffsetOutOfRange)) throw error;
    throw new LogError("retriable", "the log was trimmed meanwhile", { cause: error });
  });
  if (fetched === undefined || fetched.nextOffset <= last.offset)
    throw new LogError("retriable", `${topic}/${partition}: nothing was read at offset ${last.offset}`);
  const [record] = fetched.records;
  if (record?.offset !== last.offset || !recordHash(record).equals(last.hash))
    throw new ContinuityBroken(topic, partition, last.offset);
}

/** Of a record as the log holds it. */
export function recordHash(record: LogRecord): Buffer {
  const hash = createHash("sha256");
  hash.update(`${record.key?.length ?? -1}/${record.value?.length ?? -1}/`);
  if (record.key) hash.update(record.key);
  if (record.value) hash.update(record.value);
  return hash.digest();
}
