/**
 * What to do after the store failed: how long to wait, by class of error. Pure: time and chance are arguments.
 *
 *   closed ──failed──▶ open ──(wait is over, one attempt)──▶ closed | open, longer
 */
import type { Clock } from "#lib/clock.ts";
import type { ErrorClass } from "#lib/postgres/sqlstate.ts";

/** First wait, longest wait, both in ms; doubled in between. */
const WAITS: Readonly<Record<ErrorClass, readonly [number, number]>> = {
  // A data error or a copy is answered by another way of writing, at once; it only lands here if that fails too.
  data: [1_000, 30_000],
  duplicate: [30_000, 30_000],
  lock: [100, 500],
  overload: [1_000, 30_000],
  down: [100, 10_000],
  space: [1_000, 30_000],
  bug: [5_000, 30_000],
};

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

  get outage(): Outage | null {
    return this.#outage;
  }

  succeeded(): void {
    this.#outage = null;
  }

  /**
   * Every wait is drawn from its upper half, so that sinks do not come back in step.
   * @returns ms to wait before the one next attempt
   */
  failed(errorClass: ErrorClass, error: string, clock: Pick<Clock, "now" | "elapsed" | "random">): number {
    const { sinceMs = clock.now(), begunMs = clock.elapsed(), attempts: before = 0 } = this.#outage ?? {};
    const attempts = before + 1;
    this.#outage = { errorClass, error, sinceMs, begunMs, attempts };
    const [first, longest] = WAITS[errorClass];
    const wait = Math.min(longest, first * 2 ** Math.min(attempts - 1, 20));
    return Math.round(wait * (0.5 + clock.random() / 2));
  }
}
