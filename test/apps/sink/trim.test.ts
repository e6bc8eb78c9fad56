import { expect, test } from "vitest";
import { LogError, OffsetOutOfRange } from "#lib/kafka/ports.ts";
import { createMetrics } from "#lib/metrics.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { LogFill } from "#lib/retention.ts";
import { Trimmer } from "../../../apps/sink/trim.ts";
import { fakeClock, settled } from "../../support/fake-clock.ts";
import { keptLog } from "../../support/records.ts";

const DAY_MS = 86_400_000;
const MAX = 1_000_000;

/** One partition of 1,000 records, of which the database says: 900 saved, 500 of them a margin ago. */
function scene({ bytesMax = 0 }: { bytesMax?: number } = {}) {
  const [clock, log] = [fakeClock(), keptLog()];
  const world = {
    fill: { retainedBytes: 100, oldestUnsavedMs: null, timeLimitMs: null } as Partial<LogFill>,
    away: false,
    lane: "running",
    databaseAheadMs: 0,
    deleted: [] as bigint[],
    marked: 0,
    margins: [] as number[],
    hangs: false,
    lookError: null as Error | null,
    startsError: null as Error | null,
    deleteError: null as Error | null,
  };
  const pool = {
    query: (_sql: string, [, , marginMs]: readonly [number, number[], number]) => {
      world.margins.push(marginMs);
      const nowMs = clock.now() + world.databaseAheadMs;
      return Promise.resolve([
        { partition: 0, next: "900", last: "899", now_ms: nowMs, mark: "500", mark_ms: nowMs - marginMs },
      ]);
    },
  };
  const range = { low: 0n, high: 1_000n, nextOffset: 900n, recordBytes: 1 };
  const reject = (error: Error | null): Promise<void> => (error ? Promise.reject(error) : Promise.resolve());
  const trimmer = new Trimmer({
    identity: { epoch: 1, topic: "t", partitions: 1 },
    pool: pool as unknown as Pool,
    admin: {
      deleteBelow: async (_topic, offsets) => {
        await reject(world.deleteError);
        world.deleted.push(...offsets.values());
      },
    },
    gauge: {
      look: async () => {
        await reject(world.lookError);
        if (world.hangs) await new Promise(() => undefined);
        return { partitions: new Map([[0, range]]), unsavedBytes: 0, ...world.fill } as LogFill;
      },
    },
    lanes: { partitions: [0], lane: () => ({ state: world.lane }) as never },
    starts: async () => {
      await reject(world.startsError);
      world.marked++;
    },
    storeIsAway: () => world.away,
    marginMs: DAY_MS,
    bytesMax,
    clock,
    log,
    contact: { tell: log.warn },
    metrics: createMetrics(),
  });
  const stop = new AbortController();
  const ended = trimmer.run(stop.signal);
  const messages = (): string[] => log.lines.map(({ message }) => message);
  return { clock, log, world, trimmer, stop, ended, messages };
}

test("once a minute the checkpoints are proved and marked, and what is old enough goes", async () => {
  const { clock, world, messages } = scene();
  await settled();
  expect(world.deleted).toEqual([500n]);
  await clock.advance(59_000);
  expect(world.marked).toBe(1);
  await clock.advance(60_000);
  expect(world).toMatchObject({ marked: 2, deleted: [500n, 500n], margins: [DAY_MS, DAY_MS] });
  expect(messages()).toContain("log trimmed");
});

test("nothing goes before a lane has proved its checkpoint, nor while the database is away", async () => {
  const { clock, world } = scene();
  world.lane = "starting";
  await clock.advance(120_000);
  world.lane = "running";
  world.away = true;
  await clock.advance(120_000);
  expect(world).toMatchObject({ marked: 0, deleted: [] });
});

test("a log that is not the one that was saved ends the sink, and nothing goes", async () => {
  const { world, ended } = scene();
  world.startsError = new OffsetOutOfRange("t", 0, 900n, { low: 0n, high: 10n });
  await expect(ended).rejects.toBe(world.startsError);
  expect(world.deleted).toEqual([]);
});

