import { describe, expect, test } from "vitest";
import { RecordDecoder } from "#lib/decode.ts";
import { type FetchedRecords, LogError, OffsetOutOfRange, type PartitionReader } from "#lib/kafka/ports.ts";
import { createMetrics } from "#lib/metrics.ts";
import { Tail } from "../../../apps/query/tail.ts";
import { TailReader } from "../../../apps/query/tail-reader.ts";
import { contactWith, fetched, rawRecord, recordOf, silentLog, someEvent } from "../../support/records.ts";
import { ManualClock } from "./model.ts";

type Fetch = PartitionReader["fetch"];

const settle = async (): Promise<void> => {
  for (let i = 0; i < 100; i++) await Promise.resolve();
};

/** A log of one partition whose fetches are answered by hand. */
function scene(
  given: {
    start?: bigint;
    bytesMax?: number;
    refresh?: (tail: Tail) => boolean;
    broken?: Error;
    proof?: Promise<void>;
  } = {},
) {
  const asked: { wanted: bigint | undefined; answer: PromiseWithResolvers<readonly FetchedRecords[]> }[] = [];
  const met = new Map<number, bigint>();
  const proved: bigint[] = [];
  const clock = new ManualClock();
  const metrics = createMetrics();
  const contact = contactWith(silentLog, clock);
  const { start = 0n, bytesMax = 1 << 30 } = given;
  const tail = new Tail({ bytesMax, log: silentLog, clock, metrics }, new Map([[0, { start, logStart: start }]]));
  const fetch: Fetch = ({ offsets }) => {
    const answer = Promise.withResolvers<readonly FetchedRecords[]>();
    asked.push({ wanted: offsets.get(0), answer });
    return answer.promise;
  };
  const tailReader = new TailReader({
    identity: { epoch: 1, topic: "t", partitions: 1 },
    reader: { fetch },
    decoder: new RecordDecoder(1, () => Promise.resolve(undefined)),
    tail,
    refresh: async () => given.refresh?.(tail) ?? false,
    sameLog: {
      met: (partition, { offset }) => void met.set(partition, offset),
      proveRead: async (next) => {
        proved.push(next.get(0) ?? -1n);
        if (given.broken) throw given.broken;
        await given.proof;
      },
    },
    clock,
    contact,
  });
  const stop = new AbortController();
  const ended = tailReader.run(stop.signal);
  ended.catch(() => undefined);
  const give = async (nth: number, ...records: FetchedRecords["records"][number][]): Promise<void> => {
    asked[nth]?.answer.resolve([fetched(0, records)]);
    await settle();
  };
  const fail = async (nth: number, error: Error): Promise<void> => {
    asked[nth]?.answer.reject(error);
    await settle();
  };
  return { asked, clock, contact, tail, tailReader, ended, give, fail, met, proved };
}

const record = (offset: bigint) => recordOf(someEvent({ id: `id-${offset}` }), offset);
const heldIds = (tail: Tail): string[] => {
  const { array, from, to } = tail.partition(0).pin("client");
  return array.slice(from, to).map(({ id }) => id);
};

test("events are taken, records that are none are passed over, and reading goes on behind them", async () => {
  const { asked, tail, tailReader, give } = scene();
  const waiting = tail.reached(0, 3n, 1_000);
  await give(0, record(0n), rawRecord(1n, "client", "junk"), record(2n));
  expect(heldIds(tail)).toEqual(["id-0", "id-2"]);
  expect(await waiting).toBe(true);
  expect(asked[1]?.wanted).toBe(3n);
  expect(tailReader.missing).toEqual([]);
  expect(tail.status()).toMatchObject({ behindSinceMs: null, readRecords: 3n, ofRecords: 3n });
});

test("what was fetched before the partition began anew is left out", async () => {
  const { asked, tail, give, clock } = scene({ start: 10n });
  await give(0, record(10n));
  tail.observe(0, 4n, 10n);
  await give(1, record(11n));
  expect(heldIds(tail)).toEqual([]);
  expect(asked[2]?.wanted).toBe(4n);
  // The watch over the fetch under way.
  expect(clock.timers).toBe(1);
});

test("an unreachable log is asked again after a growing pause", async () => {
  const { asked, tailReader, contact, clock, give, fail } = scene();
  await give(0, record(0n));
  const away = "log: no answer from kafka-1:9092,kafka-2:9092 (unsaved tail: no broker)";
  const silent = { what: away, sinceMs: clock.now() };
  await fail(1, new LogError("retriable", "no broker"));
  expect([contact.reasons("unsaved tail"), asked.length]).toEqual([[silent], 2]);
  clock.advance(75);
  await settle();
  await fail(2, new LogError("retriable", "no broker"));
  clock.advance(75);
  await settle();
  expect([contact.reasons("unsaved tail"), asked.length]).toEqual([[silent], 3]);
  clock.advance(75);
  await settle();
  await give(3, record(1n));
  expect([tailReader.missing, contact.reasons("unsaved tail")]).toEqual([[], []]);
});

test("a log that is silent is away within five seconds, since the question that it did not answer", async () => {
  const { contact, clock, give } = scene();
  await give(0, record(0n));
  const askedAtMs = clock.now();
  while (contact.reasons("unsaved tail").length === 0) clock.advance(100);
  expect(clock.now() - askedAtMs).toBeLessThanOrEqual(5_000);
  expect(contact.reasons("unsaved tail")[0]?.sinceMs).toBe(askedAtMs);
  await give(1, record(1n));
  expect(contact.reasons("unsaved tail")).toEqual([]);
});

const outOfRange = (wanted: bigint, low: bigint, high: bigint): OffsetOutOfRange =>
  new OffsetOutOfRange("t", 0, wanted, { low, high });

