/**
 * One page, in the order that makes it right: barrier, wait until the tail has reached it, pin the tail, ask the database
 * once, merge. Any other order loses events that move from the tail into the rows meanwhile.
 *
 * 1. barrier   how far did the log reach when the read arrived?
 * 2. reach     has this node's tail read that far? Otherwise wait, at most until the deadline.
 * 3. pin       hold the tail still: records in [start, next), all of them.
 * 4. rows      one statement: checkpoint S, rows below S, where the tail's identities are saved. One snapshot.
 * 5. check     start <= S, or records between S and start are in neither half: begin again.
 * 6. merge     rows below S, tail records at or above S.
 */
import type { Clock } from "#lib/clock.ts";
import type { Metrics } from "#lib/metrics.ts";
import { isPassing } from "#lib/postgres/sqlstate.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import type { Checkpoints } from "./checkpoints.ts";
import { DiskUnreadable } from "./disk/volume.ts";
import { windowOf } from "./disk/window.ts";
import { isInTail, requireBegun, savedThrough, storeUnreachable } from "./halves.ts";
import { assemble, endOf, type Merged, type Selection, type Source, tailSource, taken } from "./merge.ts";
import type { Pin } from "./partition-tail.ts";
import { type ClientOrder, comparePlaces, type Place } from "./places.ts";
import type { Reach, Wanted } from "./reach.ts";
import type { Asked, Rows, Saved } from "./rows.ts";
import { candidates, firstsByTail, LOOKED_AT_NONE, lookedAtFirst, notBelow, scanEnd } from "./scan.ts";
import { PAGE_BYTES_MAX } from "./statements.ts";
import type { Tail } from "./tail.ts";
import { tailHalf } from "./tail-half.ts";

export interface PageQuery extends Selection, Wanted {
  readonly view: "merged" | "saved" | "unsaved";
  readonly timeoutMs: number;
}

export interface Page {
  /** Printed events. */
  readonly events: readonly string[];
  /** Everything up to here, in reading order, is in this page or passed over by its filters. */
  readonly next: Place;
  readonly hasMore: boolean;
  /** Up to here the client's events are saved; null: nothing is. */
  readonly savedThrough: Place | null;
  /** The database was not asked for copies: it may show one, whatever is saved since. */
  readonly unchecked?: true;
}

export interface ReaderParts {
  readonly tail: Tail;
  readonly rows: Pick<Rows, "page">;
  readonly checkpoints: Checkpoints;
  readonly reach: Reach;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** A read begins again when its checkpoint has gone back; more often than this in one read is a database in trouble. */
const ATTEMPTS_MAX = 10;
/** A page that needs no rows waits no longer to learn of copies; live events wait for 250 ms. */
const LOOK_UP_MS_MAX = 1_000;
/** A reader of saved rows waits for its event in steps of this. */
const SAVED_POLL_MS = 100;

/** What one read carries along. */
interface Reading {
  readonly order: ClientOrder;
  readonly query: PageQuery;
  readonly untilMs: number;
}

export class Reader {
  readonly #parts: ReaderParts;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
  }

  /**
   * @throws ProblemError log-unreachable, store-unreachable or behind when the truth cannot be told in time: never a short
   *   or stale page; cursor-gone
   */
  async read(order: ClientOrder, query: PageQuery): Promise<Page> {
    const { clock, tail, metrics, reach } = this.#parts;
    const startedMs = clock.elapsed();
    const reading = { order, query, untilMs: startedMs + query.timeoutMs };
    if (query.view === "saved") return this.#savedOnly(reading);
    const mark = await reach.mark(order, query, reading.untilMs);
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      if (!(await tail.reached(order.partition, mark, reading.untilMs))) throw this.#behind(order, mark);
      if (attempt === 0 && mark > 0n) metrics.queryBarrierMs.observe(clock.elapsed() - startedMs);
      const page = await tail.pinned(order, query, reading.untilMs, (pin) => this.#attempt(reading, pin, mark));
      if (page !== null) return page;
    }
    throw this.#behind(order, mark);
  }

