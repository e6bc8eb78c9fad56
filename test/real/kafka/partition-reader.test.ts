import kafkajs from "kafkajs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BatchProducer, LogAdmin, PartitionReader } from "#lib/kafka/ports.ts";
import { OffsetOutOfRange, TopicMissing } from "#lib/kafka/ports.ts";
import { privateKafka, sharedBrokers } from "../../support/kafka.ts";
import { until } from "../../support/until.ts";
import { freshTopic, kafkaBehindProxy, openKafka, record, told } from "./given.ts";

const { CompressionCodecs, CompressionTypes } = kafkajs;
const POLL = { maxWaitMs: 5_000, maxBytes: 1_000_000 };

/** A producer that is not ours: it compresses, or has transactions. */
function foreignProducer(transactionalId?: string) {
  const client = new kafkajs.Kafka({
    brokers: sharedBrokers().split(","),
    clientId: "foreign",
    logLevel: kafkajs.logLevel.NOTHING,
  });
  return client.producer({
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    ...(transactionalId ? { transactionalId, idempotent: true, maxInFlightRequests: 1 } : {}),
  });
}

async function deleteTopic(topic: string): Promise<void> {
  const client = new kafkajs.Kafka({ brokers: sharedBrokers().split(","), logLevel: kafkajs.logLevel.NOTHING });
  const deleting = client.admin();
  await deleting.connect();
  await deleting.deleteTopics({ topics: [topic] });
  await deleting.disconnect();
}

