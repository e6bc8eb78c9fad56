/** One partition's unsaved records in memory: the contiguous part [start, next) of the log, by client. Pure. */
import type { Event } from "#lib/event.ts";
import { ClientTail, NOTHING, Queue, type Slice, type TailEvent } from "./client-tail.ts";

/** What an append takes: a valid event, its offset, and its printed form. */
export interface NewTailEvent {
  readonly event: Event;
  readonly offset: bigint;
  readonly json: string;
}

/** The tail of one partition held still for one read. Records of the client at offsets in [start, next) are all in it. */
export interface Pin extends Slice {
  readonly start: bigint;
  readonly next: bigint;
}

/**
 * What an event costs besides its text: object, bigints, places in two arrays and one map. Measured with text of 300 bytes:
 * 360 where 200 events are of one client, 580 where two are (Node 24.21, 200,000 events).
 */
const EVENT_BYTES = 500;

export class PartitionTail {
  readonly #clients = new Map<string, ClientTail>();
  #all = new Queue();
  #start: bigint;
  #next: bigint;
  #bytes = 0;

  constructor(start: bigint) {
    this.#start = start;
    this.#next = start;
  }

  /** First offset held. */
  get start(): bigint {
    return this.#start;
  }

  /** First offset not yet read. */
  get next(): bigint {
    return this.#next;
  }

  /** Events held. */
  get records(): number {
    return this.#all.size;
  }

  /** An estimate of what they cost in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Takes what one fetch brought.
   * @param events valid ones, ascending, all in [next, nextOffset)
   * @param nextOffset also covers records that are no events, control records and gaps
   * @returns the clients among them that have followers
   */
  append(events: readonly NewTailEvent[], nextOffset: bigint): Set<string> {
    const followed = new Set<string>();
    for (const { event, offset, json } of events) {
      const client = this.#client(event.clientId);
      const kept: TailEvent = {
        // Not the event's own text: all of a client's events share one.
        clientId: client.clientId,
        offset,
        id: event.id,
        type: event.type,
        occurredAtMs: event.occurredAtMs,
        ...flat(json),
        previous: client.latest.get(event.id) ?? -1n,
        verdict: "open",
      };
      client.latest.set(event.id, offset);
      client.array.push(kept);
      this.#all.array.push(kept);
      this.#bytes += kept.bytes;
      if (client.followers > 0) followed.add(event.clientId);
    }
    if (nextOffset > this.#next) this.#next = nextOffset;
    return followed;
  }

  /** Holds this moment still for a read of one client. */
  pin(clientId: string): Pin {
    return { start: this.#start, next: this.#next, ...this.held(clientId) };
  }

  /** The client's events now. */
  held(clientId: string): Slice {
    const client = this.#clients.get(clientId);
    return client === undefined ? NOTHING : { array: client.array, from: client.head, to: client.array.length };
  }

  /** Drops what lies below `below`, which a snapshot of the database has shown to be saved. Above `next`: skips to it. */
  evict(below: bigint): void {
    if (below <= this.#start) return;
    for (let first = this.#all.array[this.#all.head]; first && first.offset < below; ) {
      this.#all.dropFirst();
      this.#drop(first);
      first = this.#all.array[this.#all.head];
    }
    // Records in between were never read here: for all that is known, every follower missed one.
    if (below > this.#next) this.#missed(below - 1n);
    this.#start = below;
    if (below > this.#next) this.#next = below;
  }

  /** Begins anew at `at`, at or below the start: the checkpoint went back. The log is read again from there. */
  restart(at: bigint): void {
    for (const [clientId, client] of this.#clients) {
      if (client.followers === 0) this.#clients.delete(clientId);
      client.clear();
      // What lies at or above `at` comes again; what left below it does not.
      if (client.goneThrough >= at) client.goneThrough = at - 1n;
    }
    this.#all = new Queue();
    this.#bytes = 0;
    this.#start = at;
    this.#next = at;
  }

  /**
   * From now on tells of this client's events that leave; balanced by `unfollow`.
   * @returns false, and follows nothing, when records after `position` have left already
   */
  follow(clientId: string, position: bigint): boolean {
    if (position + 1n < this.#start) return false;
    this.#client(clientId).followers++;
    return true;
  }

  unfollow(clientId: string): void {
    const client = this.#clients.get(clientId);
    if (client === undefined) return;
    client.followers--;
    this.#forgetEmpty(clientId, client);
  }

  /** Whether a follower that has seen everything up to `position` must look for more outside the tail. */
  lost(clientId: string, position: bigint): boolean {
    return (this.#clients.get(clientId)?.goneThrough ?? -1n) > position;
  }

  #client(clientId: string): ClientTail {
    let client = this.#clients.get(clientId);
    if (client === undefined) {
      client = new ClientTail(clientId);
      this.#clients.set(clientId, client);
    }
    return client;
  }

  #drop(event: TailEvent): void {
    this.#bytes -= event.bytes;
    const client = this.#clients.get(event.clientId);
    if (client === undefined) return;
    client.dropFirst();
    if (client.latest.get(event.id) === event.offset) client.latest.delete(event.id);
    if (client.followers > 0) client.goneThrough = event.offset;
    this.#forgetEmpty(event.clientId, client);
  }

  #forgetEmpty(clientId: string, client: ClientTail): void {
    if (client.size === 0 && client.followers === 0) this.#clients.delete(clientId);
  }

  #missed(through: bigint): void {
    for (const client of this.#clients.values()) if (client.followers > 0) client.goneThrough = through;
  }
}

/**
 * Text made by concatenation keeps all its parts alive: 1,260 bytes an event, against 660 for a flat copy. V8 keeps text
 * beyond Latin-1 in two bytes a character.
 */
function flat(text: string): { json: string; bytes: number } {
  const utf8 = Buffer.from(text);
  const json = utf8.toString();
  return { json, bytes: EVENT_BYTES + (utf8.length === json.length ? 1 : 2) * json.length };
}
