import { expect, test } from "vitest";
import { createMetrics } from "#lib/metrics.ts";
import type { TailEvent } from "../../../apps/query/client-tail.ts";
import type { Verdicts as Answer } from "../../../apps/query/rows.ts";
import { Tail } from "../../../apps/query/tail.ts";
import { DEADLINE_MS, Verdicts } from "../../../apps/query/verdicts.ts";
import { ManualClock, quiet } from "./model.ts";

const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

const eventAt = (offset: bigint, previous = -1n): TailEvent => ({
  clientId: "a",
  offset,
  id: `id-${offset}`,
  type: "x",
  occurredAtMs: 0,
  json: "{}",
  bytes: 0,
  previous,
  verdict: "open",
});

/** A database that is answered for by hand. The log has a partition 0, and a partition 1 of clients that begin with `other`. */
function scene({ start = 0n, logStart = 0n, succeeds = false } = {}) {
  const asked: { events: readonly TailEvent[]; reply: PromiseWithResolvers<Answer> }[] = [];
  const clock = new ManualClock();
  const metrics = createMetrics();
  const starts = new Map([0, 1].map((partition) => [partition, { start, logStart }]));
  const tail = new Tail({ bytesMax: 1 << 30, log: quiet, clock, metrics }, starts);
  const checkpoints = {
    away: false,
    observe: tail.observe.bind(tail),
    failed: (): boolean => {
      checkpoints.away = true;
      return true;
    },
  };
  const rows = {
    verdicts: (_epoch: number, events: readonly TailEvent[]): Promise<Answer> => {
      const reply = Promise.withResolvers<Answer>();
      asked.push({ events, reply });
      return reply.promise;
    },
  };
  const partitionOf = (clientId: string): number => (clientId.startsWith("other") ? 1 : 0);
  const verdicts = new Verdicts({ epoch: 2, succeeds, partitionOf, rows, tail, checkpoints, clock, metrics });
  const unchecked = async (): Promise<number> => (await metrics.queryUncheckedEvents.get()).values[0]?.value ?? 0;
  /** @param checkpoint of both partitions, unless that of the second is given; null: none */
  const answer = async (
    nth: number,
    checkpoint: bigint | null,
    places: Answer["places"],
    second = checkpoint,
  ): Promise<void> => {
    const shown = [checkpoint, second].flatMap((one, partition) => (one === null ? [] : [[partition, one] as const]));
    asked[nth]?.reply.resolve({ checkpoints: new Map(shown), places });
    await settle();
  };
  return { asked, clock, tail, checkpoints, verdicts, answer, unchecked };
}

test("an event is a copy of a saved row at a lower position or of a tail record, and of nothing else", async () => {
  const { verdicts, answer, unchecked } = scene();
  const [new_, savedItself, ofRow, ofOldLog, ofTail, ofErased] = [
    eventAt(10n),
    eventAt(11n),
    eventAt(12n),
    eventAt(13n),
    eventAt(14n, 10n),
    eventAt(15n, 4n),
  ] as const;
  const all = [new_, savedItself, ofRow, ofOldLog, ofTail, ofErased];
  verdicts.ask(all);
  await answer(0, 9n, [
    null,
    { epoch: 2, offset: 11n },
    { epoch: 2, offset: 8n },
    { epoch: 1, offset: 99n },
    null,
    null,
  ]);
  expect(all.map(({ verdict }) => verdict)).toEqual(["first", "first", "copy", "copy", "copy", "first"]);
  expect(await unchecked()).toBe(0);
});

test("a copy that the sink passed over is none the less, when the first copy's row was erased since", async () => {
  const { verdicts, answer } = scene();
  const [passedOver, erasedToo, storedLater, unsaved] = [
    eventAt(10n),
    eventAt(11n),
    eventAt(12n),
    eventAt(20n),
  ] as const;
  verdicts.ask([passedOver, erasedToo, storedLater, unsaved]);
  await answer(0, 20n, [null, null, { epoch: 2, offset: 15n }, null]);
  const all = [passedOver, erasedToo, storedLater, unsaved];
  expect(all.map(({ verdict }) => verdict)).toEqual(["copy", "copy", "copy", "first"]);
});

test("one batch is in flight, and what comes meanwhile makes the next", async () => {
  const { verdicts, asked, answer } = scene();
  verdicts.ask([eventAt(1n)]);
  verdicts.ask([eventAt(2n)]);
  verdicts.ask([eventAt(3n)]);
  expect(asked.map(({ events }) => events.length)).toEqual([1]);
  await answer(0, 0n, [null]);
  expect(asked.map(({ events }) => events.length)).toEqual([1, 2]);
});