describe("reading partitions, at a real broker", () => {
  let admin: LogAdmin;
  let producer: BatchProducer;
  let reader: PartitionReader;
  beforeAll(async () => {
    admin = await openKafka(sharedBrokers()).admin();
    producer = await openKafka(sharedBrokers()).producer();
    reader = await openKafka(sharedBrokers()).partitionReader();
  });
  afterAll(() => Promise.all([producer.close(), admin.close(), reader.close()]));

  it("goes on with other topics when one that it read was deleted", async () => {
    const [kept, deleted] = [await freshTopic(admin, 1), await freshTopic(admin, 1)];
    const own = await openKafka(sharedBrokers()).partitionReader();
    try {
      await own.highWatermarks(kept, [0]);
      await own.highWatermarks(deleted, [0]);
      await deleteTopic(deleted);
      await until("the topic is gone", () =>
        own.highWatermarks(deleted, [0]).then(
          () => false,
          (error) => error instanceof TopicMissing,
        ),
      );
      await until("the other one is read", () =>
        own.highWatermarks(kept, [0]).then(
          () => true,
          () => false,
        ),
      );
    } finally {
      await own.close();
    }
  });

  it("answers for every partition asked, news or none", async () => {
    const topic = await freshTopic(admin, 3);
    await producer.append(topic, [
      { partition: 0, records: [record("a"), record("b")] },
      { partition: 2, records: [record("c")] },
    ]);
    const offsets = new Map([
      [0, 1n],
      [1, 0n],
      [2, 0n],
    ]);
    const fetched = await reader.fetch({ topic, offsets, ...POLL });
    expect(fetched.map(({ partition }) => partition)).toEqual([0, 1, 2]);
    expect(fetched.map(({ records }) => told(records))).toEqual([["1:b"], [], ["0:c"]]);
    expect(fetched.map(({ nextOffset }) => nextOffset)).toEqual([2n, 0n, 1n]);
    expect(fetched.map(({ highWatermark }) => highWatermark)).toEqual([2n, 0n, 1n]);
    expect(fetched.map(({ logStart }) => logStart)).toEqual([0n, 0n, 0n]);
    expect(await reader.highWatermarks(topic, [0, 1, 2])).toEqual(
      new Map([
        [0, 2n],
        [1, 0n],
        [2, 1n],
      ]),
    );
  });

  it("tells where the log of each partition begins and ends, and nothing of a partition that there is not", async () => {
    const topic = await freshTopic(admin, 2);
    await producer.append(topic, [{ partition: 0, records: [record("a"), record("b"), record("c")] }]);
    await admin.deleteBelow(topic, new Map([[0, 2n]]));
    expect(await reader.leaderEnds(topic, [0, 1])).toEqual(
      new Map([
        [0, 3n],
        [1, 0n],
      ]),
    );
    expect(await reader.offsets(topic, [0, 1])).toEqual(
      new Map([
        [0, { low: 2n, high: 3n }],
        [1, { low: 0n, high: 0n }],
      ]),
    );
    await expect(reader.offsets(topic, [0, 2])).rejects.toMatchObject({ name: "LogError", kind: "retriable" });
    expect((await reader.offsets(topic, [0])).get(0)).toEqual({ low: 2n, high: 3n });
  });

  it("tells the broker's time of a record", async () => {
    const topic = await freshTopic(admin, 1, { "message.timestamp.type": "LogAppendTime" });
    const before = Date.now();
    await producer.append(topic, [{ partition: 0, records: [record("a")] }]);
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 0n]]), ...POLL });
    const time = fetched?.records[0]?.timestampMs ?? 0;
    expect(time).toBeGreaterThanOrEqual(before);
    expect(time).toBeLessThanOrEqual(Date.now());
  });

  it("asks for high watermarks while a long poll waits, and the poll ends with the first record", async () => {
    const topic = await freshTopic(admin, 2);
    let ended = false;
    const offsets = new Map([
      [0, 0n],
      [1, 0n],
    ]);
    const poll = reader.fetch({ topic, offsets, maxWaitMs: 60_000, maxBytes: 1_000 });
    void poll.then(() => {
      ended = true;
    });
    await reader.highWatermarks(topic, [0]);
    expect(ended).toBe(false);
    await producer.append(topic, [{ partition: 1, records: [record("a")] }]);
    expect((await poll).map(({ records }) => told(records))).toEqual([[], ["0:a"]]);
  });

  it("leaves out what lies below the offset asked for inside a compressed batch", async () => {
    const topic = await freshTopic(admin, 1);
    const foreign = foreignProducer();
    await foreign.connect();
    for (const compression of [CompressionTypes.ZSTD, CompressionTypes.GZIP]) {
      const messages = ["a", "b", "c"].map((value) => ({ value, partition: 0 }));
      await foreign.send({ topic, compression, messages });
    }
    await foreign.disconnect();
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 1n]]), ...POLL });
    expect(told(fetched?.records ?? [])).toEqual(["1:b", "2:c", "3:a", "4:b", "5:c"]);
    expect(fetched?.nextOffset).toBe(6n);
  });

  it("passes over aborted and control records, and goes on behind them", async () => {
    const topic = await freshTopic(admin, 1);
    const foreign = foreignProducer(topic);
    await foreign.connect();
    for (const end of ["abort", "commit"] as const) {
      const transaction = await foreign.transaction();
      await transaction.send({ topic, messages: [{ value: end, partition: 0 }] });
      await transaction[end]();
    }
    await foreign.disconnect();
    // Two data records and two control records.
    await until("the second marker is there", async () => (await reader.highWatermarks(topic, [0])).get(0) === 4n);
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 0n]]), ...POLL });
    expect(told(fetched?.records ?? [])).toEqual(["2:commit"]);
    expect(fetched?.nextOffset).toBe(4n);
    const [marker] = await reader.fetch({ topic, offsets: new Map([[0, 3n]]), ...POLL });
    expect(marker).toMatchObject({ records: [], nextOffset: 4n });
  });

  it("tells the log's true end while a transaction is open, and shows nothing of it until it has ended", async () => {
    const topic = await freshTopic(admin, 1);
    const foreign = foreignProducer(topic);
    await foreign.connect();
    const transaction = await foreign.transaction();
    await transaction.send({ topic, messages: [{ value: "open", partition: 0 }] });
    await producer.append(topic, [{ partition: 0, records: [record("behind it")] }]);
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 0n]]), maxWaitMs: 100, maxBytes: 1_000 });
    expect(fetched).toMatchObject({ records: [], nextOffset: 0n, highWatermark: 2n });
    expect(await reader.highWatermarks(topic, [0])).toEqual(new Map([[0, 2n]]));
    await transaction.abort();
    await foreign.disconnect();
    // Two data records and the marker.
    const offsets = new Map([[0, 0n]]);
    const all = await until("all is read", async () => {
      const [one] = await reader.fetch({ topic, offsets, ...POLL });
      return one?.nextOffset === 3n && one;
    });
    expect(told(all.records)).toEqual(["1:behind it"]);
  });

  it("names the range when an offset is below or above it", async () => {
    const topic = await freshTopic(admin, 1);
    await producer.append(topic, [{ partition: 0, records: [record("a"), record("b"), record("c")] }]);
    await admin.deleteBelow(topic, new Map([[0, 2n]]));
    for (const wanted of [1n, 4n]) {
      const fetch = reader.fetch({ topic, offsets: new Map([[0, wanted]]), ...POLL });
      await expect(fetch).rejects.toBeInstanceOf(OffsetOutOfRange);
      await expect(fetch).rejects.toMatchObject({ topic, partition: 0, wanted, range: { low: 2n, high: 3n } });
    }
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 2n]]), ...POLL });
    expect(fetched).toMatchObject({ nextOffset: 3n, logStart: 2n });
  });

  it("fails for a partition that there is not", async () => {
    const topic = await freshTopic(admin, 1);
    const retriable = { name: "LogError", kind: "retriable", message: expect.stringContaining("partition 1") };
    await expect(reader.highWatermarks(topic, [0, 1])).rejects.toMatchObject(retriable);
    const offsets = new Map([[1, 0n]]);
    await expect(reader.fetch({ topic, offsets, ...POLL })).rejects.toMatchObject(retriable);
  });

  it("says that it cannot read a codec, instead of passing over the batch", async () => {
    const topic = await freshTopic(admin, 1);
    const known = CompressionCodecs[CompressionTypes.Snappy];
    CompressionCodecs[CompressionTypes.Snappy] = () => ({
      compress: async ({ buffer }: { buffer: Buffer }) => snappy(buffer),
    });
    const foreign = foreignProducer();
    await foreign.connect();
    await foreign.send({ topic, compression: CompressionTypes.Snappy, messages: [{ value: "a", partition: 0 }] });
    await foreign.disconnect();
    CompressionCodecs[CompressionTypes.Snappy] = known;
    const fatal = { name: "LogError", kind: "fatal", message: expect.stringMatching(/Snappy.*compression\.type/) };
    await expect(reader.fetch({ topic, offsets: new Map([[0, 0n]]), ...POLL })).rejects.toMatchObject(fatal);
  });

  it("says that a batch is a bomb, instead of unpacking it", async () => {
    const topic = await freshTopic(admin, 1);
    const foreign = foreignProducer();
    await foreign.connect();
    const messages = Array.from({ length: 9 }, () => ({ value: Buffer.alloc(8 * 1024 * 1024), partition: 0 }));
    await foreign.send({ topic, compression: CompressionTypes.ZSTD, messages });
    await foreign.disconnect();
    const fatal = { name: "LogError", kind: "fatal", message: expect.stringContaining("67108864 bytes") };
    await expect(reader.fetch({ topic, offsets: new Map([[0, 0n]]), ...POLL })).rejects.toMatchObject(fatal);
  });
});

