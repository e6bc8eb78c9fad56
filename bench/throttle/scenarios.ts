/** What the controller is put through, and what it is compared with. */
import { AdaptiveController, type Controller } from "../../apps/sink/controller.ts";
import { CALM, type Disturbance } from "./disturbance.ts";
import { EwmaLimiter, fixed } from "./rivals.ts";

/** One way of pacing the sink. `null`: nobody saves; what the others' latency is compared with. */
export interface Setting {
  readonly name: string;
  readonly make: (() => Controller) | null;
}

/** A record of the feed as units() counts it: 318 bytes of value and key. */
export const UNITS_PER_RECORD = 1 + 318 / 1_200;

const rows =
  (count: number): (() => Controller) =>
  () =>
    fixed(count * UNITS_PER_RECORD);

export const NO_SINK = "no sink";
export const ADAPTIVE = "adaptive";
export const FIXED_LOW = "fixed 100";
export const FIXED_MIDDLE = "fixed 1,000";
export const FIXED_HIGH = "fixed 5,000";

export const SETTINGS: readonly Setting[] = [
  { name: NO_SINK, make: null },
  { name: ADAPTIVE, make: () => new AdaptiveController() },
  { name: FIXED_LOW, make: rows(100) },
  { name: FIXED_MIDDLE, make: rows(1_000) },
  { name: FIXED_HIGH, make: rows(5_000) },
  { name: "EWMA limiter", make: () => new EwmaLimiter() },
];

/** A disturbance that stays while all settings take turns. */
export interface Steady {
  readonly name: string;
  readonly disturbance: Disturbance;
  /** Added to each round trip of the sink, in ms. */
  readonly delayMs: number;
}

const steady = (name: string, some: Partial<Disturbance> = {}, delayMs = 0): Steady => ({
  name,
  disturbance: { ...CALM, ...some },
  delayMs,
});

export const FREE = "free";
export const FAR = "50 ms away";

export const STEADY: readonly Steady[] = [
  steady(FREE),
  steady("small aggregations", { smallAggregations: 2 }),
  steady("two aggregations", { aggregations: 2 }),
  steady("six aggregations", { aggregations: 6 }),
  steady("bulk updates", { updates: 2 }),
  steady(FAR, {}, 50),
];
