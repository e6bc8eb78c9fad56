/** A topic of the test's own on a real broker, opened as roles open it, for records that no ingest would write. */
import { systemClock } from "#lib/clock.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import type { BatchProducer, LogAdmin, LogRecord, NewRecord, PartitionReader } from "#lib/kafka/ports.ts";
import { type OpenedLog, openLog, publishWriterSchema } from "#lib/topics.ts";
import { sharedBrokers, uniqueTopic } from "./kafka.ts";
import { contactWith, silentLog } from "./records.ts";

export interface TestLog extends AsyncDisposable {
  readonly topic: string;
  readonly controlTopic: string;
  /** What a role needs to know of it. */
  readonly env: Readonly<Record<string, string>>;
  readonly admin: LogAdmin;
  readonly producer: BatchProducer;
  readonly reader: PartitionReader;
  /** As a role does. Each has a view of the control topic of its own, but they share the reader: one after the other. */
  open(partitions?: number): Promise<OpenedLog>;
  /** @returns the first record's offset */
  append(partition: number, records: readonly NewRecord[]): Promise<bigint>;
  read(partition: number, from: bigint): Promise<readonly LogRecord[]>;
}

/** Ports of its own to the shared broker; the topics are made by the first `open`. */
export async function connectTestLog(topic: string = uniqueTopic()): Promise<TestLog> {
  const kafka = connectKafka({ brokers: [sharedBrokers()], clientId: "test", log: silentLog, clock: systemClock });
  const [admin, producer, reader] = await Promise.all([kafka.admin(), kafka.producer(), kafka.partitionReader()]);
  const controlTopic = `${topic}.control`;
  return {
    topic,
    controlTopic,
    env: { KAFKA_BROKERS: sharedBrokers(), SPILLWAY_TOPIC: topic },
    admin,
    producer,
    reader,
    open: (partitions = 2) =>
      openLog({
        topic,
        controlTopic,
        partitions,
        admin,
        reader,
        producer,
        log: silentLog,
        clock: systemClock,
        contact: contactWith(),
      }),
    append: async (partition, records) =>
      (await producer.append(topic, [{ partition, records }])).get(partition) ?? -1n,
    read: async (partition, from) => {
      const request = { topic, offsets: new Map([[partition, from]]), maxWaitMs: 1_000, maxBytes: 1 << 20 };
      return (await reader.fetch(request))[0]?.records ?? [];
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([admin.close(), producer.close(), reader.close()]);
    },
  };
}

/** With topics, and this build's schema published. */
export async function freshLog(partitions = 2): Promise<TestLog & { readonly opened: OpenedLog }> {
  const log = await connectTestLog();
  const opened = await log.open(partitions);
  await publishWriterSchema(opened);
  return { ...log, opened };
}
