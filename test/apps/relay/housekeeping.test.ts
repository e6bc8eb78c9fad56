import { expect, test } from "vitest";
import { createMetrics } from "#lib/metrics.ts";
import type { Backlog, Blocker } from "../../../apps/relay/buffer.ts";
import { Housekeeping } from "../../../apps/relay/housekeeping.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { keptLog } from "../../support/records.ts";

function scene() {
  const [clock, log, metrics] = [fakeClock(), keptLog(), createMetrics("relay")];
  const world = {
    backlog: { waiting: 0, oldestMs: 0, setAside: 0 } as Backlog,
    blockers: [] as Blocker[],
    removable: 0,
    error: null as Error | null,
    looks: 0,
    works: true,
    tookMs: 0,
    stepTookMs: 0,
    steps: [] as string[],
  };
  const housekeeping = new Housekeeping({
    buffer: {
      backlog: async () => {
        world.looks += 1;
        await clock.advance(world.tookMs);
        return world.error ? Promise.reject(world.error) : Promise.resolve(world.backlog);
      },
      blockers: () => Promise.resolve(world.blockers),
      removeRecorded: async (after, rowsMax) => {
        world.steps.push(after);
        await clock.advance(world.stepTookMs);
        const rows = Math.min(rowsMax, world.removable);
        world.removable -= rows;
        return { rows, last: String(Number(after) + rows), more: rows === rowsMax };
      },
    },
    keepMs: 3_600_000,
    clock,
    log,
    metrics,
  });
  const value = async (name: string): Promise<number> =>
    Number(new RegExp(`^spillway_relay_${name} (\\S+)$`, "m").exec(await metrics.registry.metrics())?.[1]);
  /** As the relay does after each round. */
  const goesOn = async (forMs: number): Promise<void> => {
    for (let ms = 0; ms < forMs; ms += 50) {
      await housekeeping.tend(world.works);
      await clock.advance(50);
    }
  };
  const told = () => housekeeping.reasons.map(({ what }) => what);
  return { clock, log, world, housekeeping, value, goesOn, told };
}

test("rows that wait for more than 10 s at two looks in a row are told, with their number and age, until they are published", async () => {
  const { world, goesOn, told, value, log } = scene();
  world.backlog = { waiting: 7, oldestMs: 60_000, setAside: 2 };
  await goesOn(50);
  // A long transaction's rows are old when they appear, and gone at once.
  expect(told()).toEqual([]);
  expect([await value("backlog_rows"), await value("backlog_oldest_ms"), await value("set_aside_rows")]).toEqual([
    7, 60_000, 2,
  ]);
  world.backlog = { waiting: 9, oldestMs: 65_000, setAside: 2 };
  await goesOn(5_050);
  expect(told()).toEqual(["event buffer: 9 rows wait, the oldest for 65 s; there were no more at the look before"]);
  world.backlog = { waiting: 8, oldestMs: 11_000, setAside: 2 };
  await goesOn(5_050);
  expect(told()).toEqual(["event buffer: 8 rows wait, the oldest for 11 s; there were more at the look before"]);
  world.backlog = { waiting: 3, oldestMs: 900, setAside: 2 };
  await goesOn(5_050);
  expect(told()).toEqual([]);
  expect(log.lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
    "warn event buffer's backlog grows",
    "info event buffer's backlog grows no more",
  ]);
});

test("a transaction that keeps writers waiting is told with its process, its age and what ends it", async () => {
  const { world, goesOn, told, value, log } = scene();
  const session = {
    pid: 4711,
    gid: null,
    ageMs: 4_000,
    state: "idle in transaction",
    application: "shop",
    writersWaiting: 3,
  };
  world.blockers = [session, { ...session, pid: 1, ageMs: 5 }];
  await goesOn(50);
  expect([told(), await value("blocker_ms")]).toEqual([[], 4_000]);
  world.blockers = [{ ...session, ageMs: 9_000 }];
  await goesOn(5_050);
  expect(told()).toEqual([
    "event buffer: 3 writers wait for process 4711 (shop, idle in transaction), open for 9 s: SELECT pg_terminate_backend(4711) would end it",
  ]);
  expect(log.lines[0]).toMatchObject({
    level: "warn",
    message: "writers wait for a transaction",
    fields: { pid: 4711 },
  });
  world.blockers = [{ ...session, pid: null, gid: "tx1", ageMs: null, state: "prepared" }];
  await goesOn(5_050);
  expect(told()).toEqual([
    "event buffer: 3 writers wait for the prepared transaction tx1: COMMIT PREPARED or ROLLBACK PREPARED ends it",
  ]);
  world.blockers = [];
  await goesOn(5_050);
  expect([told(), await value("blocker_ms")]).toEqual([[], 0]);
});

test("recorded rows go in small steps with pauses, on from where the last one ended, and from the start after a while", async () => {
  const { world, goesOn, value } = scene();
  world.removable = 2_500;
  await goesOn(150);
  expect(world.steps).toEqual(["0"]);
  await goesOn(1_000);
  expect(world.steps).toEqual(["0", "1000", "2000"]);
  expect(await value("removed_rows_total")).toBe(2_500);
  await goesOn(10_000);
  expect(world.steps).toEqual(["0", "1000", "2000", "0"]);
});

test("a database that refuses is asked again later, and publishing hears nothing of it", async () => {
  const { world, goesOn, log } = scene();
  world.error = new Error("permission denied for view backlog_total");
  await goesOn(4_000);
  expect(world.looks).toBe(1);
  expect(log.lines).toMatchObject([{ level: "warn", message: "event buffer not tended" }]);
  world.error = null;
  await goesOn(5_000);
  expect(world.looks).toBe(2);
});

test("a relay that stands by tells nothing of what the other one sees by now", async () => {
  const { world, goesOn, told, value } = scene();
  world.backlog = { waiting: 7, oldestMs: 60_000, setAside: 2 };
  await goesOn(6_000);
  expect(told()).toHaveLength(1);
  world.works = false;
  await goesOn(1_000);
  expect([told(), await value("backlog_rows"), world.looks]).toEqual([[], 0, 2]);
  world.works = true;
  await goesOn(50);
  expect(await value("backlog_rows")).toBe(7);
});

test("a look that takes long, or is given up, is taken so much more seldom", async () => {
  const { world, goesOn } = scene();
  world.tookMs = 2_000;
  await goesOn(35_000);
  expect(world.looks).toBe(1);
  world.error = new Error("Query read timeout");
  await goesOn(10_000);
  expect(world.looks).toBe(2);
  world.error = null;
  await goesOn(35_000);
  expect(world.looks).toBe(2);
});

test("a removal that takes long, as over what cannot be vacuumed yet, is made so much more seldom", async () => {
  const { world, goesOn } = scene();
  world.stepTookMs = 1_000;
  await goesOn(19_000);
  expect(world.steps).toEqual(["0"]);
  await goesOn(2_000);
  expect(world.steps).toEqual(["0", "0"]);
});
