/**
 * What to do after the store failed: how long to wait, by class of error, and how much to try then. Pure: time and chance
 * are arguments.
 *
 *   closed ──failed──▶ open ──(wait is over, one attempt)──▶ half-open ──(attempts twice as large, until whole)──▶ closed
 *                        ▲───────────────────────failed──────────────────────┘
 */
import type { Clock } from "#lib/clock.ts";
import { backoffMs } from "#lib/postgres/backoff.ts";
import type { ErrorClass } from "#lib/postgres/sqlstate.ts";
import { UNITS_MAX } from "./controller.ts";

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
    return backoffMs(errorClass, attempts, clock);
  }
}
