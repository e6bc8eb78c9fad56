/**
 * What to do after the store failed: how long to wait, by class of error, and how much to try then. Pure: time and chance
 * are arguments.
 *
 *   closed ──failed──▶ open ──(wait is over, one attempt)──▶ half-open ──(attempts twice as large, until whole)──▶ closed
 *                        ▲───────────────────────failed──────────────────────┘
 */
import type { Clock } from "#lib/clock.ts";
import type { ErrorClass } from "#lib/postgres/sqlstate.ts";
import { UNITS_MAX } from "./controller.ts";

/** First wait, longest wait, both in ms; doubled in between. */
const WAITS: Readonly<Record<ErrorClass, readonly [number, number]>> = {
  // A data error or a copy is answered by another way of writing, at once; it only lands here if that fails too.
  data: [1_000, 30_000],
  duplicate: [30_000, 30_000],
  lock: [100, 500],
  overload: [1_000, 30_000],
  down: [100, 10_000],
  silent: [1_000, 10_000],
  space: [1_000, 30_000],
  bug: [5_000, 30_000],
};

/** What is tried first after a store could not be reached: it may have just begun to answer, and everybody comes back. */
const PROBE_RECORDS = 50;

/** Why the store is not being written, for logs and readiness. */
export interface Outage {
  readonly errorClass: ErrorClass;
  readonly error: string;
  /** When the first of these failures was seen, for people: the wall clock, which somebody may set meanwhile. */
  readonly sinceMs: number;
  /** The same for durations: the monotonic clock. */
  readonly begunMs: number;
  readonly attempts: number;
}

export class Circuit {
  #outage: Outage | null = null;
  #recordsMax = Number.POSITIVE_INFINITY;

  get outage(): Outage | null {
    return this.#outage;
  }

  /** Records that the next attempt may hold; Infinity: a whole batch. */
  get recordsMax(): number {
    return this.#recordsMax;
  }

  get state(): "closed" | "half-open" | "open" {
    if (this.#outage) return "open";
    return this.#recordsMax === Number.POSITIVE_INFINITY ? "closed" : "half-open";
  }

  succeeded(): void {
    this.#outage = null;
    this.#recordsMax *= 2;
    if (this.#recordsMax > UNITS_MAX) this.#recordsMax = Number.POSITIVE_INFINITY;
  }

  /**
   * Every wait is drawn from its upper half, so that sinks do not come back in step.
   * @param attempted records that were tried, if any; a batch that takes too long is tried by halves
   * @returns ms to wait before the one next attempt
   */
  failed(
    errorClass: ErrorClass,
    error: string,
    attempted: number,
    clock: Pick<Clock, "now" | "elapsed" | "random">,
  ): number {
    if (errorClass === "down" || errorClass === "silent") this.#recordsMax = PROBE_RECORDS;
    if (errorClass === "overload" && attempted > 0) this.#recordsMax = Math.max(1, attempted >> 1);
    const { sinceMs = clock.now(), begunMs = clock.elapsed(), attempts: before = 0 } = this.#outage ?? {};
    const attempts = before + 1;
    this.#outage = { errorClass, error, sinceMs, begunMs, attempts };
    const [first, longest] = WAITS[errorClass];
    const wait = Math.min(longest, first * 2 ** Math.min(attempts - 1, 20));
    return Math.round(wait * (0.5 + clock.random() / 2));
  }
}
