/** What others would do in the controller's place: the baselines that it is compared with. Pure, behind the same seam. */
import type { Controller, Decision, Sample } from "../../apps/sink/controller.ts";

const decision = (unitsMax: number): Decision => ({ unitsMax, restMs: 0, stretch: 1 });

/** Always the same size, no rest. */
export const fixed = (unitsMax: number): Controller => ({
  decide: () => decision(unitsMax),
  observe: () => undefined,
});

/**
 * The usual adaptive-concurrency rule, on the batch's size: latency above its moving average and two deviations shrinks
 * by a tenth, anything else grows by a step. Its average forgets by samples.
 */
export class EwmaLimiter implements Controller {
  #unitsMax = 200;
  #mean = Number.NaN;
  #deviation = 0;

  decide(): Decision {
    return decision(this.#unitsMax);
  }

  observe({ units, rowsMs }: Sample): void {
    const cost = rowsMs / units;
    if (Number.isNaN(this.#mean)) this.#mean = cost;
    const above = cost > this.#mean + Math.max(2 * this.#deviation, 0.05 * this.#mean);
    this.#deviation += 0.1 * (Math.abs(cost - this.#mean) - this.#deviation);
    this.#mean += 0.1 * (cost - this.#mean);
    this.#unitsMax = Math.min(5_000, Math.max(100, above ? this.#unitsMax * 0.9 : this.#unitsMax + 100));
  }
}

/** Grows until the database refuses; a batch that took longer than its time-out counts as refused. */
export class ErrorLimiter implements Controller {
  #unitsMax = 200;

  decide(): Decision {
    return decision(this.#unitsMax);
  }

  observe({ totalMs }: Sample): void {
    this.#unitsMax = totalMs > 30_000 ? Math.max(100, this.#unitsMax / 2) : Math.min(20_000, this.#unitsMax + 100);
  }
}
