import { expect, test } from "vitest";
import type { Pool, Transaction } from "#lib/postgres/pool.ts";
import { AdaptiveController, UNITS_MAX } from "../../../apps/sink/controller.ts";
import { write } from "../../../apps/sink/write.ts";
import { type FakeClock, fakeClock } from "../../support/fake-clock.ts";
import { rawRecord, recordOf, someEvent } from "../../support/records.ts";
import { batchOf, EPOCH } from "../../support/store.ts";

const UNIT_MS = 0.014;
const MINUTE_MS = 60_000;

/** A database that takes all, behind a pooler that makes a transaction wait for its turn. */
function pooled(clock: FakeClock, pooler: { waitMs: number }, units: () => number): Pool {
  return {
    transaction: async (_limits: unknown, work: (transaction: Transaction) => Promise<unknown>) => {
      const beginMs = 0.3 + pooler.waitMs;
      await clock.advance(beginMs);
      return work({
        beginMs,
        query: async () => {
          await clock.advance(1.5);
          return [{ partition: 0 }] as never[];
        },
        copy: () => clock.advance(1 + units() * UNIT_MS),
      });
    },
  } as unknown as Pool;
}

test("a pooler that makes transactions wait for a while does not make the database look busy afterwards", async () => {
  const clock = fakeClock();
  const controller = new AdaptiveController();
  const pooler = { waitMs: 0 };
  const pool = pooled(clock, pooler, () => controller.decide(0).unitsMax);
  const batch = await batchOf(1, { 0: [recordOf(someEvent(), 0n)] });
  const run = async (forMs: number): Promise<void> => {
    for (const untilMs = clock.elapsed() + forMs; clock.elapsed() < untilMs; ) {
      const beganAtMs = clock.elapsed();
      const { unitsMax: units } = controller.decide(0);
      const written = await write(pool, EPOCH, batch, "copy", clock);
      if (written.kind !== "written") throw new Error("fenced");
      const atMs = clock.elapsed();
      const { tripMs, rowsMs, trips } = written;
      controller.observe({ atMs, way: "copy", units, tripMs, rowsMs, trips, totalMs: atMs - beganAtMs });
    }
  };
  await run(10_000);
  pooler.waitMs = 60;
  await run(MINUTE_MS / 4);
  pooler.waitMs = 0;
  await run(5_000);
  expect(controller.decide(0)).toMatchObject({ unitsMax: UNITS_MAX, restMs: 0 });
  expect(controller.decide(0).stretch).toBeLessThan(1.1);
});

test.each(["copy", "stage"] as const)(
  "what %s takes in round trips is counted, with a dead letter and without rows too",
  async (way) => {
    const clock = fakeClock();
    const TRIP_MS = 50;
    const pool = {
      transaction: (_limits: unknown, work: (transaction: Transaction) => Promise<unknown>) =>
        work({
          beginMs: TRIP_MS,
          query: async () => {
            await clock.advance(TRIP_MS);
            return [{ partition: 0, n: 1 }] as never[];
          },
          copy: () => clock.advance(2 * TRIP_MS),
        }),
    } as unknown as Pool;
    const [row, poison] = [recordOf(someEvent(), 0n), rawRecord(1n, null, null)];
    for (const records of [[row], [row, poison], [{ ...poison, offset: 0n }]]) {
      const written = await write(pool, EPOCH, await batchOf(1, { 0: records }), way, clock);
      if (written.kind !== "written") throw new Error("fenced");
      expect(written.rowsMs).toBe(written.trips * TRIP_MS);
    }
  },
);