test("no event waits longer than the deadline, whoever is in flight; the late answer ends the emergency", async () => {
  const { verdicts, asked, answer, clock, unchecked } = scene();
  const told: string[][] = [];
  verdicts.onDecided = (clientIds) => void told.push([...clientIds]);
  const [inFlight, behind, copy, later] = [eventAt(1n), eventAt(2n), eventAt(3n, 1n), eventAt(4n)];
  verdicts.ask([inFlight]);
  verdicts.ask([behind, copy]);
  clock.advance(DEADLINE_MS);
  expect([inFlight, behind, copy].map(({ verdict }) => verdict)).toEqual(["first", "first", "copy"]);
  verdicts.ask([later]);
  expect(later.verdict).toBe("first");
  expect(asked).toHaveLength(1);
  expect(await unchecked()).toBe(4);
  expect(told).toEqual([["a"], ["a"]]);
  await answer(0, 0n, [{ epoch: 1, offset: 0n }]);
  expect(inFlight.verdict).toBe("first");
  const normal = eventAt(5n);
  verdicts.ask([normal]);
  await answer(1, 0n, [{ epoch: 1, offset: 0n }]);
  expect(normal.verdict).toBe("copy");
});

test("with the database away, events are decided at once", async () => {
  const { verdicts, asked, checkpoints, clock } = scene();
  const [lost, waiting, next] = [eventAt(1n), eventAt(2n), eventAt(3n)];
  verdicts.ask([lost]);
  verdicts.ask([waiting]);
  asked[0]?.reply.reject(new Error("connection terminated"));
  await settle();
  expect([lost.verdict, waiting.verdict, checkpoints.away]).toEqual(["first", "first", true]);
  verdicts.ask([next]);
  expect(next.verdict).toBe("first");
  expect(asked).toHaveLength(1);
  expect(clock.timers).toBe(0);
});

test("where a checkpoint went back, nothing is decided: the tail begins anew there", async () => {
  for (const [checkpoint, from] of [
    [4n, 4n],
    [null, 3n],
  ] as const) {
    const { verdicts, tail, answer, unchecked } = scene({ start: 10n, logStart: 3n });
    const told: string[][] = [];
    verdicts.onDecided = (clientIds) => void told.push([...clientIds]);
    const [rewound, other] = [eventAt(12n), { ...eventAt(12n), clientId: "other" }];
    verdicts.ask([rewound, other]);
    await answer(0, checkpoint, [null, null], 10n);
    expect([rewound.verdict, other.verdict, told]).toEqual(["asked", "first", [["other"]]]);
    expect([tail.partition(0).start, tail.partition(0).next, tail.partition(1).start]).toEqual([from, from, 10n]);
    expect(await unchecked()).toBe(0);
  }
});

test("a checkpoint that merely came late is none that went back", async () => {
  const { verdicts, tail, answer } = scene({ start: 10n });
  const [before, after] = [eventAt(20n), eventAt(21n, 15n)];
  verdicts.ask([before, after]);
  tail.partition(0).append([], 30n);
  tail.partition(0).evict(18n);
  await answer(0, 12n, [{ epoch: 2, offset: 5n }, null]);
  expect([before.verdict, after.verdict, tail.partition(0).start]).toEqual(["copy", "copy", 18n]);
});

test("where nothing was ever saved, the log's own start is no checkpoint that went back", async () => {
  const { verdicts, answer } = scene({ start: 7n, logStart: 7n });
  const [first, copy] = [eventAt(8n), eventAt(9n, 8n)];
  verdicts.ask([first, copy]);
  await answer(0, null, [null, null]);
  expect([first.verdict, copy.verdict]).toEqual(["first", "copy"]);
});

test("while the log before is being saved nothing is decided: a row of it may still precede an event", async () => {
  const { verdicts, answer, clock, unchecked } = scene({ succeeds: true });
  const event = eventAt(0n);
  const told: string[] = [];
  verdicts.onDecided = (clientIds) => told.push(...clientIds);
  verdicts.ask([event]);
  await answer(0, null, [null]);
  expect(event.verdict).toBe("open");
  clock.advance(100);
  // Its followers ask again then.
  expect(told).toEqual(["a"]);
  verdicts.ask([event]);
  await answer(1, 0n, [{ epoch: 1, offset: 7n }]);
  expect(event.verdict).toBe("copy");
  expect(await unchecked()).toBe(0);
});
