import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { units } from "../../../apps/sink/controller.ts";
import { Lane } from "../../../apps/sink/lane.ts";
import { fetched, rawRecord } from "../../support/records.ts";

const records = (from: number, to: number, bytes = 10) =>
  Array.from({ length: to - from }, (_, n) => rawRecord(BigInt(from + n), "k", Buffer.alloc(bytes)));
/** Just enough for so many records of this size, a key of one byte included. */
const unitsOf = (count: number, bytes = 10): number => count * units(1, bytes + 1) + 1e-6;
const offsets = (taken: { records: readonly { offset: bigint }[] }) =>
  taken.records.map(({ offset }) => Number(offset));

function running(at = 0n): Lane {
  const lane = new Lane(3);
  lane.start(at);
  return lane;
}

describe("a lane takes records in only while it runs", () => {
  test("not before its checkpoint is known", () => {
    const lane = new Lane(3);
    expect(lane.push(fetched(3, records(0, 5)))).toBe(false);
    expect([lane.state, lane.hasNews, lane.waitingRecords]).toEqual(["starting", false, 0]);
  });

  test("not after it was closed, and it forgets what it held", () => {
    const lane = running();
    lane.push(fetched(3, records(0, 5)));
    lane.close();
    expect(lane.push(fetched(3, records(5, 6)))).toBe(false);
    expect([lane.state, lane.hasNews, lane.waitingRecords, lane.waitingBytes]).toEqual(["closed", false, 0, 0]);
    lane.start(0n);
    expect(lane.state).toBe("closed");
  });

  test("and only what begins where it ends: nothing older, nothing again, nothing behind a gap", () => {
    const lane = running(5n);
    expect(lane.push(fetched(3, records(0, 3)))).toBe(false);
    expect(lane.push(fetched(3, records(3, 8)))).toBe(false);
    expect(lane.push(fetched(3, records(6, 8)))).toBe(false);
    expect(lane.push(fetched(3, records(6, 8), 9n, 5n))).toBe(true);
    expect(lane.push(fetched(3, records(6, 8), 9n, 5n))).toBe(false);
    expect(lane.push(fetched(3, records(10, 12)))).toBe(false);
    expect(lane.push(fetched(3, records(9, 11)))).toBe(true);
    expect(lane.fetchedTo).toBe(11n);
    expect(lane.take(unitsOf(100))).toMatchObject({ expected: 5n, nextOffset: 11n });
  });
});

test("every start and the close begin a new life, so that what was taken before counts no more", () => {
  const lane = running();
  lane.push(fetched(3, records(0, 5)));
  const taken = lane.take(unitsOf(2));
  expect(taken.life).toBe(lane.life);
  lane.start(1n);
  expect(taken.life).not.toBe(lane.life);
  expect(lane.waitingRecords).toBe(0);
  lane.push(fetched(3, records(1, 5)));
  const again = lane.take(unitsOf(10));
  expect([again.expected, offsets(again)]).toEqual([1n, [1, 2, 3, 4]]);
  lane.close();
  expect(again.life).not.toBe(lane.life);
});

describe("gaps in the log", () => {
  test("behind the last record are stepped over with it", () => {
    const lane = running();
    lane.push(fetched(3, records(0, 2), 7n));
    expect(lane.take(unitsOf(10))).toMatchObject({ expected: 0n, nextOffset: 7n });
    expect(lane.hasNews).toBe(false);
  });

  test("without a record are news of their own", () => {
    const lane = running(4n);
    lane.push(fetched(3, [], 9n, 4n));
    expect(lane.hasNews).toBe(true);
    expect(lane.take(unitsOf(10))).toMatchObject({ expected: 4n, nextOffset: 9n, records: [] });
    expect(lane.hasNews).toBe(false);
  });

  test("between records belong to the take before them only when it ends there", () => {
    const lane = running();
    lane.push(fetched(3, [...records(0, 2), ...records(6, 8)], 12n));
    expect(lane.take(unitsOf(2))).toMatchObject({ expected: 0n, nextOffset: 2n });
    expect(lane.take(unitsOf(1))).toMatchObject({ expected: 2n, nextOffset: 7n });
    expect(lane.take(unitsOf(1))).toMatchObject({ expected: 7n, nextOffset: 12n });
  });
});

describe("a take is bounded", () => {
  test("by units: rows", () => {
    const lane = running();
    lane.push(fetched(3, records(0, 5)));
    expect(offsets(lane.take(unitsOf(3)))).toEqual([0, 1, 2]);
    expect(lane.waitingRecords).toBe(2);
  });

  test("by units: bytes, but never to nothing", () => {
    const lane = running();
    lane.push(fetched(3, records(0, 5, 1_000)));
    const whole = lane.waitingBytes;
    expect(offsets(lane.take(unitsOf(2, 1_000)))).toEqual([0, 1]);
    expect(offsets(lane.take(1))).toEqual([2]);
    expect(lane.waitingBytes).toBe((2 / 5) * whole);
    expect(lane.waitingUnits).toBeCloseTo(unitsOf(2, 1_000));
  });
});

test("whatever is pushed and taken: each record once, in order, checkpoints that join, bytes that return to zero", () => {
  const step = fc.oneof(
    fc.record({ push: fc.nat(30), gap: fc.nat(3) }),
    fc.record({ take: fc.integer({ min: 1, max: 20 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const lane = running(7n);
      const pushed: number[] = [];
      const taken: number[] = [];
      let fetchedTo = 7;
      let checkpoint = 7n;
      const take = (unitsMax: number): void => {
        const one = lane.take(unitsMax);
        expect(one.expected).toBe(checkpoint);
        expect(one.records.length).toBeLessThanOrEqual(unitsMax);
        expect(offsets(one).every((offset) => offset >= one.expected && offset < one.nextOffset)).toBe(true);
        checkpoint = one.nextOffset;
        taken.push(...offsets(one));
      };
      for (const one of steps) {
        if ("push" in one) {
          const from = BigInt(fetchedTo);
          const some = records(fetchedTo, fetchedTo + one.push);
          fetchedTo += one.push + one.gap;
          pushed.push(...offsets({ records: some }));
          lane.push(fetched(3, some, BigInt(fetchedTo), from));
        } else if (lane.hasNews) take(one.take);
      }
      while (lane.hasNews) take(1_000);
      expect(taken).toEqual(pushed);
      expect([checkpoint, lane.waitingBytes, lane.waitingRecords]).toEqual([BigInt(fetchedTo), 0, 0]);
    }),
  );
});

test("a long backlog taken bit by bit keeps its order", () => {
  const lane = running();
  lane.push(fetched(3, records(0, 25_000, 1)));
  const seen: number[] = [];
  while (lane.hasNews) seen.push(...offsets(lane.take(unitsOf(999))));
  expect(seen).toEqual(Array.from({ length: 25_000 }, (_, n) => n));
});
