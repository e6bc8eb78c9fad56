/** Sinks of one database go on from one memory of what it costs at rest. Here the database is a variable, and time virtual. */
import { describe, expect, test } from "vitest";
import { AdaptiveController, type Controller, type Memory, type Sample } from "../../../apps/sink/controller.ts";
import { SHARE_EVERY_MS, Sharing } from "../../../apps/sink/memory.ts";
import { CALM, simulate } from "../../../bench/throttle/simulated.ts";
import { seeded } from "../../promises/support/workload.ts";

/** What the database holds, as old as it is by now. */
class Kept {
  #held: Partial<Record<Sample["way"], { cost: number; learnedAtMs: number }>> = {};
  #stretch: number | null = null;

  at(nowMs: number): Memory {
    return Object.fromEntries(
      Object.entries(this.#held).map(([way, { cost, learnedAtMs }]) => [way, { cost, ageMs: nowMs - learnedAtMs }]),
    );
  }

  share(sharing: Sharing, nowMs: number): void {
    const told = Object.entries(sharing.compare(this.at(nowMs), nowMs));
    const held = told.map(([way, { cost, ageMs }]) => [way, { cost, learnedAtMs: nowMs - ageMs }]);
    this.#held = { ...this.#held, ...Object.fromEntries(held) };
  }

  /** @param part of the partitions */
  join(sharing: Sharing, part: number, nowMs: number): void {
    this.#stretch = sharing.join(this.#stretch, part, nowMs) ?? this.#stretch;
  }
}

/** A sink that compares what it knows once a second, beginning at a time of its own. @param part of the partitions */
function sharer(kept: Kept, firstMs: number, part = 0): { controller: Controller; adaptive: AdaptiveController } {
  const adaptive = new AdaptiveController();
  const sharing = new Sharing(adaptive);
  let dueMs = firstMs;
  const controller: Controller = {
    decide: (urgency) => adaptive.decide(urgency),
    observe: (sample) => {
      adaptive.observe(sample);
      if (sample.atMs < dueMs) return;
      dueMs = sample.atMs + SHARE_EVERY_MS;
      kept.share(sharing, sample.atMs);
      kept.join(sharing, part, sample.atMs);
    },
  };
  return { controller, adaptive };
}

const batch = (atMs: number, rowsMs: number): Sample => ({
  atMs,
  way: "copy",
  units: 5_000,
  tripMs: 0.2,
  rowsMs,
  trips: 2,
  totalMs: rowsMs + 5,
});

function jainOf(rates: readonly number[]): number {
  const sum = rates.reduce((total, one) => total + one, 0);
  return sum ** 2 / (rates.length * rates.reduce((total, one) => total + one ** 2, 0));
}

describe("sinks of which some have seen the database free", () => {
  const ALONE_MS = 10_000;
  const TOGETHER_MS = 40_000;

  /** Half of them work by themselves, one after the other; then all, and the other half knows nothing. */
  function rates(seed: number, make: (n: number) => Controller): number[] {
    const random = seeded(seed);
    const count = [4, 8][seed % 2] as number;
    const togetherMs = (count / 2) * ALONE_MS;
    const controllers = Array.from({ length: count }, (_, n) => make(n));
    const shift = (n: number, fromMs: number, toMs: number) => ({
      controller: controllers[n] as Controller,
      fromMs,
      toMs,
    });
    const alone = Array.from({ length: count / 2 }, (_, n) => shift(n, n * ALONE_MS, (n + 1) * ALONE_MS));
    const all = controllers.map((_, n) => shift(n, togetherMs, togetherMs + TOGETHER_MS));
    const batches = simulate(
      { ...CALM, random, jitter: 0.05 + 0.1 * random() },
      [...alone, ...all],
      togetherMs + TOGETHER_MS,
    );
    return controllers.map((_, n) =>
      batches
        .filter(({ sink, endedAtMs }) => sink === alone.length + n && endedAtMs > togetherMs + 5_000)
        .reduce((sum, { units }) => sum + units, 0),
    );
  }

  test("share it evenly with those that have not", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const kept = new Kept();
      const shared = rates(seed, (n) => sharer(kept, n * 137).controller);
      expect(jainOf(shared), `seed ${seed}`).toBeGreaterThan(0.99);
      // And by themselves they do not.
      expect(jainOf(rates(seed, () => new AdaptiveController())), `seed ${seed}`).toBeLessThan(0.98);
    }
  });
});