  /** Null: what the database showed does not fit this pin; pin anew. */
  async #attempt(reading: Reading, pin: Pin, mark: bigint): Promise<Page | null> {
    const { checkpoints } = this.#parts;
    // The tail began anew after it had reached the mark.
    if (pin.next < mark) return null;
    if (checkpoints.away) return this.#withoutRows(reading, pin);
    try {
      return await this.#withRows(reading, pin);
    } catch (error) {
      if (error instanceof DiskUnreadable || !(checkpoints.failed(error) || isPassing(error))) throw error;
      return this.#withoutRows(reading, pin, error);
    }
  }

  async #withRows(reading: Reading, pin: Pin): Promise<Page | null> {
    const { order, query } = reading;
    const { checkpoints, tail } = this.#parts;
    const view = pin.segments.length === 0 ? pin : await windowOf(pin, order.epoch, query);
    const found = candidates(view, order.epoch, query);
    const lookUp = isInTail(reading, pin) ? { ...reading, untilMs: this.#soon(reading) } : reading;
    const rowsAfter = query.view === "merged" ? lookedAtFirst(view, order.epoch, query) : null;
    const saved = await this.#rows(lookUp, { events: found.events, tailStart: pin.start, rowsAfter });
    checkpoints.observe(order.partition, saved.nextOffset, pin.start);
    requireBegun(reading, saved.nextOffset);
    const nextOffset = saved.nextOffset ?? 0n;
    const from = saved.nextOffset ?? tail.logStart(order.partition);
    const covered = nextOffset > pin.next ? nextOffset : pin.next;
    if (from < pin.start) return null;
    const rows = query.view === "merged" ? [saved.rows] : [];
    const rest = { view, found, unsavedFrom: nextOffset, saved, taken: taken(query, rows) };
    const ask = (events: Asked["events"]) => this.#rows(lookUp, { events, tailStart: pin.start, rowsAfter: null });
    const more = await tailHalf({ order, query, pin }, rest, ask);
    if (more === null) return null;
    const sources = query.order === "asc" ? [...rows, more] : [more, ...rows];
    return this.#page(reading, sources, covered, saved.nextOffset);
  }

  /** The database is away: all that is needed must be in the tail. */
  async #withoutRows(reading: Reading, pin: Pin, cause?: unknown): Promise<Page | null> {
    const { order, query } = reading;
    const { checkpoints, metrics, tail } = this.#parts;
    const known = checkpoints.known(order.partition);
    if (query.view === "unsaved") {
      requireBegun(reading, known);
      this.#rereadFrom(order, known);
    }
    // The checkpoint went back since: what lies between is not in this pin.
    if (tail.partition(order.partition).start < pin.start) return null;
    const unsavedFrom = query.view === "unsaved" && known !== null && known > pin.start ? known : pin.start;
    const asked = notBelow(query, order.epoch, unsavedFrom);
    const view = pin.segments.length === 0 ? pin : await windowOf(pin, order.epoch, asked);
    const found = firstsByTail(candidates(view, order.epoch, asked));
    const end = scanEnd(view, order.epoch, query, unsavedFrom, LOOKED_AT_NONE);
    const source = tailSource(found, order.epoch, query.order, unsavedFrom, new Map(), end);
    const merged = this.#merged(order, query, [source], pin.next);
    if (!isInTail(reading, pin) && (query.order === "asc" || !merged.hasMore))
      throw storeUnreachable(checkpoints.away, cause);
    metrics.queryUncheckedEvents.inc(merged.events.length);
    return { ...merged, savedThrough: savedThrough(order, known), unchecked: true };
  }

  // The last checkpoint shown may lie below the tail's start: it went back, or merely came late. Without the database nobody
  // can tell, so the tail begins anew there: too much of the log is no short page. What the log has forgotten is saved.
  #rereadFrom({ partition }: ClientOrder, known: bigint | null): void {
    const { tail } = this.#parts;
    const { start } = tail.partition(partition);
    const logStart = tail.logStart(partition);
    const savedBelow = known !== null && known > logStart ? known : logStart;
    if (savedBelow < start) tail.observe(partition, known === null ? null : savedBelow, start);
  }

  async #savedOnly(reading: Reading): Promise<Page> {
    const { order, query, untilMs } = reading;
    const { checkpoints, clock, tail, reach } = this.#parts;
    const proof: { asked: boolean; gone: ProblemError | null } = { asked: false, gone: null };
    for (;;) {
      const startBefore = tail.partition(order.partition).start;
      const asked = { events: [], tailStart: startBefore, rowsAfter: [] };
      const saved = checkpoints.away ? null : await this.#orAway(this.#rows(reading, asked));
      if (saved === null) throw storeUnreachable(true);
      checkpoints.observe(order.partition, saved.nextOffset, startBefore);
      requireBegun(reading, saved.nextOffset);
      const covered = saved.nextOffset ?? 0n;
      const wanted = query.atLeast;
      if (wanted === null || comparePlaces(wanted, { epoch: order.epoch, offset: covered }) < 0)
        return this.#page(reading, [saved.rows], covered, saved.nextOffset);
      if (!proof.asked)
        reach.prove(order, { field: "atLeast", place: wanted }, untilMs, (why) => {
          proof.gone = why;
        });
      proof.asked = true;
      if (proof.gone) throw proof.gone;
      if (clock.elapsed() + SAVED_POLL_MS >= untilMs)
        throw new ProblemError(problem("behind", "The event of atLeast is not saved yet: read without view=saved."));
      await clock.sleep(SAVED_POLL_MS);
    }
  }

  /** Where the tail has it all, the database is only asked for copies: it may be slow, but does not hold the answer up. */
  #soon({ untilMs }: Reading): number {
    return Math.min(untilMs, this.#parts.clock.elapsed() + LOOK_UP_MS_MAX);
  }

  /** @throws ProblemError when it was not answered, which does not prove that the database is silent; what the pool gives */
  async #rows({ order, query, untilMs }: Reading, asked: Asked): Promise<Saved> {
    const leftMs = Math.max(1, Math.ceil(untilMs - this.#parts.clock.elapsed()));
    try {
      return await this.#parts.rows.page(order, query, asked, leftMs);
    } catch (error) {
      // It waited for other pages' connections, or for the database no longer than this caller's little time.
      const unproven = leftMs < LOOK_UP_MS_MAX * 0.9 ? /trying to connect|query read timeout/i : /trying to connect/i;
      throw unproven.test((error as Error).message) ? storeUnreachable(false, error) : error;
    }
  }

  /** Null when the database is away. @throws ProblemError store-unreachable when it merely did not answer this statement */
  async #orAway(asked: Promise<Saved>): Promise<Saved | null> {
    try {
      return await asked;
    } catch (error) {
      if (this.#parts.checkpoints.failed(error)) return null;
      if (isPassing(error)) throw storeUnreachable(false, error);
      throw error;
    }
  }

  #page({ order, query }: Reading, sources: readonly Source[], covered: bigint, nextOffset: bigint | null): Page {
    return { ...this.#merged(order, query, sources, covered), savedThrough: savedThrough(order, nextOffset) };
  }

  #merged(order: ClientOrder, query: PageQuery, sources: readonly Source[], covered: bigint): Merged {
    this.#parts.metrics.queryPages.inc({ view: query.view });
    return assemble(sources, query.limit, PAGE_BYTES_MAX, endOf(order, query, covered));
  }

  #behind(order: ClientOrder, mark: bigint): ProblemError {
    const { next } = this.#parts.tail.partition(order.partition);
    const detail = `This node has read up to offset ${next} of partition ${order.partition}, and ${mark} is needed: try again, here or on another node.`;
    return new ProblemError(problem("behind", detail));
  }
}
