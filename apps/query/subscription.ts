/** Drives one follower: does what its state machine asks for, while its reader can take more. */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import { type Problem, ProblemError, problem } from "#lib/problem.ts";
import { Follower, type Frame, inFrames } from "./live.ts";
import { type ClientOrder, ORIGIN, type Place } from "./places.ts";
import type { Reach } from "./reach.ts";
import type { Reader } from "./read.ts";
import type { Tail } from "./tail.ts";
import type { Verdicts } from "./verdicts.ts";

/** Whoever gets the frames. Nothing is sent while it is not writable. */
export interface Outlet {
  writable(): boolean;
  send(frame: Frame): void;
  problem(sent: Problem): void;
}

export interface LiveParts {
  readonly reader: Reader;
  readonly reach: Reach;
  readonly tail: Tail;
  readonly verdicts: Verdicts;
  readonly clock: Clock;
  readonly log: Log;
}

const PAGE_EVENTS = 500;
const PAGE_TIMEOUT_MS = 5_000;
/** After a page or a barrier that could not be had. */
const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 5_000;

export class Subscription {
  readonly #parts: LiveParts;
  readonly #order: ClientOrder;
  readonly #outlet: Outlet;
  readonly #from: Place | null;
  #follower: Follower | null = null;
  #woken = false;
  #wake: (() => void) | null = null;
  #retryMs = RETRY_MS_MIN;

  /** @param from null: from now on */
  constructor(parts: LiveParts, order: ClientOrder, from: Place | null, outlet: Outlet) {
    this.#parts = parts;
    this.#order = order;
    this.#from = from;
    this.#outlet = outlet;
  }

  get clientId(): string {
    return this.#order.clientId;
  }

  get partition(): number {
    return this.#order.partition;
  }

  /** There may be something to do: news, a verdict, room in the outlet. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** Sends a cursor to resume from, if the follower is caught up. */
  heartbeat(): void {
    const frame = this.#outlet.writable() ? this.#follower?.heartbeat() : null;
    if (frame) this.#outlet.send(frame);
  }

  /** Follows until `signal` aborts; `wake` must be called then. What is away is waited for. @throws ProblemError cursor-gone */
  async run(signal: AbortSignal): Promise<void> {
    const follower = await this.#begin(signal);
    if (follower === null) return;
    this.#follower = follower;
    try {
      while (!signal.aborted) {
        this.#woken = false;
        if (!this.#outlet.writable()) await this.#sleep();
        else await this.#step(follower, signal);
      }
    } finally {
      this.#follower = null;
      follower.stop();
    }
  }

  async #step(follower: Follower, signal: AbortSignal): Promise<void> {
    const step = follower.next();
    switch (step.do) {
      case "send":
        this.#outlet.send(step.frame);
        break;
      case "page":
        await this.#page(follower, step.after, signal);
        break;
      case "ask":
        this.#parts.verdicts.ask(step.events);
        break;
      case "wait":
        await this.#sleep();
        break;
      default:
        step satisfies never;
    }
  }

  /**
   * The log's end now, read up to by this node: what to catch up with. Null: ended before that was known.
   * @throws ProblemError cursor-gone
   */
  async #begin(signal: AbortSignal): Promise<Follower | null> {
    const { reach, tail, clock } = this.#parts;
    while (!signal.aborted) {
      const untilMs = clock.elapsed() + PAGE_TIMEOUT_MS;
      const mark = await this.#orProblem(signal, async () => {
        const wanted = { consistency: "latest", atLeast: null, after: this.#from ?? ORIGIN } as const;
        const end = await reach.mark(this.#order, wanted, untilMs);
        if (await tail.reached(this.#order.partition, end, untilMs)) return end;
        throw new ProblemError(problem("behind", "This node has not read the log up to its end yet."));
      });
      if (mark === null) continue;
      const from = this.#from ?? { epoch: this.#order.epoch, offset: mark - 1n };
      return new Follower(this.#order, tail.partition(this.#order.partition), from, mark);
    }
    return null;
  }

  async #page(follower: Follower, after: Place, signal: AbortSignal): Promise<void> {
    const query = {
      after,
      before: null,
      types: null,
      sinceMs: null,
      untilMs: null,
      order: "asc",
      limit: PAGE_EVENTS,
      view: "merged",
      // The tail is entered behind the pages: what is newer than this page comes from there.
      consistency: "known",
      atLeast: null,
      timeoutMs: PAGE_TIMEOUT_MS,
    } as const;
    const page = await this.#orProblem(signal, () => this.#parts.reader.read(this.#order, query));
    const frame = page === null || signal.aborted ? null : follower.takePage(page);
    if (frame?.type !== "events") return;
    for (const part of inFrames(frame.events)) {
      while (!(signal.aborted || this.#outlet.writable())) {
        this.#woken = false;
        await this.#sleep();
      }
      if (signal.aborted) return;
      this.#outlet.send(part);
    }
  }

  /** Null after a passing problem, of which the reader is told once, and a pause. @throws ProblemError one that will not pass */
  async #orProblem<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T | null> {
    const { clock, log } = this.#parts;
    try {
      const done = await work();
      this.#retryMs = RETRY_MS_MIN;
      return done;
    } catch (error) {
      if (!(error instanceof ProblemError && error.problem.status === 503)) throw error;
      if (this.#retryMs === RETRY_MS_MIN && !signal.aborted) this.#outlet.problem(error.problem);
      log.debug("follower waits", { code: error.problem.code });
      await clock.sleep(this.#retryMs * (0.5 + clock.random() / 2), signal);
      this.#retryMs = Math.min(RETRY_MS_MAX, this.#retryMs * 2);
      return null;
    }
  }

  /** Until woken; at once if that has happened since the last step began. */
  #sleep(): Promise<void> {
    if (this.#woken) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = null;
        resolve();
      };
    });
  }
}
