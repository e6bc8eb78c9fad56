import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock as clock } from "#lib/clock.ts";
import { recordHash } from "#lib/continuity.ts";
import { RecordDecoder } from "#lib/decode.ts";
import type { LogRecord } from "#lib/kafka/ports.ts";
import { prepare, type Slice, split, take, textOf } from "../../../apps/sink/batch.ts";
import { units } from "../../../apps/sink/controller.ts";
import { Lane } from "../../../apps/sink/lane.ts";
import { clientOf, fetched, hostileText, rawRecord, recordOf, someEvent } from "../../support/records.ts";

function laneWith(partition: number, count: number, bytes = 10): Lane {
  const lane = new Lane(partition);
  lane.start(0n);
  if (count > 0)
    lane.push(
      fetched(
        partition,
        Array.from({ length: count }, (_, n) => rawRecord(BigInt(n), "k", Buffer.alloc(bytes))),
      ),
    );
  return lane;
}
const counts = (taken: ReturnType<typeof take>) => taken.map(({ lane, records }) => [lane.partition, records.length]);

describe("a batch takes from every lane that has news", () => {
  test("its share, and the rest from those with more", () => {
    const taken = take(
      [laneWith(0, 1_000), laneWith(1, 10), laneWith(2, 0), laneWith(3, 1_000)],
      units(310, 310 * 11) + 0.01,
    );
    expect(counts(taken)).toEqual([
      [1, 10],
      [0, 150],
      [3, 150],
    ]);
  });

  test("even when there are more lanes than records allowed", () => {
    const taken = take(
      [0, 1, 2, 3, 4].map((partition) => laneWith(partition, 5)),
      2,
    );
    expect(taken.every(({ records }) => records.length === 1)).toBe(true);
  });

  test("and nothing from lanes that wait for their checkpoint", () => {
    expect(take([new Lane(0), laneWith(1, 0)], 10)).toEqual([]);
  });
});

test("whatever the lanes hold, a batch keeps to its limits, but for one record of each lane", () => {
  const lane = fc.record({ count: fc.nat(200), bytes: fc.nat(2_000) });
  fc.assert(
    fc.property(fc.array(lane, { maxLength: 12 }), fc.integer({ min: 1, max: 300 }), (given, unitsMax) => {
      const lanes = given.map(({ count, bytes }, partition) => laneWith(partition, count, bytes));
      const busy = lanes.filter(({ hasNews }) => hasNews).length;
      const taken = take(lanes, unitsMax);
      expect(taken).toHaveLength(busy);
      const size = (records: readonly LogRecord[]): number =>
        records.reduce((sum, { value }) => sum + units(1, 1 + (value?.length ?? 0)), 0);
      expect(taken.reduce((sum, one) => sum + one.units, 0)).toBeCloseTo(size(taken.flatMap((one) => one.records)));
      const beyondFirst = taken.flatMap((one) => one.records.slice(1));
      expect(size(beyondFirst)).toBeLessThanOrEqual(unitsMax + 0.01);
    }),
    { numRuns: 60 },
  );
});

test("a batch is prepared lane by lane: whatever else is due comes in between", async () => {
  const lanes = Array.from({ length: 12 }, (_, partition) => laneWith(partition, 5));
  let turns = 0;
  let over = false;
  const others = (): void => {
    turns++;
    if (!over) setImmediate(others);
  };
  setImmediate(others);
  await prepare(1, take(lanes, 1e6), new RecordDecoder(12, () => Promise.resolve(undefined)), clock);
  over = true;
  expect(turns).toBeGreaterThanOrEqual(lanes.length);
});

test("a batch holds each record as row or dead letter, by partition and in order", async () => {
  const clientId = clientOf(0, 2);
  const lane = new Lane(0);
  lane.start(0n);
  const event = someEvent({ clientId });
  lane.push(
    fetched(0, [recordOf(event, 0n), rawRecord(1n, clientId, "poison"), recordOf({ ...event, id: "b" }, 2n)], 5n),
  );
  const { slices } = await prepare(
    1,
    [lane.take(10_000)],
    new RecordDecoder(2, () => Promise.resolve(undefined)),
    clock,
  );
  expect(slices).toMatchObject([
    {
      taken: { expected: 0n, nextOffset: 5n },
      rows: [
        { partition: 0, record: { offset: 0n } },
        { partition: 0, record: { offset: 2n } },
      ],
      dead: [{ partition: 0, record: { offset: 1n }, reason: "undecodable" }],
    },
  ]);
});

