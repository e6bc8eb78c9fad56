/**
 * One follower of one client: a state machine that is pulled, never pushed. It holds a place and at most a page; all other
 * events stay in the tail or in the database until the follower can take them. Pure.
 *
 *            page (to its end)            target covered
 *   pages ──────────────────────▶ tail ──────────────────▶ caughtUp
 *     ▲                            │                          │
 *     └──── records after the place have left the tail ◀──────┘  fellBehind, when it had been caught up
 *
 * No gap and no repeat: a page covers everything up to its `next`; the tail is entered only while it still holds every
 * record after the place; from then on it tells when one has left it unseen.
 */
import { CURSOR_LENGTH } from "#lib/cursor.ts";
import { indexOf, type TailEvent } from "./client-tail.ts";
import type { PartitionTail } from "./partition-tail.ts";
import { type ClientOrder, comparePlaces, type Place } from "./places.ts";

/** What a follower is sent. */
export type Frame =
  | { readonly type: "events"; readonly events: readonly string[] }
  | { readonly type: "caughtUp" | "fellBehind"; readonly place: Place };

/** What to do next. After `send`, and after what the others wait for, ask again. */
export type Step =
  | { readonly do: "send"; readonly frame: Frame }
  /** Read the page after this place and hand it to `takePage`. */
  | { readonly do: "page"; readonly after: Place }
  /** Find out whether these are copies. */
  | { readonly do: "ask"; readonly events: readonly TailEvent[] }
  /** Until the tail has news of this client, or a verdict is there. */
  | { readonly do: "wait" };

/** One frame. A larger single event still goes alone. */
const FRAME_EVENTS_MAX = 500;
const FRAME_BYTES_MAX = 256 * 1024;
/** Asked about in one go. */
const ASK_EVENTS_MAX = 1_000;

const WAIT: Step = { do: "wait" };

/** What a page read brings. */
interface HeldPage {
  readonly events: readonly string[];
  readonly next: Place;
}

/** The cursor that every printed event ends with. */
export const cursorOf = (event: string): string => event.slice(-2 - CURSOR_LENGTH, -2);

/** How many of these events make a frame of so many bytes; at least one. */
export function frameEnd(events: readonly string[], bytesMax: number): number {
  let at = 0;
  for (let bytes = 0; at < events.length && at < FRAME_EVENTS_MAX; at++) {
    bytes += events[at]?.length ?? 0;
    if (at > 0 && bytes > bytesMax) break;
  }
  return at;
}

export class Follower {
  readonly #order: ClientOrder;
  readonly #tail: PartitionTail;
  readonly #types: ReadonlySet<string> | null;
  #place: Place;
  /** First offset that need not be covered to be caught up. */
  #target: bigint;
  #caughtUp = false;
  #inTail = false;
  /** What is left of the last page. */
  #page: HeldPage | null = null;

  /**
   * @param from everything up to here is known to the follower
   * @param target the log's end when it subscribed
   * @param types others are passed over; null: none are
   */
  constructor(
    order: ClientOrder,
    tail: PartitionTail,
    from: Place,
    target: bigint,
    types: ReadonlySet<string> | null = null,
  ) {
    this.#order = order;
    this.#tail = tail;
    this.#place = from;
    this.#target = target;
    this.#types = types;
  }

  /** Everything up to here was handed out or passed over. */
  get place(): Place {
    return this.#place;
  }

  /** Whether a part of a page waits to be handed out. */
  get holdsPage(): boolean {
    return this.#page !== null;
  }

