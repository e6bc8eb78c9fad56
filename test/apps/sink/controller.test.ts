/**
 * The controller in a simulated database: thousands of worlds with random costs, jitter and loads. What is expected comes
 * from the model's own arithmetic, never from what came out.
 */
import { describe, expect, test } from "vitest";
import { AdaptiveController, REST_MS_MAX, UNITS_MAX, UNITS_MIN } from "../../../apps/sink/controller.ts";
import { ErrorLimiter, EwmaLimiter, fixed } from "../../../bench/throttle/rivals.ts";
import {
  CALM,
  COMMIT_MS,
  COPY_MS,
  MOVE_MS,
  type SimulatedBatch,
  simulate,
  UNIT_MS,
  type World,
} from "../../../bench/throttle/simulated.ts";

import { seeded } from "../../promises/support/workload.ts";

const SEEDS = 300;

const adaptive = () => ({ controller: new AdaptiveController() });

/** Units saved a second by batches that ended in this time. */
const rate = (batches: readonly SimulatedBatch[], fromMs: number, toMs: number): number =>
  batches
    .filter(({ endedAtMs }) => endedAtMs >= fromMs && endedAtMs < toMs)
    .reduce((sum, { units }) => sum + units, 0) /
  ((toMs - fromMs) / 1_000);

/** Share of this time that was spent in batches. */
const duty = (batches: readonly SimulatedBatch[], fromMs: number, toMs: number): number =>
  batches.reduce(
    (sum, { beganAtMs, endedAtMs }) => sum + Math.max(0, Math.min(toMs, endedAtMs) - Math.max(fromMs, beganAtMs)),
    0,
  ) /
  (toMs - fromMs);

/** What a batch takes when one sink works at this slowness, by the model. */
const batchMs = (size: number, slowness: number, tripMs: number): number =>
  5 * tripMs + slowness * (MOVE_MS + COPY_MS + size * UNIT_MS + COMMIT_MS);

/** Each seed has its own costs; a failure names it. */
function inEveryWorld(check: (world: World, seed: number) => void, seeds = SEEDS): void {
  for (let seed = 1; seed <= seeds; seed++) {
    const random = seeded(seed);
    const cost = 0.5 + 2 * random();
    const world = { ...CALM, random, slowness: () => cost, jitter: 0.02 + 0.2 * random() };
    try {
      check(world, seed);
    } catch (cause) {
      throw new Error(`seed ${seed}: ${(cause as Error).message}`, { cause });
    }
  }
}

describe("a free database", () => {
  test("gets the largest batches that take 150 ms, and no rest", () => {
    inEveryWorld((world) => {
      const batches = simulate(world, [adaptive()], 30_000);
      const cost = world.slowness(0);
      const size = Math.min(UNITS_MAX, 150 / (cost * UNIT_MS));
      const best = (size / batchMs(size, cost, 0.2)) * 1_000;
      expect(rate(batches, 10_000, 30_000) / best).toBeGreaterThan(0.9);
      expect(duty(batches, 10_000, 30_000)).toBeGreaterThan(0.97);
    });
  });

  test("is found to be free after its table was locked for the very first batch, whatever the size of a record", () => {
    for (const record of [1, 1.3, 2.7, 14, 40]) {
      const controller = new AdaptiveController();
      controller.observe({
        atMs: 8_000,
        way: "copy",
        units: 200,
        tripMs: 0.2,
        rowsMs: 8_000,
        trips: 2,
        totalMs: 8_010,
      });
      for (let n = 0; n < 20; n++) {
        const size = Math.max(1, Math.floor(controller.decide(0).unitsMax / record)) * record;
        const rowsMs = COPY_MS + size * UNIT_MS;
        controller.observe({
          atMs: 8_100 + n * 100,
          way: "copy",
          units: size,
          tripMs: 0.2,
          trips: 2,
          rowsMs,
          totalMs: rowsMs + 3,
        });
      }
      expect(controller.decide(0).unitsMax, `records of ${record} units`).toBe(UNITS_MAX);
    }
  });

  test("is not thought busy for a checkpoint's spike, growing indexes or jitter", () => {
    inEveryWorld((world) => {
      const calm = world.slowness(0);
      // Twice the cost within an hour of rows, and a second of threefold cost now and then.
      const slowness = (ms: number): number => calm * (1 + ms / 3_600_000) * (ms % 30_000 < 1_000 ? 3 : 1);
      const batches = simulate({ ...world, slowness }, [adaptive()], 300_000);
      expect(duty(batches, 10_000, 300_000)).toBeGreaterThan(0.95);
    }, 100);
  });

  test("is not thought busy when batches are small, large and small again", () => {
    inEveryWorld((world) => {
      const random = world.random;
      const perSecond = 2_000 + 30_000 * random();
      // Ten seconds of a trickle, then as much at once as a minute brings, and so on.
      const arrived = (ms: number): number => {
        const round = Math.floor(ms / 20_000);
        return (ms / 1_000) * 300 + (round + (ms % 20_000 > 10_000 ? 1 : 0)) * perSecond;
      };
      const batches = simulate({ ...world, arrived, jitter: 0.05 }, [adaptive()], 120_000);
      expect(batches.reduce((sum, { restMs }) => sum + restMs, 0)).toBeLessThan(0.01 * 120_000);
    }, 100);
  });

  test("is never rested for while records only trickle in, however busy it is", () => {
    inEveryWorld((world) => {
      const busy = { ...world, others: (ms: number) => (ms > 5_000 ? 10 * world.random() : 0) };
      const arrived = (ms: number): number => (ms / 1_000) * UNITS_MIN;
      const batches = simulate({ ...busy, arrived }, [adaptive()], 30_000);
      expect(Math.max(...batches.map(({ restMs }) => restMs))).toBe(0);
    }, 100);
  });

  test("a network of 50 ms is not the database's fault: it costs less than a fifth of what a fixed size of 5,000 saves", () => {
    inEveryWorld((world) => {
      const far = { ...world, roundTripMs: (ms: number) => (ms < 10_000 ? 0.2 : 50) };
      const ours = rate(simulate(far, [adaptive()], 40_000), 15_000, 40_000);
      const theirs = rate(simulate(far, [{ controller: fixed(5_000) }], 40_000), 15_000, 40_000);
      expect(ours / theirs).toBeGreaterThan(0.8);
    }, 100);
  });
});

