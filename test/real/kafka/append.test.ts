import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BatchProducer, LogAdmin } from "#lib/kafka/ports.ts";
import { sharedBrokers } from "../../support/kafka.ts";
import { until } from "../../support/until.ts";
import { freshTopic, kafkaBehindProxy, openKafka, record, told } from "./given.ts";

describe("append, at a real broker", () => {
  let admin: LogAdmin;
  let producer: BatchProducer;
  beforeAll(async () => {
    admin = await openKafka(sharedBrokers()).admin();
    producer = await openKafka(sharedBrokers()).producer();
  });
  afterAll(async () => {
    await producer.close();
    await admin.close();
  });

  it("names the offset at which each partition's records lie", async () => {
    const topic = await freshTopic(admin, 3);
    const first = await producer.append(topic, [{ partition: 1, records: [record("a")] }]);
    expect(first).toEqual(new Map([[1, 0n]]));
    const second = await producer.append(topic, [
      { partition: 2, records: [record("b")] },
      { partition: 1, records: [record("c"), record("d")] },
    ]);
    expect(second).toEqual(
      new Map([
        [1, 1n],
        [2, 0n],
      ]),
    );
    expect((await admin.offsets(topic)).get(0)?.high).toBe(0n);
    expect((await admin.offsets(topic)).get(1)?.high).toBe(3n);
  });

  it("keeps null keys and values as they are", async () => {
    const topic = await freshTopic(admin, 1);
    await producer.append(topic, [{ partition: 0, records: [{ key: null, value: null }] }]);
    const reader = await openKafka(sharedBrokers()).partitionReader();
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 0n]]), maxWaitMs: 1_000, maxBytes: 1_000 });
    await reader.close();
    expect(fetched?.records).toMatchObject([{ key: null, value: null, offset: 0n }]);
  });

  it("refuses a second append while one is outstanding", async () => {
    const topic = await freshTopic(admin, 1);
    const batches = [{ partition: 0, records: [record("a")] }];
    const first = producer.append(topic, batches);
    await expect(producer.append(topic, batches)).rejects.toThrow("one append at a time");
    await first;
    expect((await admin.offsets(topic)).get(0)?.high).toBe(1n);
  });

  it("takes 2,000 records and 768 KiB a partition, and no more", async () => {
    const topic = await freshTopic(admin, 2);
    const fits = { key: null, value: Buffer.alloc((768 * 1024) / 2_000) };
    const full = { partition: 0, records: Array.from({ length: 2_000 }, () => fits) };
    await producer.append(topic, [full, { partition: 1, records: [{ key: null, value: Buffer.alloc(768 * 1024) }] }]);
    expect((await admin.offsets(topic)).get(0)?.high).toBe(2_000n);
    const tooMany = { partition: 0, records: [...full.records, { key: null, value: null }] };
    await expect(producer.append(topic, [tooMany])).rejects.toThrow("2001 records");
    const tooLarge = { partition: 0, records: [{ key: Buffer.alloc(1), value: Buffer.alloc(768 * 1024) }] };
    await expect(producer.append(topic, [tooLarge])).rejects.toThrow("786433 bytes");
  });

  it("says fatal when the broker refuses the only partition, and goes on", async () => {
    const topic = await freshTopic(admin, 2, { "max.message.bytes": "1000" });
    const large = { partition: 0, records: [{ key: null, value: Buffer.alloc(2_000) }] };
    await expect(producer.append(topic, [large])).rejects.toMatchObject({ name: "LogError", kind: "fatal" });
    const offsets = await producer.append(topic, [{ partition: 0, records: [record("small")] }]);
    expect(offsets).toEqual(new Map([[0, 0n]]));
  });

  it("says unknown when the broker refuses one of two partitions: the other is stored", async () => {
    const topic = await freshTopic(admin, 2, { "max.message.bytes": "1000" });
    const batches = [
      { partition: 0, records: [record("small")] },
      { partition: 1, records: [{ key: null, value: Buffer.alloc(2_000) }] },
    ];
    await expect(producer.append(topic, batches)).rejects.toMatchObject({ name: "LogError", kind: "unknown" });
    expect((await admin.offsets(topic)).get(0)?.high).toBe(1n);
  });

  it("says retriable for a partition that there is not: nothing was sent", async () => {
    const topic = await freshTopic(admin, 1);
    const append = producer.append(topic, [{ partition: 7, records: [record("a")] }]);
    await expect(append).rejects.toMatchObject({ kind: "retriable", message: expect.stringContaining("partition 7") });
  });
});