test("the text of some rows is their lines in order, whichever they are", async () => {
  const decoder = new RecordDecoder(1, () => Promise.resolve(undefined));
  const lanes = [0, 1].map((round) => {
    const lane = new Lane(0);
    lane.start(0n);
    const some = Array.from({ length: 40 }, (_, n) =>
      recordOf(someEvent({ id: `${round}-${n}`, data: `"${"é".repeat(n * 400)}"` }), BigInt(n)),
    );
    lane.push(fetched(0, some));
    return lane;
  });
  const { slices } = await prepare(
    1,
    lanes.map((lane) => lane.take(1_000_000)),
    decoder,
    clock,
  );
  const rows = slices.flatMap((slice) => slice.rows);
  const lines = rows.map((row) => textOf([row]).toString());
  expect(lines.map((line) => line.split("\t")[3])).toEqual(
    [0, 1].flatMap((round) => Array.from({ length: 40 }, (_, n) => `${round}-${n}`)),
  );
  fc.assert(
    fc.property(fc.subarray([...rows.keys()]), (some) => {
      expect(textOf(some.map((at) => rows[at] as (typeof rows)[number])).toString()).toBe(
        some.map((at) => lines[at]).join(""),
      );
    }),
    { numRuns: 50 },
  );
});

describe("a row's line in COPY's text format", () => {
  const lineOf = async (more: Parameters<typeof someEvent>[0]) => {
    const event = someEvent(more);
    const lane = new Lane(0);
    lane.start(0n);
    lane.push(fetched(0, [recordOf(event, 0n)]));
    const { slices } = await prepare(
      7,
      [lane.take(1_000)],
      new RecordDecoder(1, () => Promise.resolve(undefined)),
      clock,
    );
    return textOf(slices[0]?.rows ?? []).toString();
  };

  test("has the columns in order, times in UTC, and \\N for absent data", async () => {
    expect(await lineOf({ data: null })).toBe(
      "client\t7\t0\tid\ttype\t2023-11-14T22:13:20.000Z\t2023-11-14T22:13:20.001Z\t\\N\n",
    );
    expect(await lineOf({ data: "null" })).toMatch(/\tnull\n$/);
  });

  test("is one line of eight columns, whatever the text", async () => {
    await fc.assert(
      fc.asyncProperty(hostileText({ minLength: 1, maxLength: 20 }), async (text) => {
        const line = await lineOf({ clientId: text, id: text, type: text, data: JSON.stringify(text) });
        expect(line.split("\t")).toHaveLength(8);
        expect(line.indexOf("\n")).toBe(line.length - 1);
        expect(line).not.toContain("\r");
      }),
    );
  });
});

test("a record's hash tells its key from its value, and an absent one from an empty one", () => {
  const hashes = [
    rawRecord(0n, "ab", "c"),
    rawRecord(0n, "a", "bc"),
    rawRecord(0n, "", "abc"),
    rawRecord(0n, null, "abc"),
    rawRecord(0n, "abc", ""),
    rawRecord(0n, "abc", null),
  ].map((record) => recordHash(record).toString("hex"));
  expect(new Set(hashes).size).toBe(hashes.length);
  expect(recordHash(rawRecord(9n, "ab", "c"))).toEqual(recordHash(rawRecord(1n, "ab", "c")));
});

test("a batch split at any size: each record once, checkpoints that join, rows and dead letters beside their records", async () => {
  const decoder = new RecordDecoder(1, () => Promise.resolve(undefined));
  const partition = fc.array(fc.boolean(), { maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(partition, { maxLength: 4 }),
      fc.integer({ min: 1, max: 30 }),
      async (given, recordsMax) => {
        const lanes = given.map((good, at) => {
          const lane = new Lane(at);
          lane.start(0n);
          // A gap at the end: a lane without records steps over it.
          const records = good.map((ok, n) =>
            ok ? recordOf(someEvent(), BigInt(n)) : rawRecord(BigInt(n), "k", null),
          );
          lane.push(fetched(at, records, BigInt(good.length + 1), 0n));
          return lane;
        });
        const { slices } = await prepare(1, take(lanes, 1e6), decoder, clock);
        const parts: (readonly Slice[])[] = [];
        for (let left: readonly Slice[] = slices; left.length > 0; ) {
          const { first, rest } = split(left, recordsMax);
          expect(first.reduce((sum, { taken }) => sum + taken.records.length, 0)).toBeLessThanOrEqual(recordsMax);
          parts.push(first);
          left = rest;
        }
        for (const { taken, rows, dead } of slices) {
          const mine = parts.flat().filter((one) => one.taken.lane === taken.lane);
          expect(mine.map((one) => one.taken.expected)).toEqual([
            0n,
            ...mine.slice(0, -1).map((one) => one.taken.nextOffset),
          ]);
          expect(mine.at(-1)?.taken.nextOffset).toBe(taken.nextOffset);
          expect(mine.flatMap((one) => one.taken.records)).toEqual(taken.records);
          expect(mine.flatMap((one) => one.rows)).toEqual(rows);
          expect(mine.flatMap((one) => one.dead)).toEqual(dead);
          for (const one of mine)
            expect([...one.rows, ...one.dead].map(({ record }) => record.offset).sort()).toEqual(
              one.taken.records.map(({ offset }) => offset).sort(),
            );
        }
      },
    ),
  );
});
