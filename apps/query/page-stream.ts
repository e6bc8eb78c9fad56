/** A client's whole range, page after page, up to where the log reached when it was asked for. */
import type { FastifyReply } from "fastify";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import { LineAnswer } from "#lib/ndjson.ts";
import { type Problem, ProblemError, problem } from "#lib/problem.ts";
import { type Hold, Room } from "#lib/room.ts";
import { savedThrough, VARY } from "./answers.ts";
import { type ClientOrder, earlier, type Place } from "./places.ts";
import type { Reach } from "./reach.ts";
import type { Page, PageQuery } from "./read.ts";
import type { Tail } from "./tail.ts";

/** Each works on one page at a time, and those are as large as they come: a crowd of them would leave others no connection. */
const STREAMS_MAX = 64;
const PAGE_EVENTS_MAX = 1_000;

/** What streams need of the role. */
export interface StreamSource {
  read(order: ClientOrder, query: PageQuery): Promise<Page>;
  live(order: ClientOrder): { readonly reach: Pick<Reach, "mark">; readonly tail: Pick<Tail, "partition"> };
}

/**
 * The pages of a stream. Between two it holds nothing.
 * @param eventsMax of the whole stream; null: all
 * @throws ProblemError as Query.read
 */
export async function* pagesOf(
  source: StreamSource,
  order: ClientOrder,
  asked: PageQuery,
  { eventsMax, clock }: { eventsMax: number | null; clock: Clock },
): AsyncGenerator<Page, void> {
  const untilMs = clock.elapsed() + asked.timeoutMs;
  let query = asked.view === "saved" ? asked : upTo(asked, await endNow(source, order, asked, untilMs));
  let left = eventsMax ?? Number.POSITIVE_INFINITY;
  for (;;) {
    const page = await source.read(order, { ...query, limit: Math.min(left, PAGE_EVENTS_MAX) });
    yield page;
    left -= page.events.length;
    if (!page.hasMore || left <= 0) return;
    // What is saved meanwhile would be an end that runs away.
    if (asked.view === "saved" && query === asked && page.savedThrough !== null)
      query = upTo(asked, { ...page.savedThrough, offset: page.savedThrough.offset + 1n });
    query = { ...query, ...(asked.order === "asc" ? { after: page.next } : { before: page.next }) };
  }
}

/** Exclusive: everything acknowledged before the call lies before it. */
async function endNow(source: StreamSource, order: ClientOrder, asked: PageQuery, untilMs: number): Promise<Place> {
  const { reach, tail } = source.live(order);
  const mark = await reach.mark(order, asked, untilMs);
  const { next } = tail.partition(order.partition);
  return { epoch: order.epoch, offset: mark > next ? mark : next };
}

/** @param end exclusive: each page must cover what lies before it, as if it were the first one */
function upTo(asked: PageQuery, end: Place): PageQuery {
  const before = asked.before === null ? end : earlier(asked.before, end);
  return { ...asked, before, atLeast: { ...end, offset: end.offset - 1n } };
}

export interface PageStreamsParts {
  /** Where lines count that were not taken yet. */
  readonly room: Room;
  readonly clock: Clock;
  readonly log: Log;
}

/** A stream's place among the node's. Whoever has not been sent a page for long gives it to one who comes. */
class Seat {
  readonly #seats: Room;
  #hold: Hold | null = null;
  #answer: LineAnswer | null = null;
  #lost = false;

  constructor(seats: Room) {
    this.#seats = seats;
  }

  /** Takes one, or begins its time anew. @throws ProblemError overloaded */
  take(answer: LineAnswer | null): void {
    this.#answer = answer;
    this.#hold?.release();
    if (!this.#lost) this.#hold = this.#seats.take(1, () => this.#lose());
    if (this.#lost || this.#hold === null)
      throw new ProblemError(problem("overloaded", `${STREAMS_MAX} streams are being sent by this node: try another.`));
  }

  leave(): void {
    this.#hold?.release();
  }

  #lose(): void {
    this.#lost = true;
    this.#answer?.cut();
  }
}

/** All streams of a node. */
export class PageStreams {
  readonly #parts: PageStreamsParts;
  readonly #seats: Room;
  #stopping = false;

  constructor(parts: PageStreamsParts) {
    this.#parts = parts;
    this.#seats = new Room(STREAMS_MAX, parts.clock);
  }

  /** Each ends after the page that is under way. */
  stop(): void {
    this.#stopping = true;
  }

  /**
   * Sends pages as lines. The last line tells how it ended.
   * @throws ProblemError overloaded; what the first page throws
   */
  async send(pages: AsyncGenerator<Page, void>, order: ClientOrder, reply: FastifyReply): Promise<void> {
    const seat = new Seat(this.#seats);
    seat.take(null);
    try {
      const { value: first } = await pages.next();
      seat.take(null);
      if (first) await this.#sendFrom(first, pages, order, { reply, seat });
    } finally {
      seat.leave();
      await pages.return();
    }
  }

  async #sendFrom(
    first: Page,
    pages: AsyncGenerator<Page, void>,
    order: ClientOrder,
    { reply, seat }: { reply: FastifyReply; seat: Seat },
  ): Promise<void> {
    const { room, clock } = this.#parts;
    const answer = new LineAnswer(reply, room, {
      ...savedThrough(first, order),
      "cache-control": "no-store",
      vary: VARY,
    });
    let sent = "";
    let next = "";
    try {
      seat.take(answer);
      for (let page: Page | undefined = first; page; page = (await pages.next()).value ?? undefined) {
        if (!(await answer.write(page.events.map((event) => `${event}\n`).join("")))) throw crowded(room);
        if (answer.gone) return;
        seat.take(answer);
        next = order.cursor(page.next);
        sent = JSON.stringify({ next, hasMore: page.hasMore });
        if (this.#stopping && page.hasMore) throw new ProblemError(LEAVING);
        // Pages of unsaved events may come without a pause.
        await clock.turn();
      }
      answer.last(`${sent}\n`);
    } catch (error) {
      answer.last(`${JSON.stringify({ problem: this.#problemOf(error), ...(next && { next }) })}\n`);
    } finally {
      answer.end();
    }
  }

  #problemOf(error: unknown): Problem {
    if (error instanceof ProblemError) return error.problem;
    this.#parts.log.error("stream failed", { error });
    return problem("internal-error", "It is in this node's log. Trying again may help.");
  }
}

const LEAVING = problem("shutting-down", "Go on from the last cursor, on another node or on this one in a moment.");

const crowded = ({ bytes, bytesMax }: Room): ProblemError =>
  new ProblemError(
    problem(
      "overloaded",
      `Answers of ${bytes} bytes wait for their readers on this node, of ${bytesMax} allowed: go on from the last cursor in a moment, or on another node.`,
    ),
  );
