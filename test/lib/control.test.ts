import { beforeEach, describe, expect, test } from "vitest";
import type { Contact } from "#lib/contact.ts";
import { Control, LogReplaced } from "#lib/control.ts";
import {
  type FetchedRecords,
  LogError,
  type LogRecord,
  OffsetOutOfRange,
  type PartitionReader,
  TopicMissing,
} from "#lib/kafka/ports.ts";
import { type FakeClock, fakeClock, settled } from "../support/fake-clock.ts";
import { contactWith, fetched, keptLog, rawRecord } from "../support/records.ts";

/** A topic in memory, read as a real reader reads: one fetch at a time, which waits for news. */
class Topic implements Pick<PartitionReader, "fetch" | "highWatermarks"> {
  readonly records: LogRecord[] = [];
  fetches = 0;
  marks = 0;
  away = false;
  missing = false;
  /** How many records a transaction that is open hides from readers. */
  hidden = 0;
  #waiting: (() => void) | null = null;
  #busy = false;

  append(key: string, value: unknown): void {
    this.records.push(
      rawRecord(BigInt(this.records.length), key, typeof value === "string" ? value : JSON.stringify(value)),
    );
    this.wake();
  }
  wake(): void {
    this.#waiting?.();
  }
  async fetch({ offsets }: { offsets: ReadonlyMap<number, bigint> }): Promise<readonly FetchedRecords[]> {
    if (this.#busy) throw new Error("one fetch at a time");
    this.#busy = true;
    this.fetches += 1;
    const from = Number(offsets.get(0));
    if (from === this.records.length && !this.away)
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    this.#busy = false;
    if (this.missing) throw new TopicMissing("missing");
    if (this.away) throw new LogError("retriable", "away");
    if (from > this.records.length)
      throw new OffsetOutOfRange("c", 0, BigInt(from), { low: 0n, high: BigInt(this.records.length) });
    const end = Math.max(from, this.records.length - this.hidden);
    return [fetched(0, this.records.slice(from, end), BigInt(end))];
  }
  highWatermarks(): Promise<ReadonlyMap<number, bigint>> {
    this.marks += 1;
    if (this.missing) return Promise.reject(new TopicMissing("missing"));
    if (this.away) return Promise.reject(new LogError("retriable", "away"));
    return Promise.resolve(new Map([[0, BigInt(this.records.length)]]));
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

let topic: Topic;
let clock: FakeClock;
let log: ReturnType<typeof keptLog>;
let contact: Contact;
let control: Control;

beforeEach(() => {
  topic = new Topic();
  clock = fakeClock();
  log = keptLog();
  contact = contactWith(log, clock);
  const made = topic;
  control = new Control({
    topic: "c",
    reader: topic,
    ensure: async () => {
      made.missing = false;
    },
    writer: {
      entries: async (entries) => {
        for (const [key, value] of entries) made.append(key, value);
      },
    },
    log,
    clock,
    contact,
  });
});

const lostSinceMs = (): number | null => contact.reasons("control topic")[0]?.sinceMs ?? null;

test("an empty topic says nothing and is not waited for", async () => {
  await control.refresh();
  expect(control.identity()).toBeUndefined();
  expect(topic.fetches).toBe(0);
});

test("the last value of a key counts; the identity is the highest epoch's", async () => {
  topic.append("identity/2", { topic: "b", partitions: 24 });
  topic.append("identity/1", { topic: "a", partitions: 12 });
  topic.append("checkpoint/2/7", { nextOffset: "5" });
  topic.append("checkpoint/2/7", { nextOffset: "9007199254740993" });
  topic.append("checkpoint/1/7", { nextOffset: "3" });
  await control.refresh();
  expect(control.identity()).toEqual({ epoch: 2, topic: "b", partitions: 24 });
  expect(control.identities().map(({ epoch }) => epoch)).toEqual([1, 2]);
  expect(control.checkpoint(2, 7)?.nextOffset).toBe(9007199254740993n);
  expect(control.checkpoint(1, 7)?.nextOffset).toBe(3n);
  expect(control.checkpoint(2, 8)).toBeUndefined();
});

test("what a newer build publishes is passed over in silence, what nobody can mean with a word", async () => {
  topic.append("weather/1", { sun: true });
  topic.append("noslash", { x: 1 });
  topic.append("schema/aa", "null");
  expect(log.lines).toEqual([]);
  topic.append("identity/1", "{");
  topic.append("identity/x", { topic: "a", partitions: 1 });
  topic.append("identity/3", {});
  topic.append("checkpoint/1/0", { nextOffset: "many" });
  topic.append("schema/bb", { schema: 7 });
  topic.append("identity/1", { topic: "a", partitions: 12 });
  await control.refresh();
  expect(log.lines).toHaveLength(5);
  expect(control.identities()).toEqual([{ epoch: 1, topic: "a", partitions: 12 }]);
});

test("a schema is looked up at the topic's end, while the topic is being followed", async () => {
  const stop = new AbortController();
  const following = control.run(stop.signal);
  await settled();
  const looked = control.schema("ff");
  expect(await looked).toBeUndefined();
  // The log holds it, but the fetch under way has not heard of it yet.
  topic.records.push(rawRecord(0n, "schema/ff", '{"schema":"S"}'));
  const found = control.schema("ff");
  await settled();
  topic.wake();
  expect(await found).toBe("S");
  expect(log.lines).toEqual([]);
  stop.abort();
  topic.wake();
  await following;
});

test("a fingerprint that was unknown is asked for again: its schema may have been published since", async () => {
  expect(await control.schema("late")).toBeUndefined();
  topic.records.push(rawRecord(0n, "schema/late", '{"schema":"S"}'));
  topic.wake();
  expect(await control.schema("late")).toBe("S");
});

test("a log that is silent is away within five seconds, since the question that it did not answer", async () => {
  await control.refresh();
  const stop = new AbortController();
  const askedAtMs = clock.now();
  const following = control.run(stop.signal);
  await clock.advance(3_900);
  expect(lostSinceMs()).toBeNull();
  await clock.advance(1_000);
  expect(lostSinceMs()).toBe(askedAtMs);
  topic.append("identity/1", { topic: "a", partitions: 12 });
  await settled();
  expect(lostSinceMs()).toBeNull();
  stop.abort();
  topic.wake();
  await following;
});

test("a log that is away is told and waited for", async () => {
  topic.away = true;
  const stop = new AbortController();
  const following = control.run(stop.signal);
  await settled();
  expect(lostSinceMs()).toBe(clock.now());
  await expect(control.schema("ff")).rejects.toThrow("away");
  await clock.advance(400);
  const since = lostSinceMs();
  topic.away = false;
  topic.append("identity/1", { topic: "a", partitions: 12 });
  await clock.advance(200);
  expect(since).toBe(clock.now() - 600);
  expect(lostSinceMs()).toBeNull();
  expect(control.identity()?.topic).toBe("a");
  stop.abort();
  topic.wake();
  await following;
});

/** Everything that is published about a log, in an order of its own. */
function publishAll(): void {
  topic.append("identity/1", { topic: "a", partitions: 12 });
  topic.append("checkpoint/1/7", { nextOffset: "5" });
  topic.append("schema/ff", { schema: "S" });
}

/** The topic is followed to its end, then `attack` changes it, and the follower has looked again. */
async function attacked(attack: () => void): Promise<{ ended: Promise<void>; stop(): Promise<void> }> {
  publishAll();
  await control.refresh();
  const abort = new AbortController();
  const ended = control.run(abort.signal);
  ended.catch(() => undefined);
  await settled();
  attack();
  topic.wake();
  await clock.advance(600);
  const stop = async (): Promise<void> => {
    abort.abort();
    topic.wake();
    await ended;
  };
  return { ended, stop };
}

const keys = (): string[] => topic.records.map(({ key }) => key?.toString() ?? "").sort();
const ALL = ["checkpoint/1/7", "identity/1", "schema/ff"];

describe("a topic that somebody has made anew gets back what this process knows", () => {
  test.each([
    ["while it is still missing", [], true],
    ["when it is empty", [], false],
    ["when others have written more to it than was there before", ["a/1", "b/1", "c/1", "d/1", "e/1"], false],
    ["only what it lacks", ["identity/1"], false],
  ])("%s", async (_, others, missing) => {
    const { stop } = await attacked(() => {
      topic.records.length = 0;
      for (const key of others) topic.append(key, key === "identity/1" ? { topic: "a", partitions: 12 } : {});
      topic.missing = missing;
      topic.away = !missing;
    });
    topic.away = false;
    await clock.advance(600);
    expect(keys()).toEqual([...new Set([...others, ...ALL])].sort());
    expect(lostSinceMs()).toBeNull();
    topic.append("checkpoint/1/7", { nextOffset: "9" });
    await settled();
    expect(control.checkpoint(1, 7)?.nextOffset).toBe(9n);
    await stop();
  });

  test("an outage alone makes nobody write", async () => {
    const { stop } = await attacked(() => {
      topic.away = true;
    });
    topic.away = false;
    await clock.advance(600);
    expect(lostSinceMs()).toBeNull();
    expect(keys()).toEqual(ALL);
    await stop();
  });

  test("but when it names another log now, the process stops instead of going on by the old one", async () => {
    const { ended } = await attacked(() => {
      topic.records.length = 0;
      topic.append("identity/1", { topic: "a", partitions: 24 });
    });
    await clock.advance(600);
    await expect(ended).rejects.toThrow(LogReplaced);
    await expect(ended).rejects.toThrow(/a with 12 partitions.*a with 24.*Restart every role/);
  });
});

test("records behind an open transaction are an error that says so, not an endless wait", async () => {
  publishAll();
  topic.hidden = 1;
  await expect(control.refresh()).rejects.toThrow("c ends at 3: behind 2 a transaction is open");
  topic.hidden = 0;
  await control.refresh();
  expect(await control.schema("ff")).toBe("S");
});

test("what is to succeed a log is told when it is announced, withdrawn and in use", async () => {
  topic.append("identity/1", { topic: "a", partitions: 12 });
  await control.refresh();
  const told: unknown[] = [];
  const ignore = control.onMoved(() => told.push([control.identity()?.epoch, control.successor(1)?.identity.topic]));
  topic.append("successor/1", { topic: "b", partitions: 24 });
  await control.refresh();
  topic.append("successor/1", { withdrawn: true });
  await control.refresh();
  topic.append("checkpoint/1/7", { nextOffset: "9" });
  await control.refresh();
  topic.append("successor/1", { topic: "b", partitions: 24 });
  topic.append("identity/2", { topic: "b", partitions: 24 });
  await control.refresh();
  expect(told).toEqual([
    [1, "b"],
    [1, undefined],
    [2, "b"],
  ]);
  expect(control.successor(1)?.identity).toEqual({ epoch: 2, topic: "b", partitions: 24 });
  expect(control.identities()).toHaveLength(2);
  ignore();
  topic.append("identity/3", { topic: "c", partitions: 24 });
  await control.refresh();
  expect(told).toHaveLength(3);
});
