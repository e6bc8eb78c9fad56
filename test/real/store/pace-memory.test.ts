/** Sinks know what the database costs at rest from each other, and from before they restarted: whoever comes rests as the others do. */
import { expect, onTestFinished, test } from "vitest";
import type { Pool } from "#lib/postgres/pool.ts";
import { AdaptiveController, type Sample } from "../../../apps/sink/controller.ts";
import { Keeper } from "../../../apps/sink/memory.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { silentLog } from "../../support/records.ts";
import { freshStore } from "../../support/store.ts";
import { until } from "../../support/until.ts";

const MINUTE_MS = 60_000;

/** Five batches, each of a thousand units, that took so many ms. */
function feed(controller: AdaptiveController, way: Sample["way"], atMs: number, rowsMs: number): void {
  for (let n = 0; n < 5; n++)
    controller.observe({ atMs, way, units: 1_000, tripMs: 0.1, rowsMs, trips: 2, totalMs: rowsMs + 5 });
}

async function given() {
  const store = await freshStore();
  onTestFinished(() => store[Symbol.asyncDispose]());
  const clock = fakeClock();
  const stop = new AbortController();
  const keep = (
    controller: AdaptiveController,
    storeIsAway = () => false,
    pool: Pick<Pool, "query"> = store.pool,
    part = (): number => 1,
  ): Promise<void> => new Keeper({ pool, controller, storeIsAway, part, clock, log: silentLog }).run(stop.signal);
  const kept = (): Promise<{ way: string }[]> =>
    store.database.query<{ way: string }>("SELECT way FROM spillway.pace ORDER BY way");
  /** A new sink, once it has recalled what there is. */
  const restarted = async (ways: number): Promise<AdaptiveController> => {
    const controller = new AdaptiveController();
    void keep(controller);
    await until("it has recalled", () => Object.keys(controller.memory).length === ways);
    return controller;
  };
  onTestFinished(() => stop.abort());
  return { store, clock, keep, kept, restarted };
}

test("a restarted sink rests for the load that is there already, by what each way cost before", async () => {
  const { clock, keep, kept, restarted } = await given();
  const before = new AdaptiveController();
  void keep(before);
  const fedMs = clock.elapsed();
  feed(before, "copy", fedMs, 20);
  feed(before, "stage", fedMs, 40);
  await until("it waits for a minute to pass", async () => {
    await clock.advance(MINUTE_MS);
    return (await kept()).length === 2;
  });
  const after = await restarted(2);
  feed(after, "copy", clock.elapsed(), 80);
  expect(after.decide(0).stretch).toBeCloseTo(80 / 20, 1);
  expect(after.decide(0).restMs).toBeGreaterThan(0);
  feed(after, "stage", clock.elapsed(), 80);
  expect(after.decide(0).stretch).toBeCloseTo(80 / 40, 1);
  const ignorant = new AdaptiveController();
  feed(ignorant, "copy", clock.elapsed(), 80);
  expect(ignorant.decide(0).restMs).toBe(0);
});

test("what one sink finds to be cheaper the others know within seconds", async () => {
  const { clock, keep } = await given();
  const [one, other] = [new AdaptiveController(), new AdaptiveController()];
  void keep(one);
  void keep(other);
  const agreed = (cost: number): Promise<unknown> =>
    until(`both think that a unit costs ${cost} ms at rest`, async () => {
      await clock.advance(1_000);
      feed(other, "copy", clock.elapsed(), 80);
      return [one, other].every(({ memory }) => Math.abs((memory.copy?.cost ?? 0) / cost - 1) < 0.05);
    });
  feed(one, "copy", clock.elapsed(), 80);
  await agreed(0.08);
  for (let n = 0; n < 4; n++) feed(one, "copy", clock.elapsed(), 20);
  await agreed(0.02);
  feed(other, "copy", clock.elapsed(), 80);
  expect(other.decide(0).restMs).toBeGreaterThan(0);
});

test("of two that tell at once what they know, the least counts", async () => {
  const { store, keep, kept } = await given();
  const [one, other] = [new AdaptiveController(), new AdaptiveController()];
  feed(one, "copy", 0, 20);
  feed(other, "copy", 0, 80);
  // Both have read that there is nothing yet.
  const { pool } = store;
  const read = Promise.withResolvers<void>();
  let reads = 0;
  const query: typeof pool.query = async (...given) => {
    const rows = await pool.query<never>(...given);
    if (++reads === 2) read.resolve();
    if (reads <= 2) await read.promise;
    return rows;
  };
  void keep(one, () => false, { query });
  void keep(other, () => false, { query });
  await until("both have told", async () => reads === 4 && (await kept()).length === 1);
  expect(await store.database.query("SELECT round(unit_ms::numeric, 3)::float8 AS cost FROM spillway.pace")).toEqual([
    { cost: 0.02 },
  ]);
});