test("below the log's start, the tail goes on at the checkpoint when that is at or above it", async () => {
  const refresh = (tail: Tail): boolean => {
    tail.observe(0, 60n, 0n);
    return true;
  };
  const { asked, clock, fail } = scene({ refresh });
  await fail(0, outOfRange(0n, 50n, 100n));
  clock.advance(1_000);
  await settle();
  expect(asked[1]?.wanted).toBe(60n);
});

test("unsaved records that are gone from the log stop the node with both offsets", async () => {
  const refresh = (tail: Tail): boolean => {
    tail.observe(0, 40n, 0n);
    return true;
  };
  const { ended, fail } = scene({ refresh });
  await fail(0, outOfRange(0n, 50n, 100n));
  await expect(ended).rejects.toThrow("offset 0 is wanted, but the log holds 50 to 100");
});

test("a log that ends below the tail was cut or recreated: the node stops", async () => {
  const { ended, fail } = scene({ start: 500n });
  await fail(0, outOfRange(500n, 0n, 100n));
  await expect(ended).rejects.toThrow("recreated or cut");
});

test("while the database is away, it is not decided whether what is gone was saved; the node says so, and goes on when it is back", async () => {
  const database = { back: false };
  const refresh = (tail: Tail): boolean => {
    if (database.back) tail.observe(0, 60n, 0n);
    return database.back;
  };
  const { asked, clock, fail, give, tailReader } = scene({ refresh });
  const gone = "offset 50, and without the database nobody knows whether what lay from 0 on was saved";
  const missing = [{ what: `log: t/0 begins at ${gone}`, sinceMs: clock.now() }];
  for (let nth = 0; nth < 10; nth++) {
    await fail(nth, outOfRange(0n, 50n, 100n));
    expect(tailReader.missing).toEqual(missing);
    clock.advance(5_000);
    await settle();
    expect(asked).toHaveLength(nth + 2);
  }
  database.back = true;
  await fail(10, outOfRange(0n, 50n, 100n));
  expect([asked.length, asked[11]?.wanted]).toEqual([12, 60n]);
  await give(11, record(60n));
  expect([tailReader.missing, clock.timers]).toEqual([[], 1]);
});

test("a full tail reads no further until something is saved, and says so", async () => {
  const { asked, tail, clock, give } = scene({ bytesMax: 1 });
  const fullMs = clock.now();
  await give(0, record(0n), record(1n));
  clock.advance(50);
  await settle();
  expect([asked.length, tail.full, tail.status().fullSinceMs]).toEqual([1, true, fullMs]);
  const late = tail.reached(0, 3n, clock.elapsed() + 100);
  tail.observe(0, 2n, 0n);
  expect(tail.partition(0).records).toBe(0);
  clock.advance(50);
  await settle();
  expect(asked[1]?.wanted).toBe(2n);
  await give(1, record(2n));
  expect(await late).toBe(true);
});

test("what is saved stays a second longer, and a late answer of the database takes nothing back", async () => {
  const { tail, clock, give } = scene();
  await give(0, record(0n), record(1n), record(2n), record(3n));
  tail.observe(0, 2n, 0n);
  tail.observe(0, 3n, 0n);
  expect(tail.partition(0).start).toBe(0n);
  clock.advance(1_000);
  tail.observe(0, 4n, 0n);
  expect(heldIds(tail)).toEqual(["id-2", "id-3"]);
  // Asked before the tail had moved on.
  tail.observe(0, 1n, 0n);
  expect(tail.partition(0).start).toBe(2n);
  tail.observe(0, 1n, 2n);
  expect([tail.partition(0).start, tail.partition(0).next]).toEqual([1n, 1n]);
});

describe("a log that may have been made anew unseen", () => {
  const lost = new LogError("retriable", "no broker");

  test("is proved to be the one that was read before anything more is taken, and its marks do not count until then", async () => {
    const { asked, clock, give, fail, met, proved, tailReader } = scene();
    await give(0, record(0n), record(1n));
    await tailReader.requireProved();
    await fail(1, lost);
    await expect(tailReader.requireProved()).rejects.toThrow(/not known yet/);
    expect([met.get(0), proved]).toEqual([1n, []]);
    clock.advance(100);
    await settle();
    expect([proved, asked.length]).toEqual([[2n], 3]);
    await give(2, record(2n));
    await tailReader.requireProved();
    await give(3);
    expect(proved).toEqual([2n]);
  });

  test("stops the node when it is another one", async () => {
    const { asked, clock, give, fail, ended } = scene({ broken: new Error("another log") });
    await give(0, record(0n));
    await fail(1, lost);
    clock.advance(100);
    await settle();
    await expect(ended).rejects.toThrow("another log");
    expect(asked).toHaveLength(2);
  });

  test("is proved too when it was not asked for long: the tail was full", async () => {
    const { clock, give, proved, tail } = scene({ bytesMax: 1 });
    await give(0, record(0n));
    clock.advance(5_000);
    tail.observe(0, 1n, 0n);
    await settle();
    clock.advance(50);
    await settle();
    expect(proved).toEqual([1n]);
  });

  test("refuses no read for its silence: the proof is waited for", async () => {
    const proof = Promise.withResolvers<void>();
    const { clock, give, proved, tail, tailReader } = scene({ bytesMax: 1, proof: proof.promise });
    await give(0, record(0n));
    clock.advance(5_000);
    tail.observe(0, 1n, 0n);
    await settle();
    clock.advance(50);
    await settle();
    let counted = false;
    const required = tailReader.requireProved().then(() => {
      counted = true;
    });
    await settle();
    expect([proved, counted]).toEqual([[1n], false]);
    proof.resolve();
    await required;
  });
});