describe("reading partitions, when something breaks", () => {
  it("cuts a waiting long poll when it is closed", { timeout: 20_000 }, async () => {
    const kafka = openKafka(sharedBrokers());
    const admin = await kafka.admin();
    const topic = await freshTopic(admin, 1);
    const reader = await kafka.partitionReader();
    const offsets = new Map([[0, 0n]]);
    // Once connected, requests go out in the order of the calls: the poll is under way when the mark has come.
    await reader.fetch({ topic, offsets, maxWaitMs: 1, maxBytes: 1_000 });
    const poll = reader.fetch({ topic, offsets, maxWaitMs: 100_000, maxBytes: 1_000 });
    const failed = expect(poll).rejects.toMatchObject({ name: "LogError" });
    await reader.highWatermarks(topic, [0]);
    await reader.close();
    await failed;
    await expect(reader.highWatermarks(topic, [0])).rejects.toThrow("was closed");
    await admin.close();
  });

  it("goes on where it was when the broker comes back on its data", async () => {
    await using broker = await privateKafka();
    const kafka = openKafka(broker.brokers);
    const admin = await kafka.admin();
    const topic = await freshTopic(admin, 1);
    const producer = await kafka.producer();
    const reader = await kafka.partitionReader();
    await producer.append(topic, [{ partition: 0, records: [record("before")] }]);
    const poll = reader.fetch({ topic, offsets: new Map([[0, 1n]]), maxWaitMs: 100_000, maxBytes: 1_000 });
    const failed = expect(poll).rejects.toMatchObject({ name: "LogError", kind: "retriable" });
    await reader.highWatermarks(topic, [0]);
    await broker.kill();
    await failed;
    await expect(reader.highWatermarks(topic, [0])).rejects.toMatchObject({ name: "LogError", kind: "retriable" });
    await broker.start();
    await until("the mark can be had", async () => (await reader.highWatermarks(topic, [0])).get(0) === 1n);
    await until("an append succeeds", () => producer.append(topic, [{ partition: 0, records: [record("after")] }]));
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 0n]]), ...POLL });
    expect(told(fetched?.records ?? [])).toEqual(["0:before", "1:after"]);
    await Promise.all([reader.close(), producer.close(), admin.close()]);
  });

  it("leaves a connection that has fallen silent", { timeout: 60_000 }, async () => {
    await using kafka = await kafkaBehindProxy();
    const admin = await openKafka(kafka.brokers).admin();
    const topic = await freshTopic(admin, 1);
    await admin.close();
    const reader = await openKafka(kafka.brokers).partitionReader();
    await reader.highWatermarks(topic, [0]);
    kafka.proxy.mode = "swallowReplies";
    const before = kafka.proxy.counts.connections;
    await expect(reader.highWatermarks(topic, [0])).rejects.toMatchObject({ name: "LogError", kind: "retriable" });
    const next = reader.highWatermarks(topic, [0]).catch(() => undefined);
    await until("another connection was opened", () => kafka.proxy.counts.connections > before);
    kafka.proxy.mode = "pass";
    await next;
    await until("the mark can be had", async () => (await reader.highWatermarks(topic, [0])).get(0) === 0n);
    await reader.close();
  });
});

/** One literal, in the framing of Kafka's Java clients. */
function snappy(data: Buffer): Buffer {
  const length = data.length;
  const block = Buffer.concat([
    Buffer.from([(length & 0x7f) | 0x80, length >> 7, 61 << 2, (length - 1) & 0xff, (length - 1) >> 8]),
    data,
  ]);
  const header = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
  header.writeInt32BE(block.length, 16);
  return Buffer.concat([header, block]);
}
