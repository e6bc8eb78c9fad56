import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isRecordRefused } from "#lib/kafka/errors.ts";
import { type LogAdmin, OffsetOutOfRange } from "#lib/kafka/ports.ts";
import { CLOSED_TOPIC_CONFIG, isClosed } from "#schemas/topics.ts";
import { sharedBrokers, uniqueTopic } from "../../support/kafka.ts";
import { until } from "../../support/until.ts";
import { freshTopic, kafkaBehindProxy, openKafka, record } from "./given.ts";

describe("the log's administration, at a real broker", () => {
  let admin: LogAdmin;
  beforeAll(async () => {
    admin = await openKafka(sharedBrokers()).admin();
  });
  afterAll(() => admin.close());

  it("creates a topic as it is to be, whoever else does the same", async () => {
    const other = await openKafka(sharedBrokers()).admin();
    const spec = {
      topic: uniqueTopic(),
      partitions: 4,
      config: { "retention.ms": "-1", "message.timestamp.type": "LogAppendTime" },
    };
    const [one, two] = await Promise.all([admin.ensureTopic(spec), other.ensureTopic(spec)]);
    expect(one).toEqual(two);
    expect(one).toMatchObject({ partitions: 4, replication: 1 });
    expect(one.config).toMatchObject({ ...spec.config, "min.insync.replicas": "1", "cleanup.policy": "delete" });
    await other.close();
  });

  it("leaves a topic alone that is otherwise, and says so", async () => {
    const topic = await freshTopic(admin, 2, { "retention.ms": "86400000" });
    const facts = await admin.ensureTopic({ topic, partitions: 5, config: { "retention.ms": "-1" } });
    expect(facts.partitions).toBe(2);
    expect(facts.config["retention.ms"]).toBe("86400000");
  });

  it("closes a topic to every append, and leaves its other settings as they are", async () => {
    const topic = await freshTopic(admin, 2, { "retention.ms": "-1", "segment.bytes": "16777216" });
    const producer = await openKafka(sharedBrokers()).producer();
    const append = (partition: number) => producer.append(topic, [{ partition, records: [record("a")] }]);
    await append(0);
    await admin.configure(topic, CLOSED_TOPIC_CONFIG);
    for (const partition of [0, 1])
      await until(`partition ${partition} refuses`, () => append(partition).then(() => false, isRecordRefused));
    await producer.close();
    const { config = {} } = (await admin.facts(topic)) ?? {};
    expect(config).toMatchObject({ "retention.ms": "-1", "segment.bytes": "16777216", ...CLOSED_TOPIC_CONFIG });
    expect(isClosed(config)).toBe(true);
  });

  it("does not wait for what no wait can mend", async () => {
    const spec = { topic: "no/topic", partitions: 1, config: {} };
    await expect(admin.ensureTopic(spec)).rejects.toMatchObject({ name: "LogError", kind: "fatal" });
    const odd = { topic: uniqueTopic(), partitions: 1, config: { "retention.ms": "for ever" } };
    await expect(admin.ensureTopic(odd)).rejects.toMatchObject({ name: "LogError", kind: "fatal" });
  });

  it("deletes below the offsets given and nothing else", async () => {
    const topic = await freshTopic(admin, 2);
    const producer = await openKafka(sharedBrokers()).producer();
    for (const partition of [0, 1]) {
      await producer.append(topic, [{ partition, records: [record("a"), record("b"), record("c")] }]);
    }
    await producer.close();
    // Another client, as after a restart: it has not loaded the topic's metadata.
    const fresh = await openKafka(sharedBrokers()).admin();
    await fresh.deleteBelow(topic, new Map([[1, 2n]]));
    expect(await fresh.offsets(topic)).toEqual(
      new Map([
        [0, { low: 0n, high: 3n }],
        [1, { low: 2n, high: 3n }],
      ]),
    );
    await fresh.deleteBelow(topic, new Map([[1, 1n]]));
    expect((await fresh.offsets(topic)).get(1)).toEqual({ low: 2n, high: 3n });
    await fresh.close();
  });

  it("never deletes everything by -1, nor beyond the end", async () => {
    const topic = await freshTopic(admin, 1);
    await expect(admin.deleteBelow(topic, new Map([[0, -1n]]))).rejects.toThrow("-1 would delete everything");
    await expect(admin.deleteBelow(topic, new Map([[0, 1n]]))).rejects.toBeInstanceOf(OffsetOutOfRange);
  });

  it("says retriable when no broker answers", async () => {
    await expect(openKafka("127.0.0.1:1").admin()).rejects.toMatchObject({ name: "LogError", kind: "retriable" });
  });

  it("says retriable when the connection breaks in the middle of a question", async () => {
    await using kafka = await kafkaBehindProxy();
    const through = await openKafka(kafka.brokers).admin();
    try {
      const topic = await freshTopic(through, 1);
      await through.facts(topic);
      kafka.proxy.delayMs = 100;
      const before = kafka.proxy.counts.replyBytes;
      const asked = through.facts(topic).catch((error: unknown) => error);
      await until("the first answer", () => kafka.proxy.counts.replyBytes > before);
      // The next question is on its way. What the library makes of its loss is a TypeError: it looks for topics in nothing.
      kafka.proxy.mode = "refuse";
      expect(await asked).toMatchObject({ name: "LogError", kind: "retriable", cause: { name: "TypeError" } });
      kafka.proxy.delayMs = 0;
      kafka.proxy.mode = "pass";
      await until("the facts", () => through.facts(topic));
    } finally {
      await through.close();
    }
  });
});
