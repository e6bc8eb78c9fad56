/**
 * A database in virtual time, shared by sinks and others as processors are: whoever works gets an equal part. Exact between
 * two changes, and fast: a simulated minute takes about a millisecond, so that thousands of seeds are looked at in seconds.
 */
import type { Controller } from "../../apps/sink/controller.ts";

/** What the database is like at a time, in ms since the beginning. It is asked every STEP_MS. */
export interface World {
  readonly cores: number;
  /** Others that work without a pause. */
  readonly others: (ms: number) => number;
  /** What everything costs, times this: growing indexes, a checkpoint, a smaller machine. */
  readonly slowness: (ms: number) => number;
  /** Nothing gets done: a lock, a frozen server. */
  readonly stalled: (ms: number) => boolean;
  readonly roundTripMs: (ms: number) => number;
  /** Units that have arrived by then; Infinity is a backlog. */
  readonly arrived: (ms: number) => number;
  /** Standard deviation of the logarithm of what a batch costs. */
  readonly jitter: number;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** Of one unit, and of each batch besides: COPY's beginning, the checkpoints' statement, the flush of COMMIT (controller.ts). */
export const UNIT_MS = 0.014;
export const COPY_MS = 0.5;
export const MOVE_MS = 1.2;
export const COMMIT_MS = 1.5;
/** Batches hold whole records: a full one falls short of its limit by part of one. */
const RECORD_UNITS = 1.3;
const STEP_MS = 50;
const IDLE_MS = 20;

/** Nobody else, a backlog, and a batch's cost varies by a tenth. */
export const CALM: Omit<World, "random"> = {
  cores: 2,
  others: () => 0,
  slowness: () => 1,
  stalled: () => false,
  roundTripMs: () => 0.2,
  arrived: () => Number.POSITIVE_INFINITY,
  jitter: 0.1,
};

export interface SimulatedSink {
  readonly controller: Controller;
  readonly fromMs?: number;
  readonly toMs?: number;
}

export interface SimulatedBatch {
  readonly sink: number;
  readonly beganAtMs: number;
  readonly endedAtMs: number;
  readonly units: number;
  readonly unitsMax: number;
  /** Before it. */
  readonly restMs: number;
  readonly stretch: number;
}

/** Time that passes by itself, or work that shares the database with whoever else works. */
type Wait = { readonly delayMs: number } | { readonly workMs: number };

/** Runs the sinks for so long. @returns their batches in the order of their ends */
export function simulate(world: World, sinks: readonly SimulatedSink[], durationMs: number): SimulatedBatch[] {
  const batches: SimulatedBatch[] = [];
  const running = sinks.map((sink, index) => {
    const steps = run(world, sink, index, batches);
    return { steps, left: (steps.next().value ?? { delayMs: durationMs }) as Wait };
  });
  for (let now = 0; now < durationMs; ) {
    const rate = rateOf(world, now, running.filter(({ left }) => "workMs" in left).length);
    const untilMs = (left: Wait): number => ("delayMs" in left ? left.delayMs : left.workMs / rate);
    const toNextStep = (Math.floor(now / STEP_MS + 1e-9) + 1) * STEP_MS - now;
    const passedMs = running.reduce((least, { left }) => Math.min(least, untilMs(left)), toNextStep);
    now += passedMs;
    for (const one of running) {
      const left = "delayMs" in one.left ? one.left.delayMs - passedMs : one.left.workMs - passedMs * rate;
      if (left > 1e-6) one.left = "delayMs" in one.left ? { delayMs: left } : { workMs: left };
      else one.left = one.steps.next(now).value ?? { delayMs: Number.POSITIVE_INFINITY };
    }
  }
  return batches;
}

/** Work done for one sink in a ms, when so many sinks work. */
function rateOf(world: World, now: number, working: number): number {
  if (world.stalled(now)) return 0;
  const crowd = Math.max(1, working + world.others(now));
  return Math.min(1, world.cores / crowd) / world.slowness(now);
}

/** One sink's life: each `yield` waits, and gets the time at which that was over. */
function* run(
  world: World,
  { controller, fromMs = 0, toMs = Number.POSITIVE_INFINITY }: SimulatedSink,
  sink: number,
  batches: SimulatedBatch[],
): Generator<Wait, undefined, number> {
  let now = yield { delayMs: fromMs };
  let taken = 0;
  while (now < toMs) {
    const { unitsMax, restMs, stretch } = controller.decide(0);
    if (restMs > 0) now = yield { delayMs: restMs };
    const size = Math.floor(Math.min(unitsMax, world.arrived(now) - taken) / RECORD_UNITS) * RECORD_UNITS;
    if (size <= 0) {
      now = yield { delayMs: IDLE_MS };
      continue;
    }
    const beganAtMs = now;
    const tripMs = world.roundTripMs(now);
    const luck = Math.exp(world.jitter * normal(world.random));
    const begun = yield { delayMs: tripMs };
    yield { delayMs: tripMs };
    const moved = yield { workMs: MOVE_MS };
    yield { delayMs: 2 * tripMs };
    const rows = yield { workMs: luck * (COPY_MS + size * UNIT_MS) };
    yield { delayMs: tripMs };
    now = yield { workMs: COMMIT_MS };
    taken += size;
    batches.push({ sink, beganAtMs, endedAtMs: now, units: size, unitsMax, restMs, stretch });
    const times = { tripMs: begun - beganAtMs, rowsMs: rows - moved, trips: 2, totalMs: now - beganAtMs };
    controller.observe({ atMs: now, way: "copy", units: size, ...times });
  }
  return undefined;
}

/** Box and Muller's: https://en.wikipedia.org/wiki/Box-Muller_transform */
const normal = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