describe("append, when the network breaks", () => {
  it("stores one copy when the reply is lost", async () => {
    await using kafka = await kafkaBehindProxy();
    const admin = await openKafka(kafka.brokers).admin();
    const topic = await freshTopic(admin, 1);
    const producer = await openKafka(kafka.brokers).producer();
    await producer.append(topic, [{ partition: 0, records: [record("before")] }]);

    kafka.proxy.mode = "swallowReplies";
    const append = producer.append(topic, [{ partition: 0, records: [record("once"), record("twice")] }]);
    await until("the records are stored", async () => (await kafka.end(topic)) === 3n);
    kafka.proxy.cut();
    kafka.proxy.mode = "pass";

    expect(await append).toEqual(new Map([[0, 1n]]));
    await producer.append(topic, [{ partition: 0, records: [record("next")] }]);
    const reader = await openKafka(kafka.brokers).partitionReader();
    const [fetched] = await reader.fetch({ topic, offsets: new Map([[0, 0n]]), maxWaitMs: 1_000, maxBytes: 10_000 });
    expect(told(fetched?.records ?? [])).toEqual(["0:before", "1:once", "2:twice", "3:next"]);
    await Promise.all([reader.close(), producer.close(), admin.close()]);
  });

  it("gives up as unknown when no reply comes, sends nothing afterwards, and goes on with a new producer", async () => {
    await using kafka = await kafkaBehindProxy();
    const admin = await openKafka(kafka.brokers).admin();
    const topic = await freshTopic(admin, 1);
    const producer = await openKafka(kafka.brokers).producer(1_500);
    await producer.append(topic, [{ partition: 0, records: [record("a")] }]);

    kafka.proxy.mode = "swallow";
    const lost = producer.append(topic, [{ partition: 0, records: [record("lost")] }]);
    await expect(lost).rejects.toMatchObject({ name: "LogError", kind: "unknown" });
    kafka.proxy.mode = "pass";
    const offsets = await producer.append(topic, [{ partition: 0, records: [record("b")] }]);

    expect(offsets).toEqual(new Map([[0, 1n]]));
    expect(await kafka.end(topic)).toBe(2n);
    await Promise.all([producer.close(), admin.close()]);
  });

  it("says retriable when no broker could be reached: surely nothing is stored", async () => {
    await using kafka = await kafkaBehindProxy();
    const admin = await openKafka(kafka.brokers).admin();
    const topic = await freshTopic(admin, 1);
    const producer = await openKafka(kafka.brokers).producer(1_500);

    kafka.proxy.mode = "refuse";
    const batches = [{ partition: 0, records: [record("a")] }];
    // Written to a connection whose end has not been noticed yet: that may have arrived, for all the producer knows.
    await expect(producer.append(topic, batches)).rejects.toMatchObject({ name: "LogError" });
    await expect(producer.append(topic, batches)).rejects.toMatchObject({ name: "LogError", kind: "retriable" });
    await expect(openKafka(kafka.brokers).producer(1_500)).rejects.toMatchObject({ kind: "retriable" });
    kafka.proxy.mode = "pass";

    expect(await producer.append(topic, batches)).toEqual(new Map([[0, 0n]]));
    await Promise.all([producer.close(), admin.close()]);
  });

  it("ends an outstanding append when it is closed", async () => {
    await using kafka = await kafkaBehindProxy();
    const admin = await openKafka(kafka.brokers).admin();
    const topic = await freshTopic(admin, 1);
    const producer = await openKafka(kafka.brokers).producer();
    kafka.proxy.mode = "swallow";
    const before = kafka.proxy.counts.requestBytes;
    const append = producer.append(topic, [{ partition: 0, records: [record("a")] }]);
    const failed = expect(append).rejects.toMatchObject({ name: "LogError" });
    expect(kafka.proxy.counts.requestBytes).toBe(before);
    await producer.close();
    await failed;
    await expect(producer.append(topic, [{ partition: 0, records: [record("b")] }])).rejects.toThrow("was closed");
    await admin.close();
  });
});