test("a sink that had only a trickle all night and restarts in the morning knows it too", async () => {
  const { store, clock, keep, kept, restarted } = await given();
  const before = new AdaptiveController();
  void keep(before);
  feed(before, "copy", clock.elapsed(), 20);
  await until("it is kept", async () => {
    await clock.advance(MINUTE_MS);
    return (await kept()).length === 1;
  });
  await store.database.query("UPDATE spillway.pace SET learned_at = now() - interval '8 hours'");
  await until("it is kept again", async () => {
    await clock.advance(MINUTE_MS);
    return (await store.database.query("SELECT FROM spillway.pace WHERE learned_at > now() - interval '1 hour'"))
      .length;
  });
  const after = await restarted(1);
  feed(after, "copy", clock.elapsed(), 80);
  expect(after.decide(0).stretch).toBeCloseTo(80 / 20, 1);
});

test("what was learned long ago counts for little: the machine may be another", async () => {
  const { store, clock, restarted } = await given();
  await store.database.query("INSERT INTO spillway.pace VALUES ('copy', 0.02, now() - interval '3 hours')");
  const after = await restarted(1);
  feed(after, "copy", clock.elapsed(), 80);
  expect(after.decide(0).stretch).toBeLessThan(1.01);
  expect(after.decide(0).restMs).toBe(0);
});

test.each(["0", "-5", "'NaN'", "'Infinity'", "'-Infinity'"])("a cost of %s is none", async (cost) => {
  const { store, clock, restarted } = await given();
  await store.database.query(`INSERT INTO spillway.pace VALUES ('copy', ${cost}, now()), ('stage', 0.02, now())`);
  const after = await restarted(1);
  expect(Object.keys(after.memory)).toEqual(["stage"]);
  feed(after, "copy", clock.elapsed(), 80);
  expect(after.decide(0)).toMatchObject({ stretch: 1, restMs: 0 });
});

test("while the database is away nothing is kept, and nothing fails when it has no such table", async () => {
  const { store, clock, keep, kept } = await given();
  const controller = new AdaptiveController();
  feed(controller, "copy", clock.elapsed(), 20);
  let away = true;
  void keep(controller, () => away);
  for (let n = 0; n < 5; n++) await clock.advance(MINUTE_MS);
  expect(await kept()).toEqual([]);
  await store.database.query("ALTER TABLE spillway.pace RENAME TO gone");
  away = false;
  for (let n = 0; n < 3; n++) await clock.advance(MINUTE_MS);
  await store.database.query("ALTER TABLE spillway.gone RENAME TO pace");
  await until("kept again", async () => {
    await clock.advance(MINUTE_MS);
    return (await kept()).length === 1;
  });
});

test("sinks feel one load together, a sink that is alone its own, and what nobody can feel is passed over", async () => {
  const { store, clock, keep } = await given();
  const [lucky, other, alone] = [new AdaptiveController(), new AdaptiveController(), new AdaptiveController()];
  const parts = new Map([
    [lucky, 0.5],
    [other, 0.5],
    [alone, 1],
  ]);
  for (const [controller, part] of parts)
    void keep(
      controller,
      () => false,
      store.pool,
      () => part,
    );
  const round = async (luckyMs: number, otherMs: number): Promise<void> => {
    feed(lucky, "copy", clock.elapsed(), luckyMs);
    feed(other, "copy", clock.elapsed(), otherMs);
    feed(alone, "copy", clock.elapsed(), otherMs);
    await clock.advance(1_000);
  };
  const stretches = (): number[] => [lucky, other, alone].map((one) => one.decide(0).stretch);
  await until("all know what a row costs at rest", async () => {
    await round(20, 20);
    return [lucky, other, alone].every(({ memory }) => Math.abs((memory.copy?.cost ?? 0) - 0.0198) < 0.001);
  });
  const agreed = (): Promise<unknown> =>
    until("two feel nearly the same, and the third what it feels", async () => {
      await round(40, 160);
      const [a, b, c] = stretches() as [number, number, number];
      // By themselves 2 and 8.
      return a > 2.5 && b < 6.5 && b / a < 2 && Math.abs(c / 8 - 1) < 0.1;
    });
  await agreed();
  for (const wrong of ["0", "-1", "'NaN'", "'Infinity'"]) {
    await store.database.query(`UPDATE spillway.stretch SET stretch = ${wrong}, felt_at = now()`);
    await agreed();
  }
  expect(await store.database.query("SELECT count(*)::int AS n FROM spillway.stretch")).toEqual([{ n: 1 }]);
});
