/** Calls of `publish`: which of their records are acknowledged, and how they end. */
import type { LogIdentity } from "#lib/control.ts";
import type { Position } from "#lib/cursor.ts";
import { LogError } from "#lib/kafka/ports.ts";

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

/** Those under way, in order of arrival, which is the order of their deadlines too. */
export class Requests {
  #all: Request[] = [];

  /** Those that were not forgotten yet. */
  get size(): number {
    return this.#all.length;
  }

  /** Whether all are answered. */
  get settled(): boolean {
    return this.#all.every((request) => request.settled);
  }

  add(request: Request): void {
    this.#all.push(request);
  }

  /** Hands over those whose time is over, and forgets those that are answered. @param overdue answers */
  sweep(nowMs: number, overdue: (request: Request) => void): void {
    let first = 0;
    for (let request = this.#all[first]; request !== undefined; request = this.#all[++first]) {
      if (request.settled) continue;
      if (request.deadlineMs > nowMs) break;
      overdue(request);
    }
    if (first > 0) this.#all = this.#all.slice(first);
  }
}

/** Nobody knows whether the events are on the log. */
export const unknownOutcome = (message: string, cause?: unknown): NotAcknowledged =>
  new NotAcknowledged("log-unreachable", "unknown", message, { cause });

/** A log that another one succeeds has refused records. Without the cause, which tells of records that no log would take. */
export const closed = ({ topic }: LogIdentity, { kind }: LogError): LogError =>
  new LogError(kind === "fatal" ? "retriable" : kind, `${topic} takes no more events: another log succeeds it`);

/** A leader that was slow may have stored the records only after the log had been found to be saved whole. */
export const late = ({ topic }: LogIdentity): LogError =>
  new LogError("unknown", `${topic} was succeeded while events were on their way to it`);
