import { beforeEach, expect, test } from "vitest";
import { Lanes } from "../../../apps/sink/lanes.ts";
import { type FakeClock, fakeClock, settled } from "../../support/fake-clock.ts";
import { fetched, keptLog, rawRecord } from "../../support/records.ts";

let orders: string[];
let log: ReturnType<typeof keptLog>;
let clock: FakeClock;
let lanes: Lanes;

beforeEach(() => {
  orders = [];
  log = keptLog();
  clock = fakeClock();
  const reader = {
    pause: (partitions: readonly number[]) => void orders.push(`pause ${partitions}`),
    resume: (partitions: readonly number[]) => void orders.push(`resume ${partitions}`),
    seek: (partition: number, offset: bigint) => void orders.push(`seek ${partition} ${offset}`),
  };
  lanes = new Lanes(reader, clock, log, 10_000);
});

/** 1,000 bytes a record, with what it costs to hold. */
const some = (partition: number, from: number, count: number) =>
  fetched(
    partition,
    Array.from({ length: count }, (_, n) => rawRecord(BigInt(from + n), null, Buffer.alloc(500))),
  );
const begin = (...partitions: number[]): void => {
  lanes.assign(partitions);
  for (const partition of partitions) lanes.lane(partition)?.start(0n);
};
const take = (records: number) => lanes.take(1.1 * records);

test("a lane above its share pauses its partition alone, and resumes below half of it", () => {
  begin(0, 1);
  lanes.push(some(0, 0, 5));
  expect(orders).toEqual([]);
  lanes.push(some(0, 5, 1));
  lanes.push(some(1, 0, 1));
  expect(orders).toEqual(["pause 0"]);
  take(4);
  expect(orders).toEqual(["pause 0"]);
  take(3);
  expect(orders).toEqual(["pause 0", "resume 0"]);
  take(3);
  expect(orders).toEqual(["pause 0", "resume 0"]);
});

test("all lanes together stay within the bound plus a fetch each, however much is there to fetch", () => {
  begin(0, 1, 2, 3);
  const open = new Set([0, 1, 2, 3]);
  for (let round = 0; round < 20; round++)
    for (const partition of open) {
      lanes.push(some(partition, round, 1));
      if (orders.at(-1) === `pause ${partition}`) open.delete(partition);
    }
  expect(open.size).toBe(0);
  const waiting = lanes.partitions.reduce((sum, at) => sum + (lanes.lane(at)?.waitingRecords ?? 0), 0);
  expect(waiting).toBeLessThanOrEqual(10 + 4);
});

test("what is pushed for a partition that is not assigned is forgotten", () => {
  begin(0);
  lanes.push(some(1, 0, 3));
  lanes.revoke([0]);
  lanes.push(some(0, 0, 3));
  expect([lanes.hasNews, lanes.waitingUnits, lanes.partitions]).toEqual([false, 0, []]);
});

test("a fetch that leaves a gap or comes again is not taken; it is told of, and the log read again from where the lane ends", () => {
  begin(0);
  lanes.push(some(0, 0, 2));
  lanes.push(some(0, 3, 2));
  lanes.push(some(0, 1, 2));
  expect(orders).toEqual(["seek 0 2", "seek 0 2"]);
  expect(log.lines).toMatchObject([
    { level: "warn", fields: { partition: 0, fromOffset: 3n, wanted: 2n } },
    { level: "warn", fields: { partition: 0, fromOffset: 1n, wanted: 2n } },
  ]);
  lanes.push(some(0, 2, 3));
  expect(take(10)[0]?.records.map(({ offset }) => offset)).toEqual([0n, 1n, 2n, 3n, 4n]);
});

test("an assignment closes the lanes before it and forgets what was paused", () => {
  begin(0);
  const before = lanes.lane(0);
  lanes.push(some(0, 0, 20));
  begin(0, 1);
  expect(before?.state).toBe("closed");
  expect(lanes.lane(0)).not.toBe(before);
  take(1);
  expect(orders).toEqual(["pause 0"]);
});

test("a lane sent back seeks to its checkpoint and is paused no more", () => {
  begin(0, 1);
  lanes.push(some(0, 0, 20));
  lanes.restart(0, 4n);
  expect(orders).toEqual(["pause 0", "seek 0 4", "resume 0"]);
  expect(lanes.lane(0)?.waitingRecords).toBe(0);
});

test("whoever waits for news wakes by a push, by the time, or by being told to stop", async () => {
  begin(0);
  const stop = new AbortController();
  const woken: string[] = [];
  const wait = (name: string) => lanes.news(1_000, stop.signal).then(() => void woken.push(name));
  const first = wait("push");
  await settled();
  expect(woken).toEqual([]);
  lanes.push(some(0, 0, 1));
  await first;
  await wait("at once");
  take(10);
  const second = wait("time");
  await clock.advance(999);
  expect(woken).toEqual(["push", "at once"]);
  await clock.advance(1);
  await second;
  const third = wait("stop");
  stop.abort();
  await third;
  await wait("stopped already");
  expect(woken).toEqual(["push", "at once", "time", "stop", "stopped already"]);
});
