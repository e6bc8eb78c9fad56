import { expect, test } from "vitest";
import { LogError } from "#lib/kafka/ports.ts";
import { createMetrics } from "#lib/metrics.ts";
import type { LogFill } from "#lib/retention.ts";
import { RetentionGuard } from "#lib/retention-guard.ts";
import { fakeClock, settled } from "../support/fake-clock.ts";
import { keptLog } from "../support/records.ts";

const MAX = 100_000;
const RECORD_BYTES = 100;

/** A log of one partition whose records have 100 bytes: 1,000 fill it. */
function scene(bytesMax = MAX) {
  const [clock, log] = [fakeClock(), keptLog()];
  const world = {
    high: 0,
    nextOffset: 0,
    oldestUnsavedMs: null as number | null,
    hangs: false,
    error: null as Error | null,
  };
  const look = (): Promise<LogFill> => {
    if (world.hangs) return new Promise(() => undefined);
    if (world.error) return Promise.reject(world.error);
    const [high, nextOffset] = [BigInt(world.high), BigInt(world.nextOffset)];
    return Promise.resolve({
      partitions: new Map([[0, { low: 0n, high, nextOffset, recordBytes: RECORD_BYTES }]]),
      retainedBytes: world.high * RECORD_BYTES,
      unsavedBytes: (world.high - world.nextOffset) * RECORD_BYTES,
      recordBytes: RECORD_BYTES,
      oldestUnsavedMs: world.oldestUnsavedMs,
      timeLimitMs: 3_600_000,
    });
  };
  const guard = new RetentionGuard({
    gauge: { look },
    bytesMax,
    clock,
    log,
    contact: { tell: log.warn },
    metrics: createMetrics(),
  });
  const stop = new AbortController();
  const ended = guard.run(stop.signal);
  const messages = (): string[] => log.lines.map(({ message }) => message);
  return { clock, world, guard, stop, ended, messages };
}

test("events are refused near the limit, told when to come again by the pace of saving, and taken again by themselves", async () => {
  const { clock, world, guard, messages } = scene();
  await settled();
  expect(guard.admit(1)).toBeNull();
  world.high = 800;
  await clock.advance(1_000);
  expect(guard.admit(1)).toMatchObject({ reason: "overloaded", stored: "no", retryAfterSeconds: 60 });
  expect(guard.admit(1)?.message).toMatch(
    /holds about 80000 of the 100000 bytes .* nothing is being saved: try again in 60 s/,
  );
  expect(guard.reasons.map(({ what }) => what)).toEqual([expect.stringContaining("new events: refused")]);
  // 2 records a second: 1,600 - 160 bytes too many after a second's saving, 80 records in all.
  for (let second = 0; second < 20; second++) {
    world.nextOffset += 2;
    await clock.advance(1_000);
  }
  expect(guard.admit(1)?.message).toContain("200 bytes are saved a second: try again in 20 s");
  expect(guard.admit(1)?.retryAfterSeconds).toBe(20);
  for (let second = 0; second < 20; second++) {
    expect(guard.admit(1)).not.toBeNull();
    world.nextOffset += 2;
    await clock.advance(1_000);
  }
  expect(guard.admit(1)).toBeNull();
  expect(guard.reasons).toEqual([]);
  expect(messages()).toEqual(["log is full: new events are refused", "log has room again: new events are taken"]);
});

test("a burst between two looks is refused where it would pass the limit, and none of it twice counted", async () => {
  const { clock, world, guard, messages } = scene();
  world.high = 500;
  await clock.advance(1_000);
  for (let n = 0; n < 29; n++) expect(guard.admit(10)).toBeNull();
  // What was refused is not in the log, and is not told of as if it were.
  expect(guard.admit(10)?.message).toContain("the log holds about 79000 of the 100000 bytes");
  expect(guard.admit(1)).toMatchObject({ reason: "overloaded" });
  expect(messages()).toEqual(["log is full: new events are refused"]);
  // Another node's events did not come, and ours are on the log now.
  world.high = 710;
  await clock.advance(1_000);
  expect(guard.admit(10)).toBeNull();
});

test("without a limit nothing is refused, and age is watched all the same", async () => {
  const { clock, world, guard, messages } = scene(0);
  world.high = 1e9;
  world.oldestUnsavedMs = clock.now();
  await clock.advance(1_800_000);
  expect(guard.admit(1)).toBeNull();
  expect(guard.reasons).toEqual([]);
  await clock.advance(20_000);
  expect(guard.admit(1)).toBeNull();
  expect(guard.reasons.map(({ what }) => what)).toEqual([
    expect.stringContaining("the oldest unsaved event is 0.5 h old"),
  ]);
  expect(messages()).toEqual(["unsaved events near the topic's time limit"]);
});

test("while the log does not answer the last look counts, and nothing is asked in a circle", async () => {
  const { clock, world, guard, messages } = scene();
  world.high = 850;
  await clock.advance(1_000);
  world.error = new LogError("retriable", "away");
  await clock.advance(30_000);
  expect(guard.admit(1)).not.toBeNull();
  expect(messages().filter((message) => message === "log not measured")).toHaveLength(3);
  world.error = null;
  world.nextOffset = 850;
  await clock.advance(11_000);
  expect(guard.admit(1)).toBeNull();
});

test("told to stop while the log is silent, it ends at once", async () => {
  const { world, stop, ended, clock } = scene();
  await settled();
  world.hangs = true;
  await clock.advance(2_000);
  stop.abort();
  await expect(ended).rejects.toMatchObject({ name: "AbortError" });
});
