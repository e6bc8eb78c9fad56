/**
 * One follower of one client: a state machine that is pulled, never pushed. It holds a place and nothing else; events stay
 * in the tail or in the database until the follower can take them. Pure.
 *
 *            page (to its end)            target covered
 *   pages ──────────────────────▶ tail ──────────────────▶ caughtUp
 *     ▲                            │                          │
 *     └──── records after the place have left the tail ◀──────┘  fellBehind, when it had been caught up
 *
 * No gap and no repeat: a page covers everything up to its `next`; the tail is entered only while it still holds every
 * record after the place; from then on it tells when one has left it unseen.
 */
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

/** A page's events, which may be 8 MiB, in frames no larger than those from the tail. */
export function* inFrames(events: readonly string[]): Generator<Frame> {
  let [from, bytes] = [0, 0];
  for (const [at, event] of events.entries()) {
    if (at > from && (at - from >= FRAME_EVENTS_MAX || bytes + event.length > FRAME_BYTES_MAX)) {
      yield { type: "events", events: events.slice(from, at) };
      [from, bytes] = [at, 0];
    }
    bytes += event.length;
  }
  if (events.length > from) yield { type: "events", events: events.slice(from) };
}

export class Follower {
  readonly #order: ClientOrder;
  readonly #tail: PartitionTail;
  #place: Place;
  /** First offset that need not be covered to be caught up. */
  #target: bigint;
  #caughtUp = false;
  #inTail = false;

  /**
   * @param from everything up to here is known to the follower
   * @param target the log's end when it subscribed
   */
  constructor(order: ClientOrder, tail: PartitionTail, from: Place, target: bigint) {
    this.#order = order;
    this.#tail = tail;
    this.#place = from;
    this.#target = target;
  }

  /** Everything up to here was handed out or passed over. */
  get place(): Place {
    return this.#place;
  }

  /** What to do now. Hands out each event once. */
  next(): Step {
    if (!this.#inTail && !this.#enter()) return { do: "page", after: this.#place };
    if (this.#tail.lost(this.#order.clientId, this.#place.offset)) return this.#leave();
    const { events, open } = this.#take();
    if (events.length > 0) return { do: "send", frame: { type: "events", events } };
    if (!this.#caughtUp && this.#covered() + 1n >= this.#target) {
      this.#caughtUp = true;
      return { do: "send", frame: this.#mark() };
    }
    return open.length > 0 ? { do: "ask", events: open } : WAIT;
  }

  /** @returns the page's events as a frame; null when it has none */
  takePage(page: { readonly events: readonly string[]; readonly next: Place }): Frame | null {
    this.#place = page.next;
    return page.events.length > 0 ? { type: "events", events: page.events } : null;
  }

  /** A `caughtUp` as fresh as can be, to resume from; null while that would not be true. */
  heartbeat(): Frame | null {
    if (!this.#caughtUp || !this.#inTail || this.#tail.lost(this.#order.clientId, this.#place.offset)) return null;
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

  /** Takes what is decided, up to one frame; `open` are the undecided ones that follow. */
  #take(): { events: readonly string[]; open: readonly TailEvent[] } {
    const held = this.#tail.held(this.#order.clientId);
    const events: string[] = [];
    let bytes = 0;
    let at = indexOf(held, this.#place.offset + 1n);
    for (; at < held.to; at++) {
      const event = held.array[at];
      if (event === undefined || event.verdict === "open" || event.verdict === "asked") break;
      if (event.verdict === "first") {
        if (events.length >= FRAME_EVENTS_MAX || (events.length > 0 && bytes + event.json.length > FRAME_BYTES_MAX))
          break;
        events.push(event.json);
        bytes += event.json.length;
      }
      this.#place = { epoch: this.#order.epoch, offset: event.offset };
    }
    const open = held.array
      .slice(at, Math.min(held.to, at + ASK_EVENTS_MAX))
      .filter(({ verdict }) => verdict === "open");
    return { events, open };
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
