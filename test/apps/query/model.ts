/** A log, its sink and its database in a few lines: what pages and followers are compared with. */

import type { TailEvent } from "../../../apps/query/client-tail.ts";
import { type Filter, hasFilters, type Selection, type Source } from "../../../apps/query/merge.ts";
import { ClientOrder, comparePlaces, type Epochs, type Place } from "../../../apps/query/places.ts";
import type { Asked, Saved, Verdicts } from "../../../apps/query/rows.ts";
import { LOOKED_AT_NONE, type Looked } from "../../../apps/query/scan.ts";
import { type Clock, systemClock } from "../../../lib/clock.ts";
import type { Event } from "../../../lib/event.ts";
import { eventJson } from "../../../lib/event.ts";
import type { Log } from "../../../lib/log.ts";

/** Deterministic, from a seed (mulberry32). */
export function randomFrom(seed: number): { next(): number; below(n: number): number; pick<T>(of: readonly T[]): T } {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (n: number): number => Math.floor(next() * n);
  return { next, below, pick: (of) => of[below(of.length)] as (typeof of)[number] };
}

export const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** Time stands still until `advance`; a sleep or a deadline passes when it is reached. */
export class ManualClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; run: () => void }[] = [];

  now(): number {
    return this.#nowMs;
  }
  elapsed(): number {
    return this.#nowMs;
  }
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve));
  }
  after(ms: number, run: () => void): () => void {
    const timer = { atMs: this.#nowMs + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }
  turn(): Promise<void> {
    return systemClock.turn();
  }
  random(): number {
    return 0.5;
  }
  newId(): string {
    return "id";
  }
  get timers(): number {
    return this.#timers.length;
  }
  advance(ms: number): void {
    this.#nowMs += ms;
    for (const timer of [...this.#timers])
      if (timer.atMs <= this.#nowMs) {
        this.#timers = this.#timers.filter((one) => one !== timer);
        timer.run();
      }
  }
}

export const CLIENTS = ["a", "b", "c"] as const;
export const TYPES = ["x", "y"] as const;
/** One partition an epoch, so that every client is in it. */
const EPOCHS: Epochs = {
  epoch: 2,
  partitions: new Map([
    [1, 1],
    [2, 1],
  ]),
};
export const orderOf = (clientId: string): ClientOrder => new ClientOrder(clientId, EPOCHS);

export interface ModelRecord {
  readonly place: Place;
  readonly event: Event;
  readonly json: string;
}

/** Whether `place` lies in the filter's range, and the event passes it. */
export function passes(filter: Filter, { place, event }: ModelRecord): boolean {
  return (
    comparePlaces(place, filter.after) > 0 &&
    (filter.before === null || comparePlaces(place, filter.before) < 0) &&
    (filter.types === null || filter.types.has(event.type)) &&
    (filter.sinceMs === null || event.occurredAtMs >= filter.sinceMs) &&
    (filter.untilMs === null || event.occurredAtMs < filter.untilMs)
  );
}

/** Epoch 1 is all saved; epoch 2's records are saved below the checkpoint. Offsets have gaps. */
export class Model {
  readonly records: ModelRecord[] = [];
  nextOffset = 0n;
  checkpoint = 0n;
  /** Whether epoch 2 has a checkpoint: not while something of epoch 1 is unsaved. */
  begun = true;
  readonly #random: ReturnType<typeof randomFrom>;

  constructor(random: ReturnType<typeof randomFrom>) {
    this.#random = random;
    for (let offset = 0n; offset < 12n; offset++) this.#append({ epoch: 1, offset });
  }

  /** Appends to epoch 2 and returns what came. Many ids come again; some offsets hold no event. */
  append(count: number): ModelRecord[] {
    const begin = this.records.length;
    for (let i = 0; i < count; i++) {
      if (this.#random.next() < 0.85) this.#append({ epoch: 2, offset: this.nextOffset });
      this.nextOffset++;
    }
    return this.records.slice(begin);
  }

  /** The client's events as they must be shown: the first copy of each identity. */
  truth(clientId: string): ModelRecord[] {
    const seen = new Set<string>();
    return this.records.filter(({ event }) => {
      if (event.clientId !== clientId || seen.has(event.id)) return false;
      seen.add(event.id);
      return true;
    });
  }

  isSaved({ place }: ModelRecord): boolean {
    return place.epoch === 1 || place.offset < this.checkpoint;
  }

  /** As rows.ts answers. @param scanMax rows that a filter looks at */
  page(order: ClientOrder, selection: Selection, { events, rowsAfter }: Asked, scanMax: number): Saved {
    const saved = this.truth(order.clientId).filter((record) => this.isSaved(record));
    const wanted = new Set(events.map(({ id }) => id));
    const places = new Map(
      saved.filter(({ event }) => wanted.has(event.id)).map(({ event, place }) => [event.id, place]),
    );
    const { checkpoint: nextOffset } = this;
    if (!this.begun) return { nextOffset: null, server: 1, places, rows: NONE, looked: LOOKED_AT_NONE };
    if (rowsAfter === null) return { nextOffset, server: 1, places, rows: NONE, looked: LOOKED_AT_NONE };
    const above = rowsAfter.filter((offset) => offset >= nextOffset);
    const { rows, looked } = this.#rows(saved, selection, Math.max(0, scanMax - above.length));
    const end = above[0] === undefined ? null : { epoch: 2, offset: above[0] };
    return { nextOffset, server: 1, places, rows: rows === "all above" ? { events: [], cutAt: end } : rows, looked };
  }

  checkpoints(): Map<number, bigint> {
    return new Map(this.begun ? [[0, this.checkpoint]] : []);
  }

  verdicts(events: readonly TailEvent[]): Verdicts {
    const places = events.map(({ clientId, id }) => {
      const row = this.truth(clientId).find((record) => record.event.id === id && this.isSaved(record));
      return row?.place ?? null;
    });
    return { checkpoints: this.checkpoints(), places };
  }

  #rows(
    saved: readonly ModelRecord[],
    selection: Selection,
    scanMax: number,
  ): { rows: Source | "all above"; looked: Looked } {
    const { after, before, order } = selection;
    const inRange = saved.filter((record) =>
      passes({ after, before, types: null, sinceMs: null, untilMs: null }, record),
    );
    const looked = (order === "asc" ? inRange : inRange.reverse()).slice(
      0,
      hasFilters(selection) ? scanMax : undefined,
    );
    const matches = looked.filter((record) => passes(selection, record)).slice(0, selection.limit + 1);
    const events = matches.map(({ place, json }) => ({ place, json }));
    const full = matches.length > selection.limit;
    const cut = hasFilters(selection) && looked.length < inRange.length;
    const to = looked.at(-1)?.place ?? null;
    if (cut && to === null) return { rows: "all above", looked: LOOKED_AT_NONE };
    const cutAt = full ? (events.at(-1)?.place ?? null) : cut ? to : null;
    return { rows: { events, cutAt }, looked: { rows: looked.length, to } };
  }

  #append(place: Place): void {
    const random = this.#random;
    const event: Event = {
      clientId: random.pick(CLIENTS),
      id: `id-${random.below(random.next() < 0.3 ? 8 : 60)}`,
      type: random.pick(TYPES),
      occurredAtMs: random.below(100),
      receivedAtMs: 1,
      data: `${place.epoch * 1_000_000 + Number(place.offset)}`,
    };
    const cursor = orderOf(event.clientId).cursor(place);
    this.records.push({ place, event, json: eventJson(event, cursor) });
  }
}

const NONE: Source = { events: [], cutAt: null };
