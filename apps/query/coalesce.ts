/**
 * Questions that wait for a connection go as one statement: while every connection has its statement, they gather here, and
 * the next one that is free takes many of them. Equal questions are asked once: who comes joins only one that was not sent
 * yet, so that no answer is older than its question.
 *
 * What goes together has one form, so that sixty small pages do not wait for one that looks at ten thousand rows; and heavy
 * forms leave a connection to the others. Whoever waits longest is next.
 */
import type { Clock } from "#lib/clock.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { type Form, type Queued, Queues } from "./queues.ts";

/** A question to the database. */
export interface Question {
  readonly form: Form;
  /** Equal keys are one question, and have one form. */
  readonly key: string;
  /** What its answer is expected to hold. */
  readonly bytes: number;
  /** Takes in what an equal question asks besides. */
  join(other: this): void;
}

/** In place of an answer that is too large for a statement with others: it is asked for again, alone. */
export const TOO_LARGE = Symbol("too large");

/** Puts questions of one form in one statement. @returns answers in the order asked; one alone is never too large */
export type Ask<Q, A> = (questions: readonly Q[], timeoutMs: number) => Promise<readonly (A | typeof TOO_LARGE)[]>;

/** What a node answers in the time that one may wait: 2,500 pages of a hundred events a second. About 1 KB each. */
export const WAITING_MAX = 5_000;
/** Nobody waits longer for a connection, whatever time he has. */
const WAIT_MS_MAX = 2_000;

interface Asker<A> {
  readonly untilMs: number;
  /** Since when it waits for a statement; null: it had one. */
  sinceMs: number | null;
  readonly resolve: (answer: A) => void;
  readonly reject: (error: unknown) => void;
  cancelTimer: () => void;
}

interface Asked<Q extends Question, A> extends Queued {
  readonly question: Q;
  readonly askers: Set<Asker<A>>;
}

/** Asked again: large, or in a statement that one of its questions may have broken. */
const AGAIN: Form = { together: 1, heavy: true };

export class Coalescer<Q extends Question, A> {
  readonly #connections: number;
  readonly #clock: Clock;
  readonly #ask: Ask<Q, A>;
  readonly #waited: (ms: number) => void;
  readonly #queues = new Queues<Asked<Q, A>>();
  #arrived = 0;
  #inFlight = 0;
  #heavyInFlight = 0;
  #woken = false;

  /**
   * @param connections statements at once
   * @param waited is told how long each asker waited for a statement, or until it gave up
   */
  constructor(connections: number, clock: Clock, ask: Ask<Q, A>, waited: (ms: number) => void = () => undefined) {
    this.#waited = waited;
    this.#connections = connections;
    this.#clock = clock;
    this.#ask = ask;
  }

  /**
   * The answer of a statement that begins after this call.
   * @throws ProblemError overloaded; whatever the statement does; a time-out, worded as those of pool and driver
   */
  async ask(question: Q, timeoutMs: number): Promise<A> {
    const { promise, resolve, reject } = Promise.withResolvers<A>();
    const asked = this.#join(question);
    const sinceMs = this.#clock.elapsed();
    const asker: Asker<A> = { untilMs: sinceMs + timeoutMs, sinceMs, resolve, reject, cancelTimer: () => undefined };
    asked.askers.add(asker);
    this.#arm(asked, asker, Math.min(timeoutMs, WAIT_MS_MAX));
    this.#wake();
    return promise;
  }

  #join(question: Q): Asked<Q, A> {
    const { key, form } = question;
    const there = this.#queues.find(AGAIN, key) ?? this.#queues.find(form, key);
    if (there !== undefined) {
      there.question.join(question);
      return there;
    }
    const { size } = this.#queues;
    if (size >= WAITING_MAX)
      throw new ProblemError(problem("overloaded", `${size} pages wait for the database on this node: try another.`));
    const asked: Asked<Q, A> = { question, nth: this.#arrived++, askers: new Set(), waitsIn: null };
    this.#queues.put(form, asked);
    return asked;
  }