  /** What to do now. Hands out each event once. @param bytesMax of a frame; a larger single event goes all the same */
  next(bytesMax = FRAME_BYTES_MAX): Step {
    const frameBytesMax = Math.min(bytesMax, FRAME_BYTES_MAX);
    if (this.#page !== null) return { do: "send", frame: this.#fromPage(this.#page, frameBytesMax) };
    if (!this.#inTail && !this.#enter()) return { do: "page", after: this.#place };
    if (this.#tail.lost(this.#order.clientId, this.#place.offset)) return this.#leave();
    const { events, open } = this.#take(frameBytesMax);
    if (events.length > 0) return { do: "send", frame: { type: "events", events } };
    if (!this.#caughtUp && this.#covered() + 1n >= this.#target) {
      this.#caughtUp = true;
      return { do: "send", frame: this.#mark() };
    }
    return open.length > 0 ? { do: "ask", events: open } : WAIT;
  }

  /** Its events are handed out next. */
  takePage(page: HeldPage): void {
    if (page.events.length > 0) this.#page = page;
    else this.#place = page.next;
  }

  /** Forgets what was not handed out yet: it is read again. */
  dropPage(): void {
    this.#page = null;
  }

  /**
   * A cursor to resume from, as fresh as can be: a `caughtUp`, or a `fellBehind` while it catches up. Null while that would not
   * be true.
   */
  heartbeat(): Frame | null {
    if (!this.#caughtUp) return { type: "fellBehind", place: this.#place };
    if (!this.#inTail || this.#tail.lost(this.#order.clientId, this.#place.offset)) return null;
    return this.#mark();
  }

  /** Ends it; the tail keeps nothing for it. */
  stop(): void {
    if (this.#inTail) this.#tail.unfollow(this.#order.clientId);
    this.#inTail = false;
  }

  #enter(): boolean {
    const { clientId, epoch } = this.#order;
    this.#inTail = this.#place.epoch === epoch && this.#tail.follow(clientId, this.#place.offset);
    return this.#inTail;
  }

  #leave(): Step {
    this.stop();
    if (!this.#caughtUp) return { do: "page", after: this.#place };
    this.#caughtUp = false;
    this.#target = this.#tail.next;
    return { do: "send", frame: { type: "fellBehind", place: this.#place } };
  }

  #fromPage({ events, next }: HeldPage, bytesMax: number): Frame {
    const end = frameEnd(events, bytesMax);
    const sent = events.slice(0, end);
    this.#page = end < events.length ? { events: events.slice(end), next } : null;
    this.#place = this.#page === null ? next : this.#order.place(cursorOf(sent.at(-1) ?? ""), "cursor");
    return { type: "events", events: sent };
  }

  /** Takes what is decided, up to one frame; `open` are the undecided ones that follow. */
  #take(bytesMax: number): { events: readonly string[]; open: readonly TailEvent[] } {
    const held = this.#tail.held(this.#order.clientId);
    const events: string[] = [];
    let bytes = 0;
    let at = indexOf(held, this.#place.offset + 1n);
    for (; at < held.to; at++) {
      const event = held.array[at];
      if (event === undefined || this.#waitsFor(event)) break;
      if (this.#wants(event) && event.verdict === "first") {
        if (events.length >= FRAME_EVENTS_MAX || (events.length > 0 && bytes + event.json.length > bytesMax)) break;
        events.push(event.json);
        bytes += event.json.length;
      }
      this.#place = { epoch: this.#order.epoch, offset: event.offset };
    }
    const open = held.array
      .slice(at, Math.min(held.to, at + ASK_EVENTS_MAX))
      .filter((event) => event.verdict === "open" && this.#wants(event));
    return { events, open };
  }

  #waitsFor(event: TailEvent): boolean {
    return this.#wants(event) && (event.verdict === "open" || event.verdict === "asked");
  }

  #wants({ type }: TailEvent): boolean {
    return this.#types === null || this.#types.has(type);
  }

  /** The last offset before the first event that was not handed out. */
  #covered(): bigint {
    const held = this.#tail.held(this.#order.clientId);
    const first = held.array[indexOf(held, this.#place.offset + 1n)];
    return (first === undefined ? this.#tail.next : first.offset) - 1n;
  }

  #mark(): Frame {
    const covered = { epoch: this.#order.epoch, offset: this.#covered() };
    if (comparePlaces(covered, this.#place) > 0) this.#place = covered;
    return { type: "caughtUp", place: this.#place };
  }
}