test("the process' clock makes nothing old, and a database's that it does not agree with deletes nothing", async () => {
  const { clock, world, trimmer, messages } = scene();
  world.deleted.length = 0;
  clock.setWall(2 * DAY_MS);
  await clock.advance(60_000);
  world.databaseAheadMs = 2 * DAY_MS;
  await clock.advance(60_000);
  expect(world.deleted).toEqual([500n, 500n]);
  clock.setWall(0);
  world.databaseAheadMs = -301_000;
  await clock.advance(60_000);
  expect(world.deleted).toHaveLength(2);
  expect(trimmer.reasons.map(({ what }) => what)).toEqual([expect.stringMatching(/^clocks: .* 301000 ms apart/)]);
  world.databaseAheadMs = 0;
  await clock.advance(60_000);
  expect(world.deleted).toHaveLength(3);
  expect(messages()).toContain("clocks agree again");
});

test("the sink is the more urgent the more is unsaved, and wholly before ingest refuses", async () => {
  const { clock, world, trimmer } = scene({ bytesMax: MAX });
  const urgencyAt = async (share: number): Promise<number> => {
    world.fill = { ...world.fill, unsavedBytes: share * MAX };
    await clock.advance(10_000);
    return trimmer.urgency;
  };
  expect(await urgencyAt(0.5)).toBe(0);
  expect(await urgencyAt(0.625)).toBe(0.5);
  expect(await urgencyAt(0.79)).toBe(1);
  expect(await urgencyAt(0.1)).toBe(0);
});

test("a log that fills up shortens the margin and is trimmed at each look, then warns, and all is undone by itself", async () => {
  const { clock, world, trimmer, messages } = scene({ bytesMax: MAX });
  await settled();
  world.fill = { retainedBytes: 0.625 * MAX, oldestUnsavedMs: null, timeLimitMs: null };
  await clock.advance(20_000);
  expect(world.margins).toEqual([DAY_MS, (DAY_MS + 600_000) / 2, (DAY_MS + 600_000) / 2]);
  expect(trimmer.reasons).toEqual([]);
  world.fill = { ...world.fill, retainedBytes: 0.8 * MAX };
  await clock.advance(10_000);
  expect(world.margins.at(-1)).toBe(600_000);
  expect(trimmer.reasons.map(({ what }) => what)).toEqual([expect.stringContaining("800000 of 1000000 bytes")]);
  world.fill = { ...world.fill, retainedBytes: 100 };
  await clock.advance(60_000);
  expect(trimmer.reasons).toEqual([]);
  expect(world.margins.at(-1)).toBe(DAY_MS);
  const said = messages().filter((message) => message !== "log trimmed");
  expect(said).toEqual([
    "margin of saved records shrinks",
    "log fills up",
    "margin of saved records is whole again",
    "log has room again",
  ]);
});

test("a log that does not answer, a checkpoint that is not read and a deletion that is refused are tried again", async () => {
  const { clock, world, messages } = scene();
  await settled();
  for (const [which, message] of [
    ["lookError", "log not measured"],
    ["startsError", "log not trimmed"],
    ["deleteError", "log not trimmed"],
  ] as const) {
    world[which] = new LogError("retriable", "away");
    await clock.advance(70_000);
    expect(messages().at(-1)).toBe(message);
    world[which] = null;
  }
  world.deleteError = new OffsetOutOfRange("t", 0, 500n, { low: 0n, high: 10n });
  await clock.advance(70_000);
  expect(messages().at(-1)).toBe("log not trimmed");
  world.deleteError = null;
  world.deleted.length = 0;
  await clock.advance(60_000);
  expect(world.deleted).toEqual([500n]);
});

test("told to stop, it ends at once, whatever it waits for", async () => {
  const { stop, ended, clock, world } = scene();
  await settled();
  world.hangs = true;
  await clock.advance(10_000);
  stop.abort();
  await expect(ended).rejects.toMatchObject({ name: "AbortError" });
});
