import { expect, test } from "vitest";
import type { Event } from "#lib/event.ts";
import { createMetrics } from "#lib/metrics.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { LogFull } from "#lib/retention-guard.ts";
import type { Row } from "../../../apps/relay/buffer.ts";
import { Relay } from "../../../apps/relay/relay.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { silentLog } from "../../support/records.ts";

const rowOf = (position: number): Row => ({
  position: String(position),
  clientId: "a",
  id: `e${position}`,
  type: "t",
  occurredAtMs: 0,
  data: null,
});

/** A buffer of as many rows as `waiting` says, and a log that answers what `publishes` does. */
function scene() {
  const clock = fakeClock();
  const world = {
    waiting: 0,
    leads: true,
    storeError: null as Error | null,
    publishes: (_events: readonly Event[]): Promise<void> => Promise.resolve(),
    /** When pages were asked for, in ms since the start, and of how many rows. */
    pages: [] as [atMs: number, rowsMax: number][],
    calls: [] as string[],
    troubles: { store: null as string | null, log: null as string | null },
  };
  let position = 1;
  const startMs = clock.elapsed();
  const relay = new Relay({
    buffer: {
      lease: () => {
        world.calls.push("lease");
        return world.storeError ? Promise.reject(world.storeError) : Promise.resolve(world.leads);
      },
      release: () => Promise.resolve(void world.calls.push("release")),
      page: (rowsMax) => {
        world.pages.push([clock.elapsed() - startMs, rowsMax]);
        const rows = Math.min(rowsMax, world.waiting);
        return Promise.resolve(Array.from({ length: rows }, (_, n) => rowOf(position + n)));
      },
      record: (rows) => {
        world.waiting -= rows.length;
        position += rows.length;
        return Promise.resolve();
      },
      setAside: () => Promise.resolve(),
    },
    publish: (events) => world.publishes(events),
    tend: () => Promise.resolve(),
    storeAlarm: {
      set: (what) => {
        world.troubles.store = what;
      },
    },
    logAlarm: {
      set: (what) => {
        world.troubles.log = what;
      },
    },
    clock,
    log: silentLog,
    metrics: createMetrics("relay"),
  });
  const stop = new AbortController();
  const start = () => relay.run(stop.signal);
  return { clock, world, relay, stop, start };
}

test("a full page is followed at once, a short one after 50 ms, silence is asked twice as seldom each time, up to a second", async () => {
  const { clock, world, start } = scene();
  world.waiting = 2_500;
  void start();
  await clock.advance(1);
  expect(world.pages).toEqual([
    [0, 1_000],
    [0, 1_000],
    [0, 1_000],
  ]);
  await clock.advance(5_000);
  expect(world.pages.slice(3).map(([atMs]) => atMs)).toEqual([50, 150, 350, 750, 1_550, 2_550, 3_550, 4_550]);
  world.waiting = 1;
  await clock.advance(1_000);
  expect(world.pages.slice(11).map(([atMs]) => atMs)).toEqual([5_550, 5_600, 5_700, 5_900]);
});

test("relayOnce tells how many rows it took", async () => {
  const { world, relay } = scene();
  world.waiting = 1_001;
  expect([await relay.relayOnce(), await relay.relayOnce(), await relay.relayOnce()]).toEqual([1_000, 1, 0]);
});

test("who stands by takes nothing and looks once a second; who stops gives way at once", async () => {
  const { clock, world, stop, start } = scene();
  world.leads = false;
  world.waiting = 5;
  const ended = start();
  await clock.advance(3_500);
  expect([world.pages.length, world.calls.length]).toEqual([0, 4]);
  world.leads = true;
  await clock.advance(500);
  expect(world.waiting).toBe(0);
  stop.abort();
  await ended;
  expect(world.calls.at(-1)).toBe("release");
});

test("a relay whose log does not answer gives way, asks for half a page, says so, and goes on by itself", async () => {
  const { clock, world, start } = scene();
  world.waiting = 1_000;
  world.publishes = () => Promise.reject(new NotAcknowledged("log-unreachable", "unknown", "no answer"));
  void start();
  await clock.advance(1);
  expect([world.troubles.log, world.calls]).toEqual(["no answer", ["lease", "release"]]);
  await clock.advance(60_000);
  expect(world.pages.slice(0, 4).map(([, rowsMax]) => rowsMax)).toEqual([1_000, 500, 250, 125]);
  expect(world.pages.length).toBeLessThan(50);
  expect(world.waiting).toBe(1_000);
  world.publishes = () => Promise.resolve();
  await clock.advance(2_000);
  expect([world.waiting, world.troubles]).toEqual([0, { store: null, log: null }]);
});

test("a full log makes the relay wait as long as it says, within bounds, and is no trouble of the relay's", async () => {
  const { clock, world, start } = scene();
  world.waiting = 1;
  let asked = 0;
  world.publishes = () => {
    asked += 1;
    return Promise.reject(new LogFull("it is full", 60));
  };
  void start();
  await clock.advance(14_900);
  expect([asked, world.waiting, world.troubles.log]).toEqual([3, 1, null]);
  // Half of it would find no more room.
  expect(world.pages.map(([, rowsMax]) => rowsMax)).toEqual([1_000, 1_000, 1_000]);
  expect(world.calls).not.toContain("release");
  world.publishes = () => Promise.resolve();
  await clock.advance(5_000);
  expect(world.waiting).toBe(0);
});

test("a database that is away is asked more and more seldom, and what to do is told where it is known", async () => {
  const { clock, world, start } = scene();
  world.storeError = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  void start();
  await clock.advance(60_000);
  expect(world.calls.length).toBeLessThan(20);
  expect(world.troubles.store).toBe("down: connect ECONNREFUSED");
  world.storeError = Object.assign(new Error('relation "spillway.event_buffer" does not exist'), { code: "42P01" });
  await clock.advance(10_000);
  expect(world.troubles.store).toContain("not there or not up to date: npm run relay -- install");
  world.storeError = Object.assign(new Error("permission denied"), { code: "42501" });
  await clock.advance(30_000);
  expect(world.troubles.store).toContain("npm run relay -- install --relay-role NAME");
  world.storeError = null;
  world.waiting = 1;
  await clock.advance(30_000);
  expect([world.waiting, world.troubles.store]).toEqual([0, null]);
});
