/**
 * One reader's connection, whatever it speaks: its subscriptions take turns, a frame each, so that one hot client never
 * starves the others. Knows what the reader has not taken yet, beats, and notices when nobody is there.
 */
import type { Problem } from "#lib/problem.ts";
import { Gate } from "./gate.ts";
import type { Frame } from "./live.ts";
import type { Live } from "./live-node.ts";
import type { ClientOrder, Place } from "./places.ts";
import { Subscription } from "./subscription.ts";
import type { Runner } from "./turns.ts";

/** How a connection speaks. */
export interface Wire {
  readonly open: boolean;
  print(order: ClientOrder, frame: Frame): Buffer;
  problem(sent: Problem, clientId: string | undefined): Buffer;
  /** @param taken to be called when the bytes have left for the kernel; never, if the connection breaks before */
  write(bytes: Buffer, taken: () => void): void;
  /** Asks for a sign of life. */
  ping(): void;
  /** There was none for long. */
  silent(): void;
  /** A subscription has ended for good, and is followed no more. */
  failed(order: ClientOrder, error: unknown): void;
}

/** What is to be followed. */
export interface Wish {
  readonly order: ClientOrder;
  /** Null: from now on. */
  readonly from: Place | null;
  /** Null: all. */
  readonly types: ReadonlySet<string> | null;
}

/** No sign of life and no byte taken for so long: nobody is there. */
const SILENCE_MS = 60_000;

export class Line implements Runner {
  /** Its page reads, one at a time. */
  readonly pages = new Gate(1);
  readonly #live: Live;
  readonly #wire: Wire;
  readonly #subscriptions = new Map<string, Subscription>();
  /** Those with something to do, in turn. */
  readonly #ready = new Set<Subscription>();
  #waitingBytes = 0;
  #aliveMs: number;
  #ended = false;
  #cancelBeat: () => void = () => undefined;

  constructor(live: Live, wire: Wire) {
    this.#live = live;
    this.#wire = wire;
    this.#aliveMs = live.clock.elapsed();
    this.#beat();
  }

  /** Clients that are followed. */
  get size(): number {
    return this.#subscriptions.size;
  }

  /** What may be sent now, in bytes; 0: nothing. */
  get room(): number {
    return this.#wire.open && !this.#ended ? this.#live.outflow.room(this.#waitingBytes) : 0;
  }

  /** Whether it has more to take than it may be sent. */
  get clogged(): boolean {
    return this.#waitingBytes > 0 && this.room === 0;
  }

  has(clientId: string): boolean {
    return this.#subscriptions.has(clientId);
  }

  /** Follows a client that is not followed yet. */
  follow(wish: Wish): void {
    const subscription = new Subscription(this.#live, this, wish);
    this.#subscriptions.set(wish.order.clientId, subscription);
    this.#live.followers.add(subscription);
    subscription.begin().catch((error: unknown) => this.fail(subscription, error));
  }

  /** @returns up to where it was sent everything; null: nowhere yet. Undefined: it is not followed */
  unfollow(clientId: string): string | null | undefined {
    const subscription = this.#subscriptions.get(clientId);
    if (subscription === undefined) return undefined;
    const place = this.#remove(subscription);
    return place && subscription.order.cursor(place);
  }

  /** A subscription has something to do. */
  ready(subscription: Subscription): void {
    if (this.#ended || this.#subscriptions.get(subscription.clientId) !== subscription) return;
    this.#ready.add(subscription);
    this.#live.turns.add(this);
  }

  run(): boolean {
    const { room } = this;
    const { outflow } = this.#live;
    if (room === 0) {
      // Who still has bytes to take comes again when it took them.
      if (this.#waitingBytes === 0 && this.#ready.size > 0 && !this.#ended) outflow.wait(this);
      return false;
    }
    const [next] = this.#ready;
    if (next !== undefined) {
      this.#ready.delete(next);
      this.#step(next, room);
    }
    outflow.next();
    return this.#ready.size > 0;
  }

  /** Prints and sends a frame. */
  send(order: ClientOrder, frame: Frame): void {
    this.write(frame.type, this.#wire.print(order, frame));
  }

  /** @param clientId undefined: it concerns the connection */
  problem(sent: Problem, clientId: string | undefined): void {
    this.write("problem", this.#wire.problem(sent, clientId));
  }

  /** @param type for the metrics */
  write(type: string, bytes: Buffer): void {
    if (!this.#wire.open || this.#ended) return;
    const { outflow, metrics, turns } = this.#live;
    metrics.queryFrames.inc({ type });
    this.#waitingBytes += bytes.length;
    outflow.add(bytes.length);
    this.#wire.write(bytes, () => {
      if (this.#ended) return;
      this.alive();
      this.#waitingBytes -= bytes.length;
      outflow.remove(bytes.length);
      if (this.#ready.size > 0) turns.add(this);
    });
  }

  /** The reader gave a sign of life. */
  alive(): void {
    this.#aliveMs = this.#live.clock.elapsed();
  }

  /** Cursors to resume from, as fresh as can be, as far as there is room. */
  beat(): void {
    for (const subscription of this.#subscriptions.values()) subscription.beat();
  }

  /** The connection is gone, or is going. */
  end(): void {
    if (this.#ended) return;
    for (const subscription of [...this.#subscriptions.values()]) this.#remove(subscription);
    this.#ended = true;
    this.#cancelBeat();
    this.#live.outflow.forget(this);
    this.#live.outflow.remove(this.#waitingBytes);
    this.#waitingBytes = 0;
  }

  /** Sends cursors, asks for a sign of life, and misses one that is overdue. */
  #beat(): void {
    const { clock, heartbeatMs } = this.#live;
    this.#cancelBeat = clock.after(heartbeatMs, () => {
      // The answer to the last beat may come a moment later than the beat.
      if (clock.elapsed() - this.#aliveMs > Math.max(SILENCE_MS, 2 * heartbeatMs)) {
        this.#wire.silent();
        return;
      }
      // Also where others have taken all the room: who is not asked cannot answer.
      this.#wire.ping();
      this.beat();
      this.#beat();
    });
  }

  #step(subscription: Subscription, room: number): void {
    try {
      if (subscription.step(room)) this.#ready.add(subscription);
    } catch (error) {
      this.fail(subscription, error);
    }
  }

  /** A subscription cannot go on. */
  fail(subscription: Subscription, error: unknown): void {
    if (this.#subscriptions.get(subscription.clientId) !== subscription) return;
    this.#remove(subscription);
    this.#wire.failed(subscription.order, error);
  }

  #remove(subscription: Subscription): Place | null {
    this.#subscriptions.delete(subscription.clientId);
    this.#ready.delete(subscription);
    this.#live.followers.remove(subscription);
    return subscription.stop();
  }
}
