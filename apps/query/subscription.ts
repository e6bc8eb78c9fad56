/** Drives one follower: does what its state machine asks for, a step at a time, when its connection gives it a turn. */

import type { Log } from "#lib/log.ts";
import { type Problem, ProblemError, problem } from "#lib/problem.ts";
import type { Hold } from "#lib/room.ts";
import type { Line, Wish } from "./line.ts";
import { cursorOf, Follower, frameEnd } from "./live.ts";
import type { Live } from "./live-node.ts";
import { type ClientOrder, ORIGIN, type Place } from "./places.ts";
import type { Page, PageQuery } from "./read.ts";

const PAGE_EVENTS = 500;
const PAGE_TIMEOUT_MS = 5_000;
/** After a page or a barrier that could not be had. */
const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 5_000;

/** A page that was read, until the reader has been sent all of it. */
interface Catching {
  readonly hold: Hold | null;
  leave(): void;
}

export class Subscription {
  readonly #live: Live;
  readonly #line: Line;
  readonly #wish: Wish;
  #stopped = false;
  /** While it waits before it tries again. */
  #pause: AbortController | null = null;
  #follower: Follower | null = null;
  #reading = false;
  #catching: Catching | null = null;
  #beatDue = false;
  #retryMs = RETRY_MS_MIN;
  /** Its reader knows of the problem that has not passed yet. */
  #told = false;

  constructor(live: Live, line: Line, wish: Wish) {
    this.#live = live;
    this.#line = line;
    this.#wish = wish;
  }

  get order(): ClientOrder {
    return this.#wish.order;
  }

  get clientId(): string {
    return this.order.clientId;
  }

  get partition(): number {
    return this.order.partition;
  }

  /** There may be something to do: news, a verdict, a page. */
  wake(): void {
    this.#line.ready(this);
  }

  /** A cursor is due. */
  beat(): void {
    this.#beatDue = true;
    this.wake();
  }

