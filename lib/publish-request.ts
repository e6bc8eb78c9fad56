/** One call of `publish`: which of its records are acknowledged, and how it ends. */
import type { Position } from "#lib/cursor.ts";

/** Why events were not acknowledged, and whether any of them may be on the log all the same. */
export class NotAcknowledged extends Error {
  readonly reason: "overloaded" | "log-unreachable" | "refused";
  readonly stored: "no" | "unknown";
  constructor(
    reason: "overloaded" | "log-unreachable" | "refused",
    stored: "no" | "unknown",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "NotAcknowledged";
    this.reason = reason;
    this.stored = stored;
  }
}

/** One call of `publish`. */
export class Request {
  readonly positions: Position[];
  readonly deadlineMs: number;
  readonly #settle: PromiseWithResolvers<readonly Position[]>;
  #missing: number;
  /** Whether any of its records was handed to the producer. */
  handed = false;
  settled = false;

  constructor(events: number, deadlineMs: number, settle: PromiseWithResolvers<readonly Position[]>) {
    this.positions = new Array(events);
    this.#missing = events;
    this.deadlineMs = deadlineMs;
    this.#settle = settle;
  }

  acknowledged(index: number, position: Position): void {
    this.positions[index] = position;
    this.#missing -= 1;
    if (this.#missing === 0 && !this.settled) {
      this.settled = true;
      this.#settle.resolve(this.positions);
    }
  }

  /** Whether some of its records are on the log already. */
  get begun(): boolean {
    return this.#missing < this.positions.length;
  }

  putBack(): void {
    if (!this.begun) this.handed = false;
  }

  fail(error: NotAcknowledged): void {
    if (this.settled) return;
    this.settled = true;
    this.#settle.reject(error);
  }
}
