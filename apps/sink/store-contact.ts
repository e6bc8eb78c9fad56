/** How the store answers the writer: since when not, why, and how long to wait then; told in logs and metrics. */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { classify, type ErrorClass } from "#lib/postgres/sqlstate.ts";
import type { Circuit } from "./circuit.ts";

export interface StoreContactParts {
  readonly circuit: Circuit;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** As the metric has them. */
const CIRCUIT_STATES = { closed: 0, "half-open": 1, open: 2 } as const;
/** A transaction takes 150 ms by design, and waits a second for locks: without an answer for so long, the database is silent. */
const SILENT_MS = 5_000;
const GRAVE: ReadonlySet<ErrorClass> = new Set(["bug", "space", "duplicate"]);

export class StoreContact {
  readonly #parts: StoreContactParts;
  /** When the first question since the last answer was asked, by both clocks; null: there was an answer since. */
  #asked: { readonly atMs: number; readonly elapsedMs: number } | null = null;

  constructor(parts: StoreContactParts) {
    this.#parts = parts;
  }

  /** Since when, ms since 1970, the database has answered nothing that it was asked; null: it has, or there is still time. */
  get unansweredSinceMs(): number | null {
    const asked = this.#asked;
    return asked !== null && this.#parts.clock.elapsed() - asked.elapsedMs >= SILENT_MS ? asked.atMs : null;
  }

  ask(): void {
    const { clock } = this.#parts;
    this.#asked ??= { atMs: clock.now(), elapsedMs: clock.elapsed() };
  }

  answered(): void {
    this.#asked = null;
  }

  /** It did what it was asked to. @param told if it had failed before */
  succeeded(told: string): void {
    const { circuit, clock, log, metrics } = this.#parts;
    const { outage } = circuit;
    if (outage) log.info(told, { afterMs: Math.round(clock.elapsed() - outage.begunMs), attempts: outage.attempts });
    circuit.succeeded();
    metrics.sinkCircuitState.set(CIRCUIT_STATES[circuit.state]);
  }

  /** @returns the class of an error; what the server itself refuses, it has answered */
  refused(error: unknown): ErrorClass {
    const errorClass = classify(error);
    if (errorClass !== "silent" && errorClass !== "down") this.answered();
    return errorClass;
  }

  /** It did not. @param attempted records that were tried, if any @returns ms to wait before it is asked again */
  failed(told: string, error: unknown, attempted: number): number {
    const { circuit, clock, log, metrics } = this.#parts;
    const errorClass = classify(error);
    const message = error instanceof Error ? error.message : String(error);
    const waitMs = circuit.failed(errorClass, message, attempted, clock);
    metrics.sinkStoreErrors.inc({ class: errorClass });
    metrics.sinkCircuitState.set(CIRCUIT_STATES.open);
    log[GRAVE.has(errorClass) ? "error" : "warn"](told, { errorClass, error: message, waitMs });
    return waitMs;
  }
}