  /**
   * The log's end now, read up to by this node, is what to catch up with. What is away is waited for.
   * @throws ProblemError cursor-gone
   */
  async begin(): Promise<void> {
    const { reach, tail, clock } = this.#live;
    const { order, from, types } = this.#wish;
    while (!this.#isStopped()) {
      const untilMs = clock.elapsed() + PAGE_TIMEOUT_MS;
      const mark = await this.#orProblem(async () => {
        const wanted = { consistency: "latest", atLeast: null, after: from ?? ORIGIN } as const;
        const end = await reach.mark(order, wanted, untilMs);
        if (await tail.reached(order.partition, end, untilMs)) return end;
        throw new ProblemError(problem("behind", "This node has not read the log up to its end yet."));
      });
      if (mark === null || this.#isStopped()) continue;
      const start = from ?? { epoch: order.epoch, offset: mark - 1n };
      this.#follower = new Follower(order, tail.partition(order.partition), start, mark, types);
      this.wake();
      return;
    }
  }

  /** @param room bytes that its connection may be sent. @returns whether there is more to do at once */
  step(room: number): boolean {
    const follower = this.#follower;
    if (follower === null) return false;
    if (this.#reading) return this.#mark(follower);
    const step = follower.next(room);
    if (!follower.holdsPage) this.#caught();
    switch (step.do) {
      case "send":
        this.#line.send(this.order, step.frame);
        return true;
      case "page":
        this.#reading = true;
        this.#catchUp(follower, step.after).catch((error: unknown) => this.#line.fail(this, error));
        return this.#mark(follower);
      case "ask":
        this.#live.verdicts.ask(step.events);
        return true;
      case "wait":
        return this.#mark(follower);
      default:
        return step satisfies never;
    }
  }

  /** @returns up to where it was sent everything; null: nowhere yet */
  stop(): Place | null {
    this.#stopped = true;
    this.#pause?.abort();
    this.#follower?.stop();
    this.#caught();
    return this.#follower?.place ?? this.#wish.from;
  }

  #isStopped(): boolean {
    return this.#stopped;
  }

  /** Sends the cursor that is due, if it is. */
  #mark(follower: Follower): false {
    const frame = this.#beatDue ? follower.heartbeat() : null;
    this.#beatDue = false;
    if (frame !== null) this.#line.send(this.order, frame);
    return false;
  }

  /** One page, in its turn: of this connection's subscriptions, then of the node's connections. */
  async #catchUp(follower: Follower, after: Place): Promise<void> {
    const leave = await this.#line.pages.enter();
    const page = this.#isStopped() ? null : await this.#orProblem(() => this.#page(after), leave);
    if (page === null || this.#isStopped()) leave();
    else this.#take(follower, page, leave);
    this.#reading = false;
    this.wake();
  }

  async #page(after: Place): Promise<Page | null> {
    const { catchUps, reader } = this.#live;
    const leave = await catchUps.enter();
    try {
      return this.#isStopped() ? null : await reader.read(this.order, this.#query(after));
    } finally {
      leave();
    }
  }

  #query(after: Place): PageQuery {
    return {
      after,
      before: null,
      types: this.#wish.types,
      sinceMs: null,
      untilMs: null,
      order: "asc",
      limit: PAGE_EVENTS,
      view: "merged",
      // The tail is entered behind the pages: what is newer than this page comes from there.
      consistency: "known",
      atLeast: null,
      timeoutMs: PAGE_TIMEOUT_MS,
    };
  }

  /** Keeps the page while there is room for it; otherwise what goes at once, and the rest is read again. */
  #take(follower: Follower, page: Page, leave: () => void): void {
    const { events } = page;
    const bytes = events.reduce((sum, event) => sum + event.length, 0);
    const hold = this.#live.pagesRoom.take(bytes, () => this.#giveWay(follower));
    this.#catching = { hold, leave };
    const end = frameEnd(events, this.#line.room);
    const cut = events[end - 1];
    if (hold !== null || cut === undefined || end === events.length) follower.takePage(page);
    else if (this.#line.room > 0)
      follower.takePage({ events: events.slice(0, end), next: this.order.place(cursorOf(cut), "cursor") });
    if (!follower.holdsPage) this.#caught();
  }

  #giveWay(follower: Follower): void {
    follower.dropPage();
    this.#caught();
    this.wake();
  }

  /** The page was sent, or is given up. */
  #caught(): void {
    const catching = this.#catching;
    this.#catching = null;
    catching?.hold?.release();
    catching?.leave();
  }

  /**
   * Null after a passing problem and a pause.
   * @param paused called before the pause
   * @throws ProblemError one that will not pass
   */
  async #orProblem<T>(work: () => Promise<T>, paused: () => void = () => undefined): Promise<T | null> {
    const { clock, log } = this.#live;
    try {
      const done = await work();
      this.#retryMs = RETRY_MS_MIN;
      this.#told = false;
      return done;
    } catch (error) {
      paused();
      if (!(error instanceof ProblemError && error.problem.status === 503)) throw error;
      if (this.#isStopped()) return null;
      this.#tell(error.problem);
      log.debug("follower waits", { code: error.problem.code });
      this.#pause = new AbortController();
      await clock.sleep(this.#retryMs * (0.5 + clock.random() / 2), this.#pause.signal);
      this.#pause = null;
      this.#retryMs = Math.min(RETRY_MS_MAX, this.#retryMs * 2);
      return null;
    }
  }

  /** Once, as soon as there is room: who leaves what it was sent would be sent one by every outage that comes and goes. */
  #tell(passing: Problem): void {
    if (this.#told || this.#line.room === 0) return;
    this.#told = true;
    this.#line.problem(passing, this.clientId);
  }
}

/** What a follower is told of the error that ended it. One that is no problem is a mistake, and goes to the log. */
export function problemOf(error: unknown, log: Log): Problem {
  if (error instanceof ProblemError) return error.problem;
  log.error("follower failed", { error });
  return problem("internal-error", "It is in this node's log. Resume with your cursor.");
}
