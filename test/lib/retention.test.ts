import { describe, expect, test } from "vitest";
import type { LogRecord, OffsetRange } from "#lib/kafka/ports.ts";
import { OffsetOutOfRange } from "#lib/kafka/ports.ts";
import { createMetrics } from "#lib/metrics.ts";
import { LogGauge } from "#lib/retention.ts";
import { Alarm, ageFault } from "#lib/retention-alarm.ts";
import { type FakeClock, fakeClock } from "../support/fake-clock.ts";
import { keptLog } from "../support/records.ts";

const TOPIC = "t";
const FRAMING_BYTES = 70;
const BATCH_RECORDS = 20n;

/** A log whose record at `offset` has `sizeOf(offset)` bytes and was appended at that many seconds. */
function scene(sizeOf: (offset: bigint) => number, ranges: Record<number, OffsetRange>) {
  const clock: FakeClock = fakeClock();
  const log = {
    ranges: new Map(Object.entries(ranges).map(([partition, range]) => [Number(partition), range])),
    published: new Map<number, bigint>(),
    retentionMs: "-1",
    open: 0,
    trimmedTo: 0n,
    asked: [] as number[],
  };
  const recordAt = (offset: bigint): LogRecord => ({
    offset,
    timestampMs: Number(offset) * 1_000,
    key: Buffer.alloc(8),
    value: Buffer.alloc(sizeOf(offset) - 8),
  });
  /** As a broker answers: the batch asked into, whatever its size, and those behind it that fit whole. */
  const batchesFrom = (from: bigint, high: bigint, bytesMax: number): LogRecord[] => {
    const records: LogRecord[] = [];
    let bytes = 0;
    for (let begin = from - (from % BATCH_RECORDS); begin < high; begin += BATCH_RECORDS) {
      const batch = Array.from({ length: Number(BATCH_RECORDS) }, (_, n) => begin + BigInt(n));
      const size = batch.reduce((sum, offset) => sum + sizeOf(offset), 0);
      if (records.length > 0 && bytes + size > bytesMax) break;
      bytes += size;
      records.push(...batch.filter((offset) => offset >= from && offset < high).map(recordAt));
    }
    return records;
  };
  const gauge = new LogGauge({
    identity: { epoch: 1, topic: TOPIC, partitions: log.ranges.size },
    control: {
      checkpoint: (_epoch, partition) => {
        const nextOffset = log.published.get(partition);
        return nextOffset === undefined ? undefined : { nextOffset, atMs: 0 };
      },
    },
    admin: {
      offsets: () => Promise.resolve(new Map(log.ranges)),
      facts: () => Promise.resolve({ partitions: 1, replication: 1, config: { "retention.ms": log.retentionMs } }),
    },
    openReader: () => {
      log.open++;
      return Promise.resolve({
        fetch: ({ offsets, maxBytes }) => {
          const [[partition, from]] = [...offsets] as [[number, bigint]];
          log.asked.push(partition);
          const range = log.ranges.get(partition) ?? { low: 0n, high: 0n };
          if (from < log.trimmedTo) return Promise.reject(new OffsetOutOfRange(TOPIC, partition, from, range));
          const records = batchesFrom(from, range.high, maxBytes);
          const end = (records.at(-1)?.offset ?? from) + 1n;
          return Promise.resolve([
            { partition, fromOffset: from, records, nextOffset: end, highWatermark: range.high, logStart: range.low },
          ]);
        },
        close: () => {
          log.open--;
          return Promise.resolve();
        },
      });
    },
    clock,
    metrics: createMetrics(),
  });
  return { gauge, log, clock };
}

