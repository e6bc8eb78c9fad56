/**
 * The read barrier: how far the log reached when a read arrived. Requests are coalesced, and a read joins only a round that
 * starts after the read arrived: an answer that was already on its way may be older than an acknowledgement that the
 * reader has seen. At most one round is in flight; everybody who comes meanwhile shares the next.
 */
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import { LogError } from "#lib/kafka/ports.ts";

/** One ListOffsets round: high watermarks by partition. @throws LogError */
export type AskHighWatermarks = () => Promise<ReadonlyMap<number, bigint>>;

type Marks = ReadonlyMap<number, bigint>;

/**
 * A round, in which whether this log is still the one in use is asked too: what another one takes is acknowledged as well, and a
 * node that has not heard of it would not know.
 * @param ends high watermarks of the log
 * @param refresh reads the control topic up to the end that it has now
 * @param proved rejects while the log may be another one
 */
export const roundOf =
  (ends: AskHighWatermarks, refresh: () => Promise<void>, proved: () => Promise<void>): AskHighWatermarks =>
  async () => {
    const [marks] = await Promise.all([ends(), refresh()]);
    await proved();
    return marks;
  };

/** Nobody may be reading: whether a read would be answered is found out so often all the same. */
const PROBE_MS = 1_000;
/** A round without an answer for so long tells that the log is away. */
const LOST_MS = 3_000;

/** What one round gave: marks, or the error. */
type Outcome = { readonly marks: Marks } | { readonly error: unknown };

/** After a failed round (a leader is being chosen, a broker is away) the next one waits this long. */
const RETRY_MS = 50;

/**
 * Silent for so long, the log counts as away. A caller who gives it less time has proved nothing; of one who gives it a
 * second some milliseconds are gone when it is asked.
 */
const SILENT_MS = 900;
const LATE = "the log did not answer in time";

/** How far the log reaches could not be learnt. */
export class NoMark extends LogError {
  /** `behind`: only the caller's little time was over. */
  readonly code: "log-unreachable" | "behind";

  constructor(cause: unknown, waitedMs: number) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const hasty = why === LATE && waitedMs < SILENT_MS;
    const more = hasty ? `, which was ${Math.round(waitedMs)} ms: allow more by timeoutMs` : "";
    super("retriable", `the log did not tell how far it reaches: ${why}${more}`, { cause });
    this.code = hasty ? "behind" : "log-unreachable";
  }
}

export class Barrier {
  readonly name = "read barrier";
  readonly #ask: AskHighWatermarks;
  readonly #clock: Clock;
  readonly #contact: Contact;
  #waiting = new Set<(outcome: Outcome) => void>();
  #inFlight = false;

  constructor(ask: AskHighWatermarks, clock: Clock, contact: Contact) {
    this.#ask = ask;
    this.#clock = clock;
    this.#contact = contact;
  }

  /** Asks now and then until `signal` aborts, so that readiness need not wait for a read to be refused. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(PROBE_MS, signal);
      if (signal.aborted) return;
      this.#begin();
    }
  }

  /**
   * The partition's high watermark at some moment after this call.
   * @param untilMs on the clock's `elapsed`; rounds are repeated until then
   * @throws NoMark when no round succeeded in time
   */
  async mark(partition: number, untilMs: number): Promise<bigint> {
    const begunMs = this.#clock.elapsed();
    for (;;) {
      const outcome = await this.#round(untilMs);
      const mark = "marks" in outcome ? outcome.marks.get(partition) : undefined;
      if (mark !== undefined) return mark;
      const leftMs = untilMs - this.#clock.elapsed();
      const cause = "error" in outcome ? outcome.error : new Error(`partition ${partition} was not in the answer`);
      if (leftMs <= RETRY_MS || !isRetriable(cause)) throw this.#noMark(cause, this.#clock.elapsed() - begunMs);
      await this.#clock.sleep(RETRY_MS);
    }
  }

  /** A read that is refused for the log's silence is evidence of it. */
  #noMark(cause: unknown, waitedMs: number): NoMark {
    const refusal = new NoMark(cause, waitedMs);
    if (refusal.code === "log-unreachable") this.#contact.failed("read barrier", cause);
    return refusal;
  }

  /** The outcome of the next round to start, or of waiting too long for it. */
  #round(untilMs: number): Promise<Outcome> {
    return new Promise((resolve) => {
      const settle = (outcome: Outcome): void => {
        cancel();
        this.#waiting.delete(settle);
        resolve(outcome);
      };
      const late = (): void => settle({ error: new LogError("retriable", LATE) });
      const cancel = this.#clock.after(Math.max(0, untilMs - this.#clock.elapsed()), late);
      this.#waiting.add(settle);
      this.#start();
    });
  }

  #start(): void {
    if (this.#waiting.size > 0) this.#begin();
  }

  #begin(): void {
    if (this.#inFlight) return;
    const joined = this.#waiting;
    this.#waiting = new Set();
    this.#inFlight = true;
    void this.#run(joined);
  }

  async #run(joined: Set<(outcome: Outcome) => void>): Promise<void> {
    let outcome: Outcome;
    try {
      outcome = { marks: await this.#contact.watch("read barrier", LOST_MS, this.#ask) };
    } catch (error) {
      outcome = { error };
    }
    this.#inFlight = false;
    for (const settle of joined) settle(outcome);
    this.#start();
  }
}

const isRetriable = (error: unknown): boolean => !(error instanceof LogError) || error.kind === "retriable";
