/**
 * One partition's unsaved records: the contiguous part [start, next) of the log, by client. The newest, [memoryStart, next),
 * are in memory; what lies before is on disk, in segments. Pure.
 */
import type { Event } from "#lib/event.ts";
import { Clients, flat, NOTHING, Queue, type Slice, type TailEvent } from "./client-tail.ts";
import type { Oldest, Segment } from "./disk/segment.ts";

/** What an append takes: a valid event, its offset, and its printed form. */
export interface NewTailEvent {
  readonly event: Event;
  readonly offset: bigint;
  readonly json: string;
  /** The nearest earlier record with its identity that is on disk; left out: none. */
  readonly previousOnDisk?: bigint;
}

/** The tail of one partition held still for one read: the client's records at offsets in [start, next). */
export interface Pin extends Slice {
  readonly clientId: string;
  readonly start: bigint;
  readonly next: bigint;
  /** Those in [low, high) are in the slice. */
  readonly low: bigint;
  readonly high: bigint;
  /** Hold what lies in [start, low) when the pin is made, ascending. */
  readonly segments: readonly Segment[];
}

/** Records that are to go to disk, and what tells whether the partition began anew meanwhile. */
export interface Leaving extends Oldest {
  readonly life: number;
}

/** What goes to disk at once is bounded, and with it the work that is not done in slices: 10,000 events take 15 ms. */
const LEAVING_BYTES_MAX = 8 * 1024 * 1024;
/** The newest stay: followers are about to take them, and producers that send again do so soon. */
const STAYS_MIN = 1 / 8;

export class PartitionTail {
  readonly #clients = new Clients();
  #all = new Queue();
  #start: bigint;
  #memoryStart: bigint;
  /** Replaced, never changed: pins hold it. */
  #segments: readonly Segment[] = [];
  /** Restarts so far. */
  #life = 0;
  #next: bigint;
  #bytes = 0;

  constructor(start: bigint) {
    this.#start = start;
    this.#memoryStart = start;
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

  /** First offset that is not on disk. */
  get memoryStart(): bigint {
    return this.#memoryStart;
  }

  /** Events in memory. */
  get records(): number {
    return this.#all.size;
  }

  get empty(): boolean {
    return this.#all.size === 0 && this.#segments.length === 0;
  }

  /** On disk, ascending. */
  get segments(): readonly Segment[] {
    return this.#segments;
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
    for (const { event, offset, json, previousOnDisk = -1n } of events) {
      const client = this.#clients.of(event.clientId);
      const kept: TailEvent = {
        // Not the event's own text: all of a client's events share one.
        clientId: client.clientId,
        offset,
        id: event.id,
        type: event.type,
        occurredAtMs: event.occurredAtMs,
        ...flat(json),
        previous: client.latest.get(event.id) ?? previousOnDisk,
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
    return {
      clientId,
      start: this.#start,
      next: this.#next,
      low: this.#memoryStart,
      high: this.#next,
      segments: this.#segments,
      ...this.held(clientId),
    };
  }

  /** The offset of an identity's latest record in memory. */
  latest(clientId: string, id: string): bigint | undefined {
    return this.#clients.get(clientId)?.latest.get(id);
  }

  /** The client's events in memory now. */
  held(clientId: string): Slice {
    const client = this.#clients.get(clientId);
    return client === undefined ? NOTHING : { array: client.array, from: client.head, to: client.array.length };
  }

  /** Drops what lies below `below`, which a snapshot of the database has shown to be saved. Above `next`: skips to it. */
  evict(below: bigint): void {
    if (below <= this.#start) return;
    this.#dropBelow(below, Number.POSITIVE_INFINITY);
    if (below > this.#next) this.#clients.missed(below - 1n);
    this.#start = below;
    if (below > this.#memoryStart) this.#memoryStart = below;
    if (below > this.#next) this.#next = below;
    this.#dropSegments(({ to }) => to <= below);
  }

  /** Begins anew at `at`, at or below the start: the checkpoint went back. The log is read again from there. */
  restart(at: bigint): void {
    this.#clients.restart(at);
    this.#all = new Queue();
    this.#bytes = 0;
    this.#start = at;
    this.#memoryStart = at;
    this.#next = at;
    this.#life++;
    this.#dropSegments(() => true);
  }

  /** The oldest records in memory, to be written to disk; they stay until `moved`. Null: there are none. */
  leaving(): Leaving | null {
    const { array, head } = this.#all;
    const bytesMax = Math.min(LEAVING_BYTES_MAX, this.#bytes * (1 - STAYS_MIN));
    let end = head;
    for (let bytes = 0; end < array.length; end++) {
      bytes += array[end]?.bytes ?? 0;
      if (end > head && bytes > bytesMax) break;
    }
    if (end === head) return null;
    const to = array[end]?.offset ?? this.#next;
    return { from: this.#memoryStart, to, events: array.slice(head, end), life: this.#life };
  }

  /**
   * These records are on disk: from now on they leave memory, by `forget`.
   * @returns false when they are not wanted any more
   */
  moved(leaving: Leaving, segment: Segment): boolean {
    if (leaving.life !== this.#life || segment.to <= this.#start) return false;
    this.#segments = [...this.#segments, segment];
    return true;
  }

  /**
   * Drops records from memory that are on disk, up to `recordsMax`. For followers they have left the tail.
   * @returns whether some are left
   */
  forget(segment: Segment, recordsMax: number): boolean {
    if (!this.#segments.includes(segment)) return false;
    const next = this.#dropBelow(segment.to, recordsMax);
    const at = next !== undefined && next < segment.to ? next : segment.to;
    if (at > this.#memoryStart) this.#memoryStart = at;
    return this.#memoryStart < segment.to;
  }

  /**
   * From now on tells of this client's events that leave; balanced by `unfollow`.
   * @returns false, and follows nothing, when records after `position` have left memory already
   */
  follow(clientId: string, position: bigint): boolean {
    if (position + 1n < this.#memoryStart) return false;
    this.#clients.of(clientId).followers++;
    return true;
  }

  unfollow(clientId: string): void {
    const client = this.#clients.get(clientId);
    if (client === undefined) return;
    client.followers--;
    this.#clients.forgetEmpty(client);
  }

  /** Whether a follower that has seen everything up to `position` must look for more outside the tail. */
  lost(clientId: string, position: bigint): boolean {
    return (this.#clients.get(clientId)?.goneThrough ?? -1n) > position;
  }

  /** @returns the offset of the first record that is left in memory */
  #dropBelow(below: bigint, recordsMax: number): bigint | undefined {
    for (let dropped = 0; dropped < recordsMax; dropped++) {
      const first = this.#all.array[this.#all.head];
      if (first === undefined || first.offset >= below) break;
      this.#all.dropFirst();
      this.#bytes -= first.bytes;
      this.#clients.drop(first);
    }
    return this.#all.array[this.#all.head]?.offset;
  }

  #dropSegments(gone: (segment: Segment) => boolean): void {
    const dropped = this.#segments.filter(gone);
    if (dropped.length === 0) return;
    this.#segments = this.#segments.filter((segment) => !gone(segment));
    for (const segment of dropped) segment.drop();
  }
}