test("a distant database that is sent an event twice in each batch gets batches as large as a near one", () => {
  const STAGED_MS = 0.028;
  for (const tripMs of [0.2, 30, 50, 200]) {
    const controller = new AdaptiveController();
    for (let n = 0; n < 100; n++) {
      const { unitsMax: units } = controller.decide(0);
      const rowsMs = 4 * tripMs + 1 + units * STAGED_MS;
      const atMs = n * (rowsMs + 4 * tripMs);
      controller.observe({ atMs, way: "stage", units, tripMs, rowsMs, trips: 4, totalMs: rowsMs + 3 * tripMs });
    }
    expect(controller.decide(0).unitsMax, `${tripMs} ms away`).toBeGreaterThan(0.9 * (150 / STAGED_MS));
  }
});

describe("a busy database", () => {
  const STEP_MS = 20_000;
  const LEAVE_MS = 50_000;
  const busy = (world: World, others: number): World => ({
    ...world,
    others: (ms) => (ms >= STEP_MS && ms < LEAVE_MS ? others : 0),
  });

  test("is rested for by what the model says, from a second after the step, and never more than half of the time", () => {
    inEveryWorld((world) => {
      const others = 2 + Math.floor(8 * world.random());
      const batches = simulate(busy(world, others), [adaptive()], LEAVE_MS);
      const stretch = (1 + others) / world.cores;
      const dutyAt = (felt: number): number => 1 / (1 + Math.max(0, 1 - 1.5 / felt));
      const measured = duty(batches, STEP_MS + 2_000, LEAVE_MS);
      // The median of five has 0.56 of a batch's deviation, and the baseline lies about as far below the middle.
      const doubt = Math.exp(1.2 * world.jitter);
      expect(measured).toBeGreaterThan(0.95 * dutyAt(stretch * doubt));
      expect(measured).toBeLessThan(1.05 * dutyAt(stretch / doubt));
    });
  });

  test("has 80 % of its free rate back within 3 s after the others have gone", () => {
    inEveryWorld((world) => {
      const others = 2 + Math.floor(8 * world.random());
      const batches = simulate(busy(world, others), [adaptive()], LEAVE_MS + 8_000);
      const free = rate(batches, 10_000, STEP_MS);
      expect(rate(batches, LEAVE_MS + 3_000, LEAVE_MS + 8_000) / free).toBeGreaterThan(0.8);
    });
  });

  test("batches settle: after 5 s their limit varies no more than what they cost does", () => {
    inEveryWorld((world) => {
      const batches = simulate(busy({ ...world, jitter: 0.1 }, 6), [adaptive()], LEAVE_MS);
      const limits = batches
        .filter(({ beganAtMs }) => beganAtMs > STEP_MS + 5_000)
        .map(({ unitsMax }) => unitsMax)
        .sort((a, b) => a - b);
      const middle = limits[limits.length >> 1] as number;
      const [low, high] = [limits[0], limits.at(-1)];
      // A batch's luck varies by a tenth, the median's of five by 0.056; of 100,000 draws none lies beyond five deviations.
      expect(low).toBeGreaterThan(middle * Math.exp(-5 * 0.056));
      expect(high).toBeLessThan(middle * Math.exp(5 * 0.056));
    });
  });

  test("is still felt when it came slowly, where a moving average has forgotten and no error tells", () => {
    inEveryWorld((world) => {
      // Sixfold within five minutes. The baseline follows with a half-life of ten: it lags by slope × τ × (1 − e^(−t/τ)).
      const squeeze = { ...world, jitter: 0.05, others: (ms: number) => Math.min(11, (11 * ms) / 300_000) };
      const batches = simulate(squeeze, [adaptive()], 300_000);
      const tau = 600_000 / Math.LN2;
      const from = 300_000 / 11;
      const slope = 5 / (300_000 - from);
      const lag = slope * tau * (1 - Math.exp(-(300_000 - from) / tau));
      // A batch of 50 ms pays COPY's beginning for fewer units than one at rest.
      const share = (size: number): number => 1 + COPY_MS / (UNIT_MS * size);
      const cost = UNIT_MS * world.slowness(0);
      const stretch = ((6 / (6 - lag)) * share(50 / (6 * cost))) / share(Math.min(UNITS_MAX, 150 / cost));
      const felt = batches.at(-1)?.stretch ?? Number.NaN;
      expect(felt / stretch).toBeGreaterThan(0.85);
      expect(felt / stretch).toBeLessThan(1.15);
      for (const rival of [new EwmaLimiter(), new ErrorLimiter()])
        expect(duty(simulate(squeeze, [{ controller: rival }], 300_000), 200_000, 290_000)).toBeGreaterThan(0.99);
    }, 50);
  });
});

