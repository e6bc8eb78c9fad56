import { beforeEach, expect, test } from "vitest";
import { Control } from "#lib/control.ts";
import { type FetchedRecords, LogError, type LogRecord, type PartitionReader } from "#lib/kafka/ports.ts";
import { type FakeClock, fakeClock, settled } from "../support/fake-clock.ts";
import { fetched, keptLog, rawRecord } from "../support/records.ts";

/** A topic in memory, read as a real reader reads: one fetch at a time, which waits for news. */
class Topic implements PartitionReader {
  readonly records: LogRecord[] = [];
  fetches = 0;
  marks = 0;
  away = false;
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
    if (this.away) throw new LogError("retriable", "away");
    return [fetched(0, this.records.slice(from), BigInt(this.records.length))];
  }
  highWatermarks(): Promise<ReadonlyMap<number, bigint>> {
    this.marks += 1;
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
let control: Control;

beforeEach(() => {
  topic = new Topic();
  clock = fakeClock();
  log = keptLog();
  control = new Control({ topic: "c", reader: topic, log, clock });
});

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

test("a log that is away is told and waited for", async () => {
  topic.away = true;
  const stop = new AbortController();
  const following = control.run(stop.signal);
  await settled();
  expect(control.unreachableSinceMs).toBe(clock.now());
  await expect(control.schema("ff")).rejects.toThrow("away");
  await clock.advance(400);
  const since = control.unreachableSinceMs;
  topic.away = false;
  topic.append("identity/1", { topic: "a", partitions: 12 });
  await clock.advance(200);
  expect(since).toBe(clock.now() - 600);
  expect(control.unreachableSinceMs).toBeNull();
  expect(control.identity()?.topic).toBe("a");
  stop.abort();
  topic.wake();
  await following;
});