test("what one finds to be cheaper all know two seconds later", () => {
  const kept = new Kept();
  const sinks = Array.from({ length: 4 }, (_, n) => sharer(kept, n * 250));
  let now = 0;
  for (; now < 30_000; now += 100) for (const { controller } of sinks) controller.observe(batch(now, 200));
  const [first, ...others] = sinks;
  for (const end = now + 2_000; now < end; now += 100) {
    first?.controller.observe(batch(now, 70));
    for (const { controller } of others) controller.observe(batch(now, 200));
  }
  for (const { adaptive } of others) expect(adaptive.decide(0).stretch).toBeGreaterThan(2.5);
});

test.each([1, 4, 16])("in %i sinks it ages as it would in one, by the half-life of ten minutes", (count) => {
  const kept = new Kept();
  const sinks = Array.from({ length: count }, (_, n) => sharer(kept, n * 61));
  let now = 0;
  for (; now < 10_000; now += 200) for (const { controller } of sinks) controller.observe(batch(now, 70));
  for (const end = now + 600_000; now < end; now += 200)
    for (const { controller } of sinks) controller.observe(batch(now, 420));
  const cost = (ms: number): number => (ms - 0.4) / 5_000;
  for (const { adaptive } of sinks)
    expect((adaptive.memory.copy?.cost ?? 0) / ((cost(70) + cost(420)) / 2)).toBeCloseTo(1, 1);
});

test("a sink with nothing to save holds nobody to what it knew", () => {
  const kept = new Kept();
  const [idle, busy] = [sharer(kept, 0), sharer(kept, 500)];
  for (let now = 0; now < 10_000; now += 200) idle.controller.observe(batch(now, 70));
  const idleSharing = new Sharing(idle.adaptive);
  idleSharing.compare(kept.at(10_000), 10_000);
  for (let now = 10_000; now < 1_810_000; now += 200) {
    busy.controller.observe(batch(now, 420));
    if (now % 60_000 === 0) kept.share(idleSharing, now);
  }
  // Three half-lives.
  expect(busy.adaptive.decide(0).stretch).toBeLessThan(6 / (1 + 5 * 0.86));
  expect(idle.adaptive.memory.copy?.cost).toBeCloseTo(busy.adaptive.memory.copy?.cost ?? 0, 3);
});

test("nor does one without a batch forget for all: what is kept stays as young as somebody is there", () => {
  const kept = new Kept();
  const adaptive = new AdaptiveController();
  const sharing = new Sharing(adaptive);
  for (let now = 0; now < 2_000; now += 200) adaptive.observe(batch(now, 70));
  for (let now = 2_000; now < 8 * 3_600_000; now += 1_000)
    if (sharing.news || now % 60_000 === 0) kept.share(sharing, now);
  expect(kept.at(8 * 3_600_000).copy?.ageMs).toBeLessThan(121_000);
});

describe("sinks of which one feels less than the others, by luck or since its rows are cheaper", () => {
  const SINKS = 4;

  /** Batches of each, by turns; those of the first cost half. */
  function decisions(part: number): ReturnType<Controller["decide"]>[] {
    const kept = new Kept();
    const sinks = Array.from({ length: SINKS }, (_, n) => sharer(kept, n * 250, part));
    for (let now = 0; now < 40_000; now += 200)
      for (const [n, { controller }] of sinks.entries())
        controller.observe(batch(now, now < 10_000 ? 70 : n === 0 ? 210 : 420));
    return sinks.map(({ controller }) => controller.decide(0));
  }

  test("rest alike, for what all of them feel", () => {
    const stretches = decisions(1 / SINKS).map(({ stretch }) => stretch);
    // The mean of logarithms.
    for (const stretch of stretches) expect(stretch / (6 / 2 ** (1 / SINKS))).toBeCloseTo(1, 0);
    expect(Math.max(...stretches) / Math.min(...stretches)).toBeLessThan(1.2);
    // And by themselves they do not.
    const [lucky, other] = decisions(0).map(({ stretch }) => stretch);
    expect((other ?? 0) / (lucky ?? 0)).toBeGreaterThan(1.9);
  });

  test("and one that others do not hear of any more goes by itself", () => {
    const kept = new Kept();
    const [alone, other] = [sharer(kept, 0, 0.5), sharer(kept, 0, 0.5)];
    for (let now = 0; now < 20_000; now += 200)
      for (const { controller } of [alone, other])
        controller.observe(batch(now, now > 10_000 && controller === other.controller ? 420 : 70));
    expect(alone.controller.decide(0).stretch).toBeGreaterThan(1.7);
    for (let now = 20_000; now < 20_600; now += 200) alone.adaptive.observe(batch(now + 6_000, 70));
    expect(alone.controller.decide(0).stretch).toBeCloseTo(1, 1);
  });
});