describe("a database that stops", () => {
  test("costs one bounded rest after a lock or a freeze, and nothing after", () => {
    inEveryWorld((world) => {
      const stalled = (ms: number): boolean => ms >= 20_000 && ms < 25_000;
      const batches = simulate({ ...world, stalled }, [adaptive()], 40_000);
      const rested = batches
        .filter(({ beganAtMs }) => beganAtMs >= 20_000)
        .reduce((sum, { restMs }) => sum + restMs, 0);
      expect(rested).toBeLessThanOrEqual(REST_MS_MAX + 0.02 * 20_000);
      const before = rate(batches, 10_000, 20_000);
      expect(rate(batches, 28_000, 38_000) / before).toBeGreaterThan(0.9);
    });
  });
});

describe("a slow hour", () => {
  const HOUR_MS = 3_600_000;
  const FROM_MS = 20_000;
  const TO_MS = FROM_MS + HOUR_MS;

  test("at a tenth of the speed gets batches of 50 to 150 ms and bounded rests, and 80 % of the free rate 3 s after it", () => {
    inEveryWorld((world) => {
      const calm = world.slowness(0);
      const slowness = (ms: number): number => (ms >= FROM_MS && ms < TO_MS ? 10 * calm : calm);
      const batches = simulate({ ...world, slowness }, [adaptive()], TO_MS + 10_000);
      const hour = batches.filter(({ beganAtMs }) => beganAtMs >= FROM_MS && beganAtMs < TO_MS);
      // Five until the median knows, and one that was decided before them.
      const felt = hour.slice(6);
      const size = Math.max(UNITS_MIN, 150 / (10 * calm * UNIT_MS));
      // Four deviations of the median of five.
      const doubt = Math.exp(4 * 0.56 * world.jitter);
      expect(Math.max(...felt.map(({ unitsMax }) => unitsMax))).toBeLessThan(size * doubt);
      expect(Math.min(...felt.map(({ unitsMax }) => unitsMax))).toBeGreaterThanOrEqual(UNITS_MIN);
      expect(Math.max(...batches.map(({ restMs }) => restMs))).toBeLessThanOrEqual(REST_MS_MAX);
      expect(duty(batches, FROM_MS, TO_MS)).toBeGreaterThan(0.5);
      // What stays for six half-lives is normal in the end: the rests have gone.
      expect(duty(batches, TO_MS - 60_000, TO_MS)).toBeGreaterThan(0.97);
      const free = rate(batches, 10_000, FROM_MS);
      expect(rate(batches, TO_MS + 3_000, TO_MS + 8_000) / free).toBeGreaterThan(0.8);
    }, 20);
  });
});

