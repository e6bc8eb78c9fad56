/**
 * Whether the log answers, from all that a process asks of it: one line when it is lost, one when it is back, and since when.
 * Whoever asks the log tells of it here; it counts as lost until each of those who got no answer has had one.
 */
import type { Clock } from "#lib/clock.ts";
import { LogError } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { type Reason, reasons } from "#lib/operator.ts";

/** Who asks the log all the time, or would at once find out. */
export type Asker = "appends" | "control topic" | "unsaved tail" | "read barrier";

export interface ContactParts {
  readonly brokers: readonly string[];
  readonly log: Log;
  readonly clock: Clock;
}

/** Longer than any asker waits for an answer before it tells. */
const FOUND_OUT_MS = 5_000;

interface Moment {
  /** For people. */
  readonly atMs: number;
  /** On the clock's `elapsed`, for durations. */
  readonly elapsedMs: number;
}

export class Contact {
  readonly #parts: ContactParts;
  /** Who has no answer, and why not. */
  readonly #without = new Map<Asker, string>();
  #lostSince: Moment | null = null;
  /** The end of the last outage. */
  #back: Moment | null = null;
  #refusedEvents = 0;
  /** Outages so far. */
  #losses = 0;
  #ended = false;

  constructor(parts: ContactParts) {
    this.#parts = parts;
  }

  /** Addresses for messages. */
  get brokers(): string {
    return this.#parts.brokers.join(",");
  }

  /** What is missing for those who need these; the time is the outage's, whoever of them found it out. */
  reasons(...askers: readonly Asker[]): readonly Reason[] {
    const asker = askers.find((one) => this.#without.has(one));
    if (asker === undefined) return [];
    const what = `log: no answer from ${this.brokers} (${asker}: ${this.#without.get(asker)})`;
    return reasons(what, this.#lostSince?.atMs ?? null);
  }

  /**
   * Asks the log by `work`, whose outcome is passed on.
   * @param silentMs after so long without an answer the log counts as lost since `work` began; a question that was asked in an
   *   outage has its time from the end of that on
   */
  async watch<T>(asker: Asker, silentMs: number, work: () => Promise<T>): Promise<T> {
    const { clock } = this.#parts;
    const begun = this.#moment();
    let cancel = clock.after(silentMs, () => onSilence(begun));
    const onSilence = (since: Moment): void => {
      const back = this.#back;
      if (back !== null && since.elapsedMs < back.elapsedMs)
        cancel = clock.after(back.elapsedMs + silentMs - clock.elapsed(), () => onSilence(back));
      else this.#lost(asker, `no answer for ${silentMs} ms`, since);
    };
    try {
      const answer = await work();
      this.answered(asker);
      return answer;
    } catch (error) {
      this.failed(asker, error, begun);
      throw error;
    } finally {
      cancel();
    }
  }

  /** A fatal error is an answer, and one of another kind tells nothing; nor does that of a question from an outage that is over. */
  failed(asker: Asker, error: unknown, begun: Moment = this.#moment()): void {
    if (!(error instanceof LogError)) return;
    if (error.kind === "fatal") this.answered(asker);
    else if (begun.elapsedMs >= (this.#back?.elapsedMs ?? 0)) this.#lost(asker, error.message, begun);
  }

  /** It had an answer, or asks no more. */
  answered(asker: Asker): void {
    if (!this.#without.delete(asker) || this.#without.size > 0 || this.#lostSince === null) return;
    const { log, clock } = this.#parts;
    const afterMs = Math.round(clock.elapsed() - this.#lostSince.elapsedMs);
    log.warn("log is back", { brokers: this.brokers, afterMs, refusedEvents: this.#refusedEvents });
    this.#lostSince = null;
    this.#back = this.#moment();
    this.#refusedEvents = 0;
  }

  /** A process that ends cuts its own connections: what fails from now on is no news. */
  end(): void {
    this.#ended = true;
  }

  /** Events that were not taken while the log was lost. */
  refused(events: number): void {
    if (this.#lostSince !== null) this.#refusedEvents += events;
  }

  /** Logs what may follow from a lost log: a warning, unless the one line of an outage tells of that. */
  tell(message: string, fields: Readonly<Record<string, unknown>>): void {
    const { log, clock } = this.#parts;
    const losses = this.#losses;
    if (this.#lostSince !== null) log.debug(message, fields);
    // Whoever came by chance before the askers' own next questions was the first to see what they are about to find out.
    else clock.after(FOUND_OUT_MS, () => log[this.#losses === losses ? "warn" : "debug"](message, fields));
  }

  #lost(asker: Asker, error: string, begun: Moment): void {
    const { log } = this.#parts;
    if (this.#ended) return;
    this.#without.set(asker, error);
    const fields = { brokers: this.brokers, asker, error };
    if (this.#lostSince !== null) {
      log.debug("log did not answer", fields);
      return;
    }
    log.warn("log lost", fields);
    this.#lostSince = begun;
    this.#losses++;
  }

  #moment(): Moment {
    const { clock } = this.#parts;
    return { atMs: clock.now(), elapsedMs: clock.elapsed() };
  }
}
