/** The controller with a voice: whatever it decides is exported, and each change is logged with its reason. */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Controller, Sample } from "./controller.ts";

/** Without a rest for so long, the database is free again. */
const FREE_AFTER_MS = 5_000;
/** A limit that moved by less is the same limit. */
const CHANGE_SHARE = 0.1;

export class Pace {
  readonly #controller: Controller;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #metrics: Metrics;
  #toldUnits = 0;
  /** When resting began, and when we last rested, by the monotonic clock; null while the database is free. */
  #busy: { readonly sinceMs: number; readonly restedMs: number; readonly restedAtMs: number } | null = null;

  constructor(controller: Controller, surroundings: { clock: Clock; log: Log; metrics: Metrics }) {
    this.#controller = controller;
    this.#clock = surroundings.clock;
    this.#log = surroundings.log;
    this.#metrics = surroundings.metrics;
  }

  /** How large the next batch may be, as units() counts. */
  get unitsMax(): number {
    return this.#controller.decide(0).unitsMax;
  }

  observe(sample: Sample): void {
    this.#controller.observe(sample);
    const { unitsMax, stretch } = this.#controller.decide(0);
    this.#metrics.sinkUnitsMax.set(unitsMax);
    this.#metrics.sinkStretch.set(stretch);
    if (Math.abs(unitsMax - this.#toldUnits) < CHANGE_SHARE * this.#toldUnits) return;
    const { units, rowsMs, totalMs } = sample;
    const why = { afterUnits: Math.round(units), rowsMs: Math.round(rowsMs), totalMs: Math.round(totalMs) };
    this.#log.debug("batch size changed", { unitsMax: Math.round(unitsMax), stretch: rounded(stretch), ...why });
    this.#toldUnits = unitsMax;
  }

  /** Rests for the database's other users, if the last batches were slow. @param urgency as decide() takes it */
  async rest(urgency: number, signal: AbortSignal): Promise<void> {
    const { restMs, stretch, unitsMax } = this.#controller.decide(urgency);
    const now = this.#clock.elapsed();
    this.#metrics.sinkRest.set(restMs);
    if (restMs <= 0) {
      if (this.#busy && now - this.#busy.restedAtMs > FREE_AFTER_MS) this.#freeAgain(this.#busy, now);
      return;
    }
    if (!this.#busy)
      this.#log.info("database is busy: resting between batches", {
        stretch: rounded(stretch),
        restMs: Math.round(restMs),
        unitsMax: Math.round(unitsMax),
      });
    const { sinceMs, restedMs } = this.#busy ?? { sinceMs: now, restedMs: 0 };
    this.#busy = { sinceMs, restedMs: restedMs + restMs, restedAtMs: now };
    this.#metrics.sinkRestMs.inc(restMs);
    await this.#clock.sleep(restMs, signal);
  }

  #freeAgain({ sinceMs, restedMs }: { sinceMs: number; restedMs: number }, now: number): void {
    this.#log.info("database is free again", { busyMs: Math.round(now - sinceMs), restedMs: Math.round(restedMs) });
    this.#busy = null;
  }
}

const rounded = (value: number): number => Math.round(value * 100) / 100;
