import kafkajs from "kafkajs";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Kafka } from "#lib/kafka/client.ts";
import {
  type BatchProducer,
  type FetchedRecords,
  type GroupHandlers,
  type GroupReader,
  type LogAdmin,
  OffsetOutOfRange,
} from "#lib/kafka/ports.ts";
import { privateKafka, sharedBrokers } from "../../support/kafka.ts";
import { until } from "../../support/until.ts";
import { freshTopic, kafkaBehindProxy, openKafka, record, told } from "./given.ts";

const SESSION_TIMEOUT_MS = 6_000;

interface Running {
  readonly reader: GroupReader;
  /** In the order of events: `assigned 0,1`, `revoked 0,1`, `aborted 0,1`, `0 2:value 3:value`. */
  readonly events: string[];
  readonly batches: FetchedRecords[];
  /** Values delivered of a partition, since the last assignment. */
  values(partition: number): string[];
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

const running = new Set<Running>();

/** Runs a member whose partitions start where it last left off, or at `from`. */
function start(
  kafka: Kafka,
  topic: string,
  from = 0n,
  handlers: Partial<GroupHandlers> = {},
  sessionTimeoutMs = SESSION_TIMEOUT_MS,
): Running {
  const reader = kafka.groupReader({ topic, groupId: `${topic}.group`, sessionTimeoutMs });
  const events: string[] = [];
  const batches: FetchedRecords[] = [];
  const saved = new Map<number, bigint>();
  const stop = new AbortController();
  const ended = reader.run(
    {
      onAssigned: async (partitions, signal) => {
        events.push(`assigned ${partitions}`);
        signal.addEventListener("abort", () => events.push(`aborted ${partitions}`));
        return new Map(partitions.map((partition) => [partition, saved.get(partition) ?? from]));
      },
      onRevoked: (partitions) => void events.push(`revoked ${partitions}`),
      onBatch: (batch) => {
        events.push([batch.partition, ...told(batch.records)].join(" "));
        batches.push(batch);
        saved.set(batch.partition, batch.nextOffset);
      },
      ...handlers,
    },
    stop.signal,
  );
  const it: Running = {
    reader,
    events,
    batches,
    values: (partition) =>
      told(batches.filter((batch) => batch.partition === partition).flatMap((b) => [...b.records])),
    ended,
    stop: async () => {
      stop.abort();
      running.delete(it);
      await ended;
    },
  };
  ended.catch(() => running.delete(it));
  running.add(it);
  return it;
}

describe("a group reader, at a real broker", () => {
  const kafka = openKafka(sharedBrokers());
  let admin: LogAdmin;
  let producer: BatchProducer;
  beforeAll(async () => {
    admin = await kafka.admin();
    producer = await kafka.producer();
  });
  afterEach(async () => {
    for (const each of running) await each.stop();
  });
  afterAll(() => Promise.all([producer.close(), admin.close()]));

  const append = (topic: string, partition: number, ...values: string[]) =>
    producer.append(topic, [{ partition, records: values.map(record) }]);

  it("delivers from its owner's offsets, whatever the group's are", async () => {
    const topic = await freshTopic(admin, 2);
    await append(topic, 0, "a", "b", "c");
    await append(topic, 1, "d");
    const first = start(kafka, topic, 1n);
    await until("the records came", () => first.values(0).length === 2);
    expect(first.values(0)).toEqual(["1:b", "2:c"]);
    expect(first.batches.find(({ partition }) => partition === 0)).toMatchObject({ fromOffset: 1n });
    expect(first.events[0]).toBe("assigned 0,1");
    await first.reader.commitHint(new Map([[0, 3n]]));
    await first.stop();
    expect(first.events.slice(-2)).toEqual(["aborted 0,1", "revoked 0,1"]);

    const second = start(kafka, topic, 0n);
    await until("the records came", () => second.values(0).length + second.values(1).length === 4);
    expect(second.values(0)).toEqual(["0:a", "1:b", "2:c"]);
    expect(second.batches.find(({ partition }) => partition === 1)).toMatchObject({
      nextOffset: 1n,
      highWatermark: 1n,
    });
  });

  it("delivers nothing before the start offsets are known", async () => {
    const topic = await freshTopic(admin, 1);
    await append(topic, 0, "a");
    const known = Promise.withResolvers<ReadonlyMap<number, bigint>>();
    const one = start(kafka, topic, 0n, { onAssigned: () => known.promise });
    await append(topic, 0, "b");
    // A second reader of the same log has had time to see both.
    const other = await kafka.partitionReader();
    await other.fetch({ topic, offsets: new Map([[0, 1n]]), maxWaitMs: 5_000, maxBytes: 1_000 });
    await other.close();
    expect(one.events).toEqual([]);
    known.resolve(new Map([[0, 1n]]));
    await until("a record came", () => one.values(0).length > 0);
    expect(one.values(0)).toEqual(["1:b"]);
  });

  it("hands partitions over in both directions without a gap or a repetition", async () => {
    const topic = await freshTopic(admin, 4);
    const partitions = [0, 1, 2, 3];
    const saved = new Map(partitions.map((partition) => [partition, 0n]));
    const seen = new Map(partitions.map((partition): [number, string[]] => [partition, []]));
    // As the sink does it: one shared truth, from which each assignment starts.
    const handlers: Partial<GroupHandlers> = {
      onAssigned: async (mine) => new Map(mine.map((partition) => [partition, saved.get(partition) ?? 0n])),
      onBatch: ({ partition, records, nextOffset }) => {
        seen.get(partition)?.push(...told(records));
        saved.set(partition, nextOffset);
      },
    };
    let count = 0;
    const expected = (): string[] => Array.from({ length: count }, (_, index) => `${index}:v${index}`);
    const more = async (): Promise<void> => {
      for (let index = 0; index < 5; index++) {
        const value = record(`v${count++}`);
        await producer.append(
          topic,
          partitions.map((partition) => ({ partition, records: [value] })),
        );
      }
    };
    const all = () => partitions.every((partition) => (seen.get(partition)?.length ?? 0) >= count);

    const one = start(kafka, topic, 0n, handlers);
    await more();
    await until("one has read all", all);
    const two = start(kafka, topic, 0n, handlers);
    await until("one has given up its partitions", () => one.events.includes("revoked 0,1,2,3"));
    await more();
    await until("both have read all", all);
    await one.stop();
    await more();
    await until("two has read all", all);
    await two.stop();
    for (const partition of partitions) expect(seen.get(partition)).toEqual(expected());
  });

  it("aborts what a superseded assignment is waiting for, and revokes before it assigns", async () => {
    const topic = await freshTopic(admin, 2);
    const waiting: AbortSignal[] = [];
    const events: string[] = [];
    const one = start(kafka, topic, 0n, {
      onAssigned: (partitions, signal) => {
        events.push(`assigned ${partitions}`);
        waiting.push(signal);
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
      onRevoked: (partitions) => void events.push(`revoked ${partitions}`),
    });
    await until("one was assigned", () => waiting.length === 1);
    const two = start(kafka, topic);
    await until("one was assigned again", () => waiting.length === 2);
    expect(waiting.map(({ aborted }) => aborted)).toEqual([true, false]);
    expect(events.slice(0, 2)).toEqual(["assigned 0,1", "revoked 0,1"]);
    expect(events[2]).toMatch(/^assigned [01]$/);
    await two.stop();
    await one.stop();
  });

  it("delivers nothing of a paused partition, and resumes where it was", async () => {
    const topic = await freshTopic(admin, 2);
    await append(topic, 0, "a");
    const one = start(kafka, topic);
    await until("a record came", () => one.values(0).length === 1);
    one.reader.pause([0]);
    await append(topic, 0, "b");
    await append(topic, 1, "c");
    await until("the other partition goes on", () => one.values(1).length === 1);
    await append(topic, 1, "d");
    await until("the other partition goes on", () => one.values(1).length === 2);
    expect(one.values(0)).toEqual(["0:a"]);
    one.reader.resume([0]);
    await until("the record came", () => one.values(0).length === 2);
    expect(one.values(0)).toEqual(["0:a", "1:b"]);
  });

  it("keeps a partition paused that its owner pauses before it has started", async () => {
    const topic = await freshTopic(admin, 2);
    await append(topic, 0, "a");
    await append(topic, 1, "b");
    const one: Running = start(kafka, topic, 0n, {
      onAssigned: async (partitions) => {
        one.reader.pause([0]);
        return new Map(partitions.map((partition) => [partition, 0n]));
      },
    });
    await until("the other partition came", () => one.values(1).length === 1);
    await append(topic, 1, "c");
    await until("the other partition goes on", () => one.values(1).length === 2);
    expect(one.values(0)).toEqual([]);
    one.reader.resume([0]);
    await until("the record came", () => one.values(0).length === 1);
  });

  it("delivers again from where it is told to seek", async () => {
    const topic = await freshTopic(admin, 1);
    await append(topic, 0, "a", "b", "c");
    const one = start(kafka, topic);
    await until("the records came", () => one.values(0).length === 3);
    one.reader.seek(0, 1n);
    one.reader.seek(7, 0n);
    await until("they came again", () => one.values(0).length === 5);
    expect(one.values(0)).toEqual(["0:a", "1:b", "2:c", "1:b", "2:c"]);
  });

  it("delivers control records as progress without records", async () => {
    const topic = await freshTopic(admin, 1);
    const client = new kafkajs.Kafka({ brokers: sharedBrokers().split(","), logLevel: kafkajs.logLevel.NOTHING });
    const createPartitioner = kafkajs.Partitioners.DefaultPartitioner;
    const foreign = client.producer({ createPartitioner, transactionalId: topic, idempotent: true });
    await foreign.connect();
    const one = start(kafka, topic);
    for (const [end, covered] of [
      ["commit", 2n],
      ["abort", 4n],
    ] as const) {
      const transaction = await foreign.transaction();
      await transaction.send({ topic, messages: [{ value: end, partition: 0 }] });
      await transaction[end]();
      await until(`the ${end} is covered`, () => one.batches.at(-1)?.nextOffset === covered);
    }
    await foreign.disconnect();
    expect(one.values(0)).toEqual(["0:commit"]);
    await append(topic, 0, "after");
    await until("it goes on", () => one.values(0).length === 2);
    expect(one.values(0)).toEqual(["0:commit", "4:after"]);
  });

  it("ends when a start offset is below or above what the log has", async () => {
    const topic = await freshTopic(admin, 1);
    await append(topic, 0, "a", "b", "c");
    await admin.deleteBelow(topic, new Map([[0, 1n]]));
    for (const wanted of [0n, 4n]) {
      const one = start(kafka, topic, wanted);
      await expect(one.ended).rejects.toBeInstanceOf(OffsetOutOfRange);
      await expect(one.ended).rejects.toMatchObject({ wanted, range: { low: 1n, high: 3n } });
      expect(one.batches).toEqual([]);
    }
  });

  it("ends when records that it has not delivered are deleted, instead of going on behind them", async () => {
    const topic = await freshTopic(admin, 1);
    await append(topic, 0, "a");
    const one = start(kafka, topic);
    await until("a record came", () => one.values(0).length === 1);
    one.reader.pause([0]);
    await append(topic, 0, "lost", "kept");
    await admin.deleteBelow(topic, new Map([[0, 2n]]));
    one.reader.resume([0]);
    await expect(one.ended).rejects.toBeInstanceOf(OffsetOutOfRange);
    expect(one.values(0)).toEqual(["0:a"]);
  });

  it("ends when it is told to seek to where the log is not", async () => {
    const topic = await freshTopic(admin, 1);
    await append(topic, 0, "a");
    const one = start(kafka, topic);
    await until("a record came", () => one.values(0).length === 1);
    one.reader.seek(0, 9n);
    await expect(one.ended).rejects.toBeInstanceOf(OffsetOutOfRange);
  });

  it("ends with any error of its owner, even those that kafkajs takes for its own", async () => {
    const topic = await freshTopic(admin, 1);
    await append(topic, 0, "a");
    const thrown = new TypeError("a mistake in a handler");
    const fail = (): never => {
      throw thrown;
    };
    await expect(start(kafka, topic, 0n, { onBatch: fail }).ended).rejects.toBe(thrown);
    await expect(start(kafka, topic, 0n, { onAssigned: async () => fail() }).ended).rejects.toBe(thrown);
    const one = start(kafka, topic, 0n, { onAssigned: async () => new Map() });
    await expect(one.ended).rejects.toThrow("no start offset for partition 0");
  });

  it("leaves the group when it stops: the next member has all at once", { timeout: 20_000 }, async () => {
    const topic = await freshTopic(admin, 2);
    const options = { topic, groupId: `${topic}.group`, sessionTimeoutMs: 45_000 };
    const stop = new AbortController();
    const first = Promise.withResolvers<void>();
    const handlers: GroupHandlers = {
      onAssigned: async (partitions) => {
        first.resolve();
        return new Map(partitions.map((partition) => [partition, 0n]));
      },
      onRevoked: () => undefined,
      onBatch: () => undefined,
    };
    const ended = kafka.groupReader(options).run(handlers, stop.signal);
    await first.promise;
    stop.abort();
    await ended;
    const next = start(kafka, topic);
    await until("it has all", () => next.events.includes("assigned 0,1"));
  });

  it("ends at once when its signal has aborted before it ran", async () => {
    const topic = await freshTopic(admin, 1);
    const reader = kafka.groupReader({ topic, groupId: topic, sessionTimeoutMs: SESSION_TIMEOUT_MS });
    const never = (): never => {
      throw new Error("not expected");
    };
    await reader.run({ onAssigned: never, onRevoked: never, onBatch: never }, AbortSignal.abort());
  });
});

describe("a group reader, when something breaks", () => {
  afterEach(async () => {
    for (const each of running) await each.stop();
  });

  it("goes on by itself when the broker comes back on its data, without waiting for its old session", async () => {
    await using broker = await privateKafka();
    const kafka = openKafka(broker.brokers);
    const admin = await kafka.admin();
    const topic = await freshTopic(admin, 2);
    const producer = await kafka.producer();
    await producer.append(topic, [{ partition: 0, records: [record("before")] }]);
    const one = start(kafka, topic, 0n, {}, 90_000);
    await until("a record came", () => one.values(0).length === 1);
    await broker.kill();
    await until("its partitions are revoked", () => one.events.includes("revoked 0,1"));
    await broker.start();
    await until("an append succeeds", () => producer.append(topic, [{ partition: 0, records: [record("after")] }]));
    await until("a record came", () => one.values(0).length === 2, { limitMs: 60_000 });
    expect(one.values(0)).toEqual(["0:before", "1:after"]);
    await one.stop();
    await Promise.all([producer.close(), admin.close()]);
  });

  it("stops promptly while no broker answers", { timeout: 40_000 }, async () => {
    await using kafka = await kafkaBehindProxy();
    const admin = await openKafka(kafka.brokers).admin();
    const topic = await freshTopic(admin, 1);
    await admin.close();
    const one = start(openKafka(kafka.brokers), topic);
    await until("it was assigned", () => one.events.length > 0);
    kafka.proxy.mode = "swallow";
    await one.stop();
    expect(one.events.slice(-1)).toEqual(["revoked 0"]);
  });

  it("goes on when the network has been silent for a while", async () => {
    await using kafka = await kafkaBehindProxy();
    const client = openKafka(kafka.brokers);
    const admin = await client.admin();
    const topic = await freshTopic(admin, 1);
    const producer = await client.producer(2_000);
    const one = start(client, topic);
    await until("it was assigned", () => one.events.length > 0);
    kafka.proxy.mode = "swallow";
    await expect(producer.append(topic, [{ partition: 0, records: [record("lost")] }])).rejects.toThrow();
    kafka.proxy.mode = "pass";
    await until("an append succeeds", () => producer.append(topic, [{ partition: 0, records: [record("a")] }]));
    await until("the record came", () => one.values(0).includes("0:a"), { limitMs: 60_000 });
    await one.stop();
    await Promise.all([producer.close(), admin.close()]);
  });
});