describe("several sinks", () => {
  test("share the database fairly, whoever came first, and leave none behind", () => {
    inEveryWorld((world) => {
      const count = [2, 4, 8][Math.floor(3 * world.random())] as number;
      const sinks = Array.from({ length: count }, (_, n) => ({ ...adaptive(), fromMs: n * 3_000 * world.random() }));
      const batches = simulate(world, sinks, 90_000);
      const rates = sinks.map((_, sink) =>
        rate(
          batches.filter((batch) => batch.sink === sink),
          40_000,
          90_000,
        ),
      );
      const sum = rates.reduce((total, one) => total + one, 0);
      const jain = sum ** 2 / (count * rates.reduce((total, one) => total + one ** 2, 0));
      expect(jain).toBeGreaterThan(0.9);
    }, 100);
  });
});

test("a night without batches does not make a busy morning normal", () => {
  const controller = new AdaptiveController();
  const observe = (atMs: number, rowsMs: number): void =>
    controller.observe({ atMs, way: "copy", units: 5_000, tripMs: 0.2, rowsMs, trips: 2, totalMs: rowsMs + 5 });
  for (let n = 0; n < 20; n++) observe(n * 100, 70);
  for (let n = 0; n < 20; n++) observe(8 * 3_600_000 + n * 500, 420);
  // A minute of a half-life of ten: the baseline rose by 7 % of the way from 1 to 6.
  expect(controller.decide(0).stretch).toBeGreaterThan(4);
});

test("nor does one that begins with a restart: what was recalled is as old as the pause was, whatever trickled since", () => {
  for (const ageMs of [60_000, 3 * 3_600_000]) {
    const controller = new AdaptiveController();
    controller.recall({ copy: { cost: 0.014, ageMs } }, 0);
    const observe = (atMs: number, units: number, rowsMs: number): void =>
      controller.observe({ atMs, way: "copy", units, tripMs: 0.2, rowsMs, trips: 2, totalMs: rowsMs + 5 });
    for (let minute = 0; minute < 8 * 60; minute++) observe(minute * 60_000, 10, 2);
    expect(controller.memory).toEqual({ copy: { cost: 0.014, ageMs } });
    for (let n = 0; n < 6; n++) observe(8 * 3_600_000 + n * 500, 5_000, 420);
    // From 1 towards the 6 that it costs now, by a half-life of ten minutes.
    const risen = 1 + 5 * (1 - 2 ** (-ageMs / 600_000));
    expect(controller.decide(0).stretch / (6 / risen)).toBeGreaterThan(0.97);
    expect(controller.decide(0).stretch / (6 / risen)).toBeLessThan(1.03);
    expect(controller.memory.copy?.ageMs).toBe(0);
  }
});

test("urgency takes the rest away, and nothing else", () => {
  const controller = new AdaptiveController();
  for (let n = 0; n < 20; n++)
    controller.observe({
      atMs: n * 150,
      way: "copy",
      units: 5_000,
      tripMs: 0.2,
      trips: 2,
      rowsMs: n < 10 ? 70 : 420,
      totalMs: n < 10 ? 75 : 430,
    });
  const { restMs, unitsMax } = controller.decide(0);
  expect(restMs).toBeGreaterThan(100);
  expect(controller.decide(0.5).restMs).toBeCloseTo(restMs / 2);
  expect(controller.decide(1)).toMatchObject({ restMs: 0, unitsMax });
});

test("among several sinks one batch that takes far longer makes the next one smaller at once, and one spike only that one", () => {
  for (const shares of [true, false]) {
    const controller = new AdaptiveController();
    const observe = (n: number, slowness: number): number => {
      const { unitsMax: units } = controller.decide(0);
      const rowsMs = 0.4 + slowness * units * UNIT_MS;
      if (shares) controller.join(1, n * 1_000);
      controller.observe({ atMs: n * 1_000, way: "copy", units, tripMs: 0.2, rowsMs, trips: 2, totalMs: rowsMs + 5 });
      return controller.decide(0).unitsMax;
    };
    for (let n = 0; n < 10; n++) observe(n, 2);
    const free = controller.decide(0).unitsMax;
    expect(observe(10, 16)).toBeCloseTo(shares ? free / 4 : free, -1);
    expect(observe(11, 2)).toBeCloseTo(free, -1);
  }
});

test("a batch that seems to have cost nothing, since the round trip was slow, is followed by one of four times its size at most", () => {
  const controller = new AdaptiveController();
  const observe = (atMs: number, units: number, tripMs: number): number => {
    controller.observe({ atMs, way: "copy", units, tripMs, rowsMs: 55, trips: 2, totalMs: 210 });
    return controller.decide(0).unitsMax;
  };
  expect(observe(0, 200, 30)).toBe(800);
  expect(observe(100, 60, 30)).toBe(240);
  // The network's own time, and so what the rows took, is known from then on; five batches, and luck counts no more.
  for (let n = 0; n < 5; n++) observe(200 + n, 60, 0.5);
  expect(observe(300, 60, 0.5)).toBeCloseTo(150 / (54 / 60), 0);
});
