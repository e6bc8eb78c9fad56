import { expect, test } from "vitest";
import { createMetrics } from "#lib/metrics.ts";
import type { TailEvent } from "../../../apps/query/client-tail.ts";
import type { Verdicts as Answer } from "../../../apps/query/rows.ts";
import { DEADLINE_MS, Verdicts } from "../../../apps/query/verdicts.ts";
import { ManualClock } from "./model.ts";

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

/** A database that is answered for by hand. */
function scene() {
  const asked: { events: readonly TailEvent[]; reply: PromiseWithResolvers<Answer> }[] = [];
  const clock = new ManualClock();
  const metrics = createMetrics();
  const checkpoints = {
    away: false,
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
  const verdicts = new Verdicts({ epoch: 2, partitionOf: () => 0, rows, checkpoints, clock, metrics });
  const unchecked = async (): Promise<number> => (await metrics.queryUncheckedEvents.get()).values[0]?.value ?? 0;
  const answer = async (nth: number, checkpoint: bigint, places: Answer["places"]): Promise<void> => {
    asked[nth]?.reply.resolve({ checkpoints: new Map([[0, checkpoint]]), places });
    await settle();
  };
  return { asked, clock, checkpoints, verdicts, answer, unchecked };
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
