/** What the database tells of how long ago records were saved decides as all its marks would. */
import fc from "fast-check";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { trimTo } from "../../../apps/sink/retention.ts";
import { readEvidence } from "../../../apps/sink/trim-evidence.ts";
import { EPOCH, freshStore, type Store } from "../../support/store.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WHOLE = { low: 0n, high: 1_000_000n };

let store: Store;
beforeEach(async () => {
  store = await freshStore(2);
  onTestFinished(() => store[Symbol.asyncDispose]());
});

/** Partition 0's checkpoint now, and where it stood so many ms ago. */
async function stands(nextOffset: number, marks: readonly (readonly [agoMs: number, nextOffset: number])[]) {
  await store.database.query(
    `WITH gone AS (DELETE FROM spillway.checkpoint_mark),
          moved AS (UPDATE spillway.checkpoint SET next_offset = $1::bigint, last_offset = $1::bigint - 1 WHERE partition = 0)
     INSERT INTO spillway.checkpoint_mark
     SELECT 1, 0, m.next_offset, now() - m.ago_ms * interval '1 millisecond'
       FROM unnest($2::float8[], $3::bigint[]) AS m(ago_ms, next_offset)`,
    [nextOffset, marks.map(([agoMs]) => agoMs), marks.map(([, offset]) => offset)],
  );
}

/** How far partition 0 would be trimmed. */
async function goes(marginMs = DAY_MS): Promise<bigint | null> {
  const evidence = (await readEvidence(store.pool, EPOCH, [0, 1], marginMs)).get(0);
  if (evidence === undefined) throw new Error("no evidence");
  return trimTo(evidence, WHOLE, marginMs);
}

test("a backlog of 30 hours that was saved a minute ago is not trimmed, and is when the margin is over", async () => {
  const quiet = Array.from({ length: 30 * 60 }, (_, minute) => [(minute + 2) * 60_000, 10] as const);
  await stands(900_000, [...quiet, [60_000, 900_000]]);
  expect(await goes()).toBe(10n);
  const aged = quiet.map(([agoMs, offset]) => [agoMs + DAY_MS, offset] as const);
  await stands(900_000, [...aged, [60_000 + DAY_MS, 900_000]]);
  expect(await goes()).toBe(899_999n);
});

test("a checkpoint that went back holds everything from there on, and so does what was saved again", async () => {
  await stands(300, [
    [2 * DAY_MS, 400],
    [HOUR_MS, 500],
  ]);
  expect(await goes()).toBe(299n);
  await stands(600, [
    [2 * DAY_MS, 400],
    [2 * HOUR_MS, 300],
    [HOUR_MS, 500],
  ]);
  expect(await goes()).toBe(300n);
});

test("marks of a future that the clock was set back from, or none at all, let nothing go", async () => {
  await stands(500, [[-HOUR_MS, 400]]);
  expect(await goes()).toBeNull();
  await stands(500, []);
  expect(await goes()).toBeNull();
  await stands(500, [
    [2 * DAY_MS, 400],
    [-HOUR_MS, 100],
  ]);
  expect(await goes()).toBe(100n);
});

test("the two marks that are read decide as all of them do, whatever they are", async () => {
  const anyMarks = fc.uniqueArray(fc.tuple(fc.integer({ min: -60, max: 60 * 48 }), fc.nat(1_000)), {
    selector: ([minutes]) => minutes,
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(anyMarks, fc.nat(1_000), async (marks, nextOffset) => {
      // Half a minute off, so that none lies just at the margin.
      const all = marks.map(([minutes, offset]) => [minutes * 60_000 + 30_000, offset] as const);
      await stands(nextOffset, all);
      const whole = {
        nextOffset: BigInt(nextOffset),
        lastOffset: BigInt(nextOffset) - 1n,
        marks: all.map(([agoMs, offset]) => ({ atMs: -agoMs, nextOffset: BigInt(offset) })),
        nowMs: 0,
      };
      expect(await goes(12 * HOUR_MS)).toBe(trimTo(whole, WHOLE, 12 * HOUR_MS));
    }),
    { numRuns: 50 },
  );
});

test("partitions are told apart, and one that was never marked has no mark", async () => {
  await stands(500, [[2 * DAY_MS, 400]]);
  const found = await readEvidence(store.pool, EPOCH, [0, 1, 7], DAY_MS);
  expect([...found.keys()].sort()).toEqual([0, 1]);
  expect(found.get(1)).toMatchObject({ nextOffset: 0n, lastOffset: null, marks: [] });
  expect(await readEvidence(store.pool, EPOCH + 1, [0], DAY_MS)).toEqual(new Map());
});
