/** Port 1 over kafkajs: one append at a time, acknowledged by name, and no producer outlives a failure. */
import assert from "node:assert/strict";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import { isRefused, toLogError } from "./errors.ts";
import { type BatchProducer, LogError, type LogErrorKind, type PartitionRecords } from "./ports.ts";
import type { Sender } from "./sender.ts";

/** kafkajs groups a partition's records in quadratic time: 1,000 take 1 ms, 20,000 block the loop for 1.7 s (measured). */
const RECORDS_MAX = 2_000;
/** Keys and values of one partition. With their framing they stay below the broker's usual limit of 1 MiB. */
const BYTES_MAX = 768 * 1024;
/** kafkajs counts a partition's records to 2^31 and then goes on wrongly; a new producer starts at 0. */
const SENDER_RECORDS_MAX = 1_000_000_000;

export interface BatchProducerOptions {
  /** A new producer, not yet connected. */
  readonly open: () => Sender;
  readonly clock: Clock;
  readonly log: Log;
  /** How long one append may take, connecting and retries included. */
  readonly giveUpMs: number;
}

/** Connects at once, so that a wrong address shows at the start. @throws LogError */
export async function createBatchProducer(options: BatchProducerOptions): Promise<BatchProducer> {
  const producer = new Appender(options);
  await producer.connect();
  return producer;
}

class Appender implements BatchProducer {
  readonly #options: BatchProducerOptions;
  #sender: Sender;
  /** Records sent by `#sender`. */
  #sent = 0;
  #busy = false;
  #closed = false;

  constructor(options: BatchProducerOptions) {
    this.#options = options;
    this.#sender = options.open();
  }

  async connect(): Promise<void> {
    await this.#exclusively("connecting the producer", [], (sender) => sender.connect());
  }

  async append(topic: string, batches: readonly PartitionRecords[]): Promise<ReadonlyMap<number, bigint>> {
    assertBounds(batches);
    if (this.#sent > SENDER_RECORDS_MAX) this.#replace();
    const offsets = await this.#exclusively(`appending to ${topic}`, batches, async (sender) => {
      await sender.connect();
      return deliver(sender, topic, batches);
    });
    for (const { records } of batches) this.#sent += records.length;
    return offsets;
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#busy) this.#sender.cut();
    else await this.#sender.close();
  }

  /** Runs `work` alone and within the deadline. Any failure becomes a LogError and costs the producer its place. */
  async #exclusively<T>(
    doing: string,
    batches: readonly PartitionRecords[],
    work: (sender: Sender) => Promise<T>,
  ): Promise<T> {
    assert(!this.#busy, "one append at a time: gather the next batch meanwhile");
    this.#requireOpen(doing);
    this.#busy = true;
    const sender = this.#sender;
    const before = sender.produceRequests;
    try {
      return await this.#withinDeadline(sender, () => work(sender));
    } catch (error) {
      // A rejected send has rolled the producer's sequence back: other records sent by it could be taken for a repetition.
      this.#replace();
      const failure = toLogError(doing, error, outcome(error, sender.produceRequests - before, batches.length));
      if (!this.#closed) this.#options.log.debug("producer was replaced", { error: failure });
      throw failure;
    } finally {
      this.#busy = false;
    }
  }

  #withinDeadline<T>(sender: Sender, work: () => Promise<T>): Promise<T> {
    const { clock, giveUpMs } = this.#options;
    return new Promise<T>((resolve, reject) => {
      const cancel = clock.after(giveUpMs, () => {
        sender.cut();
        reject(new Error(`no end after ${giveUpMs} ms`));
      });
      work().then(resolve, reject).finally(cancel);
    });
  }

  #requireOpen(doing: string): void {
    if (this.#closed) throw new LogError("retriable", `${doing}: the producer was closed`);
  }

  #replace(): void {
    this.#sender.cut();
    this.#sender = this.#options.open();
    this.#sent = 0;
  }
}

/** Sends until every partition is acknowledged by name, the missing ones again and unchanged before anything else. */
async function deliver(
  sender: Sender,
  topic: string,
  batches: readonly PartitionRecords[],
): Promise<Map<number, bigint>> {
  const offsets = new Map<number, bigint>();
  let missing = batches;
  while (missing.length > 0) {
    for (const { partition, errorCode, baseOffset } of await sender.send(topic, missing)) {
      if (errorCode === 0 && baseOffset !== undefined) offsets.set(partition, BigInt(baseOffset));
    }
    const still = missing.filter(({ partition }) => !offsets.has(partition));
    if (still.length === missing.length) {
      const names = still.map(({ partition }) => partition).join(", ");
      throw new Error(`no broker answered for partition ${names}; ${topic} may have fewer partitions`);
    }
    missing = still;
  }
  return offsets;
}

/** What is known of the log after a failure, from what went over the network during it. */
function outcome(error: unknown, produceRequests: number, partitions: number): LogErrorKind | undefined {
  if (produceRequests === 0) return undefined;
  // One request for one partition, refused: with more of either, another may have been stored.
  return produceRequests === 1 && partitions === 1 && isRefused(error) ? "fatal" : "unknown";
}

function assertBounds(batches: readonly PartitionRecords[]): void {
  assert(batches.length > 0, "an append needs records");
  assert(new Set(batches.map(({ partition }) => partition)).size === batches.length, "each partition once");
  for (const { partition, records } of batches) {
    assert(records.length > 0, `partition ${partition}: an append needs records`);
    assert(records.length <= RECORDS_MAX, `partition ${partition}: ${records.length} records exceed ${RECORDS_MAX}`);
    const bytes = records.reduce((sum, { key, value }) => sum + (key?.length ?? 0) + (value?.length ?? 0), 0);
    assert(bytes <= BYTES_MAX, `partition ${partition}: ${bytes} bytes exceed ${BYTES_MAX}`);
  }
}