  #arm(asked: Asked<Q, A>, asker: Asker<A>, ms: number): void {
    asker.cancelTimer();
    asker.cancelTimer = this.#clock.after(Math.max(0, ms), () => {
      const why = asked.waitsIn === null ? UNANSWERED : WAITED;
      this.#waitEnds(asker);
      asked.askers.delete(asker);
      if (asked.askers.size === 0) this.#queues.remove(asked);
      asker.reject(new Error(why));
    });
  }

  /** Its wait is over; it may be asked for again. */
  #waitEnds(asker: Asker<A>): void {
    if (asker.sinceMs !== null) this.#waited(this.#clock.elapsed() - asker.sinceMs);
    asker.sinceMs = null;
  }

  /** Once all that come in the same turn are there: a read barrier lets go of a crowd at once. */
  #wake(): void {
    if (this.#woken) return;
    this.#woken = true;
    queueMicrotask(() => {
      this.#woken = false;
      this.#sendAll();
    });
  }

  #sendAll(): void {
    while (this.#inFlight < this.#connections) {
      const form = this.#queues.next(this.#heavyInFlight < Math.max(1, this.#connections - 1));
      if (form === null) return;
      void this.#send(this.#queues.gather(form), form.heavy ? 1 : 0);
    }
  }

  async #send(batch: readonly Asked<Q, A>[], heavy: 0 | 1): Promise<void> {
    this.#inFlight++;
    this.#heavyInFlight += heavy;
    const timeoutMs = this.#deadlines(batch);
    try {
      const answers = await this.#ask(
        batch.map(({ question }) => question),
        timeoutMs,
      );
      for (const [nth, asked] of batch.entries()) this.#answer(asked, answers[nth] as A | typeof TOO_LARGE);
    } catch (error) {
      for (const asked of batch) {
        if (batch.length > 1 && mayBeOnes(error)) this.#again(asked);
        else settle(asked, ({ reject }) => reject(error));
      }
    }
    this.#inFlight--;
    this.#heavyInFlight -= heavy;
    this.#sendAll();
  }

  /** The statement has as long as the most patient asker; the others leave earlier. @returns how long */
  #deadlines(batch: readonly Asked<Q, A>[]): number {
    const nowMs = this.#clock.elapsed();
    const askers = batch.flatMap((asked) => [...asked.askers].map((asker) => ({ asked, asker })));
    const untilMs = askers.reduce((latest, { asker }) => Math.max(latest, asker.untilMs), nowMs);
    for (const { asked, asker } of askers) {
      this.#waitEnds(asker);
      asker.cancelTimer();
      if (asker.untilMs < untilMs) this.#arm(asked, asker, asker.untilMs - nowMs);
    }
    return Math.max(1, Math.ceil(untilMs - nowMs));
  }

  #answer(asked: Asked<Q, A>, answer: A | typeof TOO_LARGE): void {
    if (answer === TOO_LARGE) this.#again(asked);
    else settle(asked, ({ resolve }) => resolve(answer));
  }

  #again(asked: Asked<Q, A>): void {
    if (asked.askers.size === 0) return;
    const { key } = asked.question;
    const there = this.#queues.find(AGAIN, key);
    // Of two that were sent one after the other and came back, the first takes the second's askers.
    if (there === undefined) this.#queues.put(AGAIN, asked);
    else there.question.join(asked.question);
    const nowMs = this.#clock.elapsed();
    for (const asker of asked.askers) {
      there?.askers.add(asker);
      this.#arm(there ?? asked, asker, Math.min(asker.untilMs - nowMs, WAIT_MS_MAX));
    }
  }
}

function settle<Q extends Question, A>({ askers }: Asked<Q, A>, tell: (asker: Asker<A>) => void): void {
  for (const asker of askers) {
    asker.cancelTimer();
    tell(asker);
  }
}

// Worded as the pool and the driver do, so that they are told to readers alike.
const WAITED = "timeout exceeded when trying to connect: other pages had all connections";
const UNANSWERED = "Query read timeout";

/** Whether another statement, without whichever question it was, may well succeed. 57014: over the role's statement_timeout. */
function mayBeOnes(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return code === "57014" || ["data", "bug", "space"].includes(classify(error));
}
