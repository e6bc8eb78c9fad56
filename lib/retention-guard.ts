/**
 * The retention guard: refuses new events while the log nears its limit in bytes, and warns while unsaved ones near the
 * topic's limit in time. It decides by the log and the control topic alone: ingest has no database connection, and the
 * relay's is to another database.
 */
import { unlessAborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import { LogError } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Reason } from "#lib/operator.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import type { LogFill, LogGauge } from "#lib/retention.ts";
import { Alarm, ageFault } from "#lib/retention-alarm.ts";
import type { Task } from "#lib/run.ts";
import { Drain, refuses, retryAfterSeconds } from "./fullness.ts";

export interface GuardParts {
  readonly gauge: Pick<LogGauge, "look">;
  /** 0: nothing is refused. */
  readonly bytesMax: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly contact: Pick<Contact, "tell">;
  readonly metrics: Metrics;
}

/** With a limit, what arrives between two looks is bounded by the time between them. */
const LOOK_EVERY_MS = 1_000;
/** Without one, and while the log does not answer. */
const LOOK_EVERY_MS_IDLE = 10_000;

/** There is no room for new events. */
export class LogFull extends NotAcknowledged {
  readonly retryAfterSeconds: number;

  constructor(message: string, seconds: number) {
    super("overloaded", "no", message);
    this.name = "LogFull";
    this.retryAfterSeconds = seconds;
  }
}

/** One look at the log a second, and a judgement on each append from it. */
export class RetentionGuard implements Task {
  readonly name = "retention guard";
  readonly #parts: GuardParts;
  readonly #age: Alarm;
  readonly #full: Alarm;
  readonly #drain = new Drain();
  /** As last looked at. */
  #fill: LogFill | null = null;
  /** Events taken since that look began: it may not have seen them. */
  #takenEvents = 0;
  #refusing = false;

  constructor(parts: GuardParts) {
    this.#parts = parts;
    this.#age = new Alarm("unsaved events near the topic's time limit", "unsaved events are young again", parts);
    this.#full = new Alarm("log is full: new events are refused", "log has room again: new events are taken", parts);
  }

  /** Takes so many new events into account. @returns why they must not be appended; null: they may */
  admit(events: number): LogFull | null {
    const { bytesMax } = this.#parts;
    if (bytesMax === 0 || this.#fill === null) return null;
    if (!this.#refusing) {
      this.#takenEvents += events;
      if (!this.#judge(this.#fill)) return null;
      this.#takenEvents -= events;
    }
    const saving = this.#drain.bytesPerSecond;
    const seconds = retryAfterSeconds(this.#withTaken(this.#fill), bytesMax, saving);
    const pace = saving > 0 ? `${Math.round(saving)} bytes are saved a second` : "nothing is being saved";
    return new LogFull(`${told(this.#withTaken(this.#fill), bytesMax)}; ${pace}: try again in ${seconds} s`, seconds);
  }

  /** What weakens its role. A node that refuses stays ready: its answer tells when to come again, a balancer's would not. */
  get reasons(): readonly Reason[] {
    return [this.#full, this.#age].flatMap((alarm) => alarm.reasons);
  }

  /** Looks until `signal` aborts. While the log does not answer, the last look counts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, bytesMax } = this.#parts;
    while (!signal.aborted) {
      const looked = await unlessAborted(signal, this.#look());
      await clock.sleep(bytesMax > 0 && looked ? LOOK_EVERY_MS : LOOK_EVERY_MS_IDLE, signal);
    }
  }

  /** @returns whether the log answered */
  async #look(): Promise<boolean> {
    const { gauge, clock, contact } = this.#parts;
    const before = this.#takenEvents;
    try {
      const fill = await gauge.look();
      this.#fill = fill;
      this.#takenEvents -= before;
      this.#drain.observe(clock.elapsed(), fill);
      this.#age.set(ageFault(fill, clock.now()), this.#facts(fill));
      this.#judge(fill);
      return true;
    } catch (error) {
      if (!(error instanceof LogError)) throw error;
      contact.tell("log not measured", { error: error.message });
      return false;
    }
  }

  /** @returns whether new events are refused from now on */
  #judge(looked: LogFill): boolean {
    const { bytesMax, metrics } = this.#parts;
    const fill = this.#withTaken(looked);
    const refusing = bytesMax > 0 && refuses(this.#refusing, fill, bytesMax);
    if (!refusing && !this.#refusing) return false;
    this.#refusing = refusing;
    this.#full.set(refusing ? `new events: refused, since ${told(fill, bytesMax)}` : null, this.#facts(fill));
    metrics.ingestLogFull.set(refusing ? 1 : 0);
    return refusing;
  }

  #withTaken(fill: LogFill): LogFill {
    const bytes = this.#takenEvents * fill.recordBytes;
    return { ...fill, retainedBytes: fill.retainedBytes + bytes, unsavedBytes: fill.unsavedBytes + bytes };
  }

  #facts({ retainedBytes, unsavedBytes }: LogFill): Record<string, number> {
    return {
      retainedBytes: Math.round(retainedBytes),
      unsavedBytes: Math.round(unsavedBytes),
      bytesMax: this.#parts.bytesMax,
      savedBytesPerSecond: Math.round(this.#drain.bytesPerSecond),
    };
  }
}

const told = ({ retainedBytes, unsavedBytes }: LogFill, bytesMax: number): string =>
  `the log holds about ${Math.round(retainedBytes)} of the ${bytesMax} bytes that it may (SPILLWAY_LOG_BYTES_MAX), ` +
  `${Math.round(unsavedBytes)} of them unsaved`;
