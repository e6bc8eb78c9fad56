/** How long to wait before a database that failed is asked again, by class of error. Pure: chance is an argument. */
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
  silent: [1_000, 10_000],
  space: [1_000, 30_000],
  bug: [5_000, 30_000],
};

/**
 * Every wait is drawn from its upper half, so that processes do not come back in step.
 * @param attempts that failed so far, this one too
 * @returns ms to wait before the one next attempt
 */
export function backoffMs(errorClass: ErrorClass, attempts: number, clock: Pick<Clock, "random">): number {
  const [first, longest] = WAITS[errorClass];
  const wait = Math.min(longest, first * 2 ** Math.min(attempts - 1, 20));
  return Math.round(wait * (0.5 + clock.random() / 2));
}
