/** What is the matter with the log's keeping, since when: said once when it begins, once when it ends, and by /readyz meanwhile. */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import { type Reason, reasons } from "#lib/operator.ts";
import type { LogFill } from "#lib/retention.ts";

export class Alarm {
  readonly #begins: string;
  readonly #ends: string;
  readonly #log: Log;
  readonly #clock: Clock;
  #what = "";
  #sinceMs: number | null = null;

  /** @param begins @param ends what the log says then */
  constructor(begins: string, ends: string, { log, clock }: { log: Log; clock: Clock }) {
    this.#begins = begins;
    this.#ends = ends;
    this.#log = log;
    this.#clock = clock;
  }

  /** @param what is the matter now; null: nothing */
  set(what: string | null, facts: Readonly<Record<string, unknown>>): void {
    if (what !== null && this.#sinceMs === null) this.#log.warn(this.#begins, { ...facts, what });
    if (what === null && this.#sinceMs !== null)
      this.#log.info(this.#ends, { ...facts, afterMs: this.#clock.now() - this.#sinceMs });
    this.#sinceMs = what === null ? null : (this.#sinceMs ?? this.#clock.now());
    this.#what = what ?? "";
  }

  get reasons(): readonly Reason[] {
    return reasons(this.#what, this.#sinceMs);
  }
}

const HOUR_MS = 3_600_000;

/**
 * What is the matter with the age of what is unsaved, where the broker deletes by age: half the limit is left to do something.
 * Nothing that Spillway does can keep those events: refusing new ones would not save the old.
 */
export function ageFault({ oldestUnsavedMs, timeLimitMs }: LogFill, nowMs: number): string | null {
  if (oldestUnsavedMs === null || timeLimitMs === null || nowMs - oldestUnsavedMs <= timeLimitMs / 2) return null;
  const hours = (ms: number): string => `${(ms / HOUR_MS).toFixed(1)} h`;
  return (
    `log: the oldest unsaved event is ${hours(nowMs - oldestUnsavedMs)} old, and the topic's retention.ms deletes it at ` +
    `${hours(timeLimitMs)}, saved or not: let the sink save, or raise retention.ms`
  );
}