describe("the log's fill", () => {
  test("is its records times their mean size, saved or not by the last published checkpoint", async () => {
    const { gauge, log } = scene(() => 130, { 0: { low: 100n, high: 1_100n }, 1: { low: 0n, high: 500n } });
    log.published.set(0, 600n);
    const fill = await gauge.look();
    expect(fill.retainedBytes).toBe(1_500 * (130 + FRAMING_BYTES));
    expect(fill.unsavedBytes).toBe(1_000 * (130 + FRAMING_BYTES));
    expect(fill.oldestUnsavedMs).toBe(0);
    log.published.set(0, 50n);
    log.published.set(1, 700n);
    const { unsavedBytes } = await gauge.look();
    expect(unsavedBytes).toBe(1_000 * (130 + FRAMING_BYTES));
  });

  test("follows what is met, so that few large records count as much as many small ones", async () => {
    // The second half's records are a hundred times larger. A mean over all that was fetched would hardly see them.
    const { gauge, clock } = scene((offset) => (offset < 5_000n ? 30 : 9_930), { 0: { low: 0n, high: 10_000n } });
    let place = 0;
    clock.random = () => (place++ % 2 === 0 ? 0.2 : 0.8);
    const trueBytes = 5_000 * (30 + FRAMING_BYTES) + 5_000 * (9_930 + FRAMING_BYTES);
    for (let round = 0; round < 30; round++) {
      await gauge.look();
      await clock.advance(30_000);
    }
    const { retainedBytes } = await gauge.look();
    expect(retainedBytes / trueBytes).toBeGreaterThan(0.8);
    expect(retainedBytes / trueBytes).toBeLessThan(1.2);
  });

  test("is right within a few per cent where small and large records lie side by side", async () => {
    const large = 20_000;
    const { gauge, clock } = scene((offset) => (offset % 10n === 0n ? large : 130), { 0: { low: 0n, high: 100_000n } });
    let place = 0;
    clock.random = () => (place++ % 997) / 997;
    for (let round = 0; round < 60; round++) {
      await gauge.look();
      await clock.advance(30_000);
    }
    const { recordBytes } = await gauge.look();
    const trueBytes = large / 10 + 130 * 0.9 + FRAMING_BYTES;
    expect(recordBytes / trueBytes).toBeGreaterThan(0.9);
    expect(recordBytes / trueBytes).toBeLessThan(1.1);
  });

  test("is looked up in samples now and then, in turns where partitions are many, and no reader stays open", async () => {
    const ranges = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [n, { low: 0n, high: 5n }]));
    const { gauge, log, clock } = scene(() => 100, ranges);
    await gauge.look();
    await gauge.look();
    expect(new Set(log.asked).size).toBe(16);
    for (let round = 0; round < 2; round++) {
      await clock.advance(30_000);
      await gauge.look();
    }
    expect(new Set(log.asked).size).toBe(40);
    expect(log.open).toBe(0);
  });

  test("of a log that is trimmed between two questions is told all the same", async () => {
    const { gauge, log, clock } = scene(() => 100, { 0: { low: 0n, high: 100n } });
    const { retainedBytes } = await gauge.look();
    await clock.advance(30_000);
    log.trimmedTo = 90n;
    expect((await gauge.look()).retainedBytes).toBe(retainedBytes);
    log.ranges.set(0, { low: 90n, high: 100n });
    expect((await gauge.look()).retainedBytes).toBe(retainedBytes / 10);
    expect(log.open).toBe(0);
  });

  test("knows no age of what has been saved meanwhile", async () => {
    const { gauge, log, clock } = scene(() => 100, { 0: { low: 0n, high: 100n } });
    log.published.set(0, 40n);
    expect((await gauge.look()).oldestUnsavedMs).toBe(40_000);
    log.published.set(0, 100n);
    expect((await gauge.look()).oldestUnsavedMs).toBeNull();
    log.published.set(0, 30n);
    await clock.advance(30_000);
    expect((await gauge.look()).oldestUnsavedMs).toBe(30_000);
  });

  test("tells of a time limit that a platform sets while roles run", async () => {
    const { gauge, log, clock } = scene(() => 100, { 0: { low: 0n, high: 100n } });
    expect((await gauge.look()).timeLimitMs).toBeNull();
    log.retentionMs = "3600000";
    await clock.advance(10 * 60_000);
    expect((await gauge.look()).timeLimitMs).toBe(3_600_000);
  });
});

describe("an alarm", () => {
  test("is raised when the oldest unsaved event is older than half the topic's time limit", () => {
    const fill = { partitions: new Map(), retainedBytes: 0, unsavedBytes: 0, recordBytes: 1, oldestUnsavedMs: 1_000 };
    expect(ageFault({ ...fill, timeLimitMs: 7_200_000 }, 3_601_000)).toBeNull();
    expect(ageFault({ ...fill, timeLimitMs: 7_200_000 }, 3_601_001)).toMatch(
      /1.0 h old.* retention.ms deletes it at 2.0 h/,
    );
    expect(ageFault({ ...fill, timeLimitMs: null }, 1e15)).toBeNull();
    expect(ageFault({ ...fill, oldestUnsavedMs: null, timeLimitMs: 1 }, 1e15)).toBeNull();
  });

  test("is said once when it begins and once when it ends, and told of since when meanwhile", async () => {
    const [clock, log] = [fakeClock(), keptLog()];
    const alarm = new Alarm("it began", "it ended", { log, clock });
    alarm.set(null, {});
    const begunMs = clock.now();
    alarm.set("bad", { n: 1 });
    await clock.advance(5_000);
    alarm.set("worse", { n: 2 });
    expect(alarm.reasons).toEqual([{ what: "worse", sinceMs: begunMs }]);
    alarm.set(null, { n: 3 });
    expect(alarm.reasons).toEqual([]);
    expect(log.lines.map(({ level, message }) => `${level}: ${message}`)).toEqual(["warn: it began", "info: it ended"]);
    expect(log.lines[1]?.fields).toEqual({ n: 3, afterMs: 5_000 });
  });
});
