import { describe, expect, test } from "vitest";
import { LogError } from "#lib/kafka/ports.ts";
import { Barrier, roundOf } from "../../../apps/query/barrier.ts";
import { contactWith } from "../../support/records.ts";
import { ManualClock, quiet } from "./model.ts";

/** A log whose rounds are answered by hand. */
function scene() {
  const rounds: PromiseWithResolvers<ReadonlyMap<number, bigint>>[] = [];
  const clock = new ManualClock();
  const contact = contactWith(quiet, clock);
  const barrier = new Barrier(
    () => {
      const round = Promise.withResolvers<ReadonlyMap<number, bigint>>();
      rounds.push(round);
      return round.promise;
    },
    clock,
    contact,
  );
  const answer = async (nth: number, mark: bigint): Promise<void> => {
    rounds[nth]?.resolve(new Map([[0, mark]]));
    await settle();
  };
  return { rounds, clock, contact, barrier, answer };
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

test("a read joins only a round that starts after it arrived, and a crowd shares one", async () => {
  const { rounds, barrier, answer, clock } = scene();
  const first = barrier.mark(0, 1_000);
  const crowd = Array.from({ length: 1_000 }, () => barrier.mark(0, 1_000));
  expect(rounds).toHaveLength(1);
  await answer(0, 5n);
  expect(await first).toBe(5n);
  expect(rounds).toHaveLength(2);
  const late = barrier.mark(0, 1_000);
  await answer(1, 6n);
  expect(new Set(await Promise.all(crowd))).toEqual(new Set([6n]));
  await answer(2, 7n);
  expect(await late).toBe(7n);
  expect(clock.timers).toBe(0);
});

test("a failed round is tried again until the deadline, and no longer", async () => {
  const { rounds, barrier, answer, clock } = scene();
  const read = barrier.mark(0, 1_000);
  rounds[0]?.reject(new LogError("retriable", "leader not available"));
  await settle();
  clock.advance(50);
  await settle();
  await answer(1, 3n);
  expect(await read).toBe(3n);
  const doomed = barrier.mark(0, clock.elapsed() + 40);
  rounds[2]?.reject(new LogError("retriable", "leader not available"));
  await expect(doomed).rejects.toThrow("leader not available");
});

test("a silent log ends the wait at the deadline; those who come later ask anew", async () => {
  const { rounds, barrier, clock, answer } = scene();
  const read = barrier.mark(0, 100);
  clock.advance(100);
  await expect(read).rejects.toThrow("did not answer in time");
  const patient = barrier.mark(0, 1_000);
  expect(rounds).toHaveLength(1);
  await answer(0, 1n);
  await answer(1, 2n);
  expect(await patient).toBe(2n);
  expect(clock.timers).toBe(0);
});

test.each([
  [500, "behind"],
  // Of a reader's second, as it comes through HTTP.
  [999, "log-unreachable"],
])("a silent log is away only for who waited about a second: after %i ms it is %s", async (waitMs, code) => {
  const { barrier, clock } = scene();
  const read = barrier.mark(0, waitMs);
  clock.advance(waitMs);
  await expect(read).rejects.toMatchObject({ code });
});

test("a partition that the answer leaves out is no mark", async () => {
  const { barrier, rounds } = scene();
  const read = barrier.mark(7, 10);
  rounds[0]?.resolve(new Map([[0, 1n]]));
  await expect(read).rejects.toThrow("partition 7");
});

test("a log that is silent is found out within five seconds though nobody reads, and so is its return", async () => {
  const { rounds, clock, contact, barrier, answer } = scene();
  const stop = new AbortController();
  const ended = barrier.run(stop.signal);
  clock.advance(1_000);
  await settle();
  await answer(0, 1n);
  // From here on it is frozen.
  const fromMs = clock.now();
  while (contact.reasons("read barrier").length === 0) {
    clock.advance(100);
    await settle();
  }
  expect(clock.now() - fromMs).toBeLessThanOrEqual(5_000);
  expect(rounds).toHaveLength(2);
  await answer(1, 1n);
  expect(contact.reasons("read barrier")).toEqual([]);
  stop.abort();
  clock.advance(1_000);
  await ended;
  expect(clock.timers).toBe(0);
});

test("a read that is refused for the log's silence is evidence of it, at once", async () => {
  const { clock, contact, barrier } = scene();
  const read = barrier.mark(0, 1_000);
  clock.advance(1_000);
  await expect(read).rejects.toMatchObject({ code: "log-unreachable" });
  expect(contact.reasons("read barrier")).toEqual([
    { what: expect.stringMatching(/^log: no answer from kafka-1:9092,kafka-2:9092 \(read barrier: /), sinceMs: 1_000 },
  ]);
});

describe("a round", () => {
  const ends = () => Promise.resolve(new Map([[0, 5n]]));

  test("counts only once the control topic was read to its end: another log may be in use", async () => {
    const read = Promise.withResolvers<void>();
    let marks: ReadonlyMap<number, bigint> | null = null;
    const round = roundOf(
      ends,
      () => read.promise,
      () => Promise.resolve(),
    )().then((found) => {
      marks = found;
    });
    await settle();
    expect(marks).toBeNull();
    read.resolve();
    await round;
    expect(marks).toEqual(new Map([[0, 5n]]));
  });

  test("is none when the control topic cannot be read, or the log may be another one", async () => {
    const away = () => Promise.reject(new LogError("retriable", "away"));
    await expect(roundOf(ends, away, () => Promise.resolve())()).rejects.toThrow("away");
    await expect(roundOf(ends, () => Promise.resolve(), away)()).rejects.toThrow("away");
  });
});
