/**
 * What one page looks at in a pinned tail: which events, and how far with filters that pass most of them over. Where part of
 * the tail is on disk, what is looked at is a window (`disk/window.ts`), and a page ends no later than that. Pure.
 */
import { indexOf, type TailEvent } from "./client-tail.ts";
import { type Filter, hasFilters, type Selection } from "./merge.ts";
import type { Pin } from "./partition-tail.ts";
import { comparePlaces, type Place } from "./places.ts";

/** Tail events that may belong to a page, in reading order, before it is known which of them are copies. */
export interface Candidates {
  readonly events: readonly TailEvent[];
  /** Null: all of the range. Otherwise everything up to this offset, in reading order, was looked at. */
  readonly cutAt: bigint | null;
}

/**
 * Events looked at for one page with filters, in rows and tail together, so that it ends where it ended before it was saved.
 * Copies in the tail count too, since most of them are never looked up; they alone move that end.
 */
export const SCAN_EVENTS_MAX = 10_000;

/** What a page with filters has looked at among the rows. */
export interface Looked {
  readonly rows: number;
  /** The last of them in reading order; null: none. */
  readonly to: Place | null;
}

export const LOOKED_AT_NONE: Looked = { rows: 0, to: null };

/** Offsets of the tail's events that a descending page with filters looks at before any row, ascending; bounded. */
export function lookedAtFirst(pin: Pin, epoch: number, selection: Selection): readonly bigint[] {
  if (selection.order === "asc" || !hasFilters(selection)) return [];
  const { first, end } = bounds(pin, epoch, selection, 0n);
  return pin.array.slice(Math.max(first, end - SCAN_EVENTS_MAX), end).map(({ offset }) => offset);
}

/**
 * @param looked what came before the tail's half: only ascending anything does
 * @returns the last event that the page may look at; null: it may look at all there is
 */
export function scanEnd(
  pin: Pin,
  epoch: number,
  selection: Selection,
  unsavedFrom: bigint,
  looked: Looked,
): Place | null {
  if (!hasFilters(selection)) return null;
  const ascending = selection.order === "asc";
  const { first, end } = bounds(pin, epoch, selection, unsavedFrom);
  const left = SCAN_EVENTS_MAX - (ascending ? looked.rows : 0);
  if (end - first <= left) return null;
  if (left <= 0) return looked.to;
  return { epoch, offset: (pin.array[ascending ? first + left - 1 : end - left] as TailEvent).offset };
}

/**
 * The first events of the pinned tail in range that pass the filters: one more than the limit, not counting those that the
 * tail itself shows to be copies.
 * @param epoch the tail's
 * @param beyond goes on after this offset, in reading order; null: from the end of the range
 */
export function candidates(pin: Pin, epoch: number, selection: Selection, beyond: bigint | null = null): Candidates {
  const range = rangeBeyond(pin, epoch, selection, beyond);
  const { first, end } = indexes(pin, range, 0n);
  const step = selection.order === "asc" ? 1 : -1;
  const events: TailEvent[] = [];
  let counted = 0;
  let last: TailEvent | null = null;
  for (let nth = 0; nth < end - first; nth++) {
    if (last !== null && (counted > selection.limit || nth >= SCAN_EVENTS_MAX)) return { events, cutAt: last.offset };
    last = pin.array[step === 1 ? first + nth : end - 1 - nth] as TailEvent;
    if (!passes(last, selection)) continue;
    events.push(last);
    if (last.previous < pin.start) counted++;
  }
  return { events, cutAt: edge(pin, range, selection.order) };
}

/** The selection without what lies below `from`, where it comes first: it would fill a page, and then be left out of it. */
export function notBelow<S extends Selection>(selection: S, epoch: number, from: bigint): S {
  const last = { epoch, offset: from - 1n };
  return selection.order === "asc" && comparePlaces(selection.after, last) < 0
    ? { ...selection, after: last }
    : selection;
}

/**
 * Those of which the tail held no earlier record when they came, as live events are judged without the database: of a copy it
 * tells although the first one has been saved since, or has left.
 */
export const firstsByTail = ({ events, cutAt }: Candidates): Candidates => ({
  events: events.filter(({ previous }) => previous < 0n),
  cutAt,
});

/** The part of the selection's range that lies in the pinned tail: offsets in [from, to). */
export function rangeOf(
  pin: Pin,
  epoch: number,
  { after, before }: Pick<Selection, "after" | "before">,
): { from: bigint; to: bigint } {
  const from = after.epoch === epoch ? after.offset + 1n : after.epoch > epoch ? pin.next : 0n;
  const to = before === null || before.epoch > epoch ? pin.next : before.epoch === epoch ? before.offset : 0n;
  return { from: from > pin.start ? from : pin.start, to: to < pin.next ? to : pin.next };
}

function rangeBeyond(
  pin: Pin,
  epoch: number,
  selection: Selection,
  beyond: bigint | null,
): { from: bigint; to: bigint } {
  const range = rangeOf(pin, epoch, selection);
  if (beyond === null) return range;
  if (selection.order === "asc") return { ...range, from: beyond < range.from ? range.from : beyond + 1n };
  return { ...range, to: beyond < range.to ? beyond : range.to };
}

/** Indexes [first, end) of the pinned events inside the range, at offsets from `low` on. */
function bounds(pin: Pin, epoch: number, selection: Selection, low: bigint): { first: number; end: number } {
  return indexes(pin, rangeOf(pin, epoch, selection), low);
}

function indexes(pin: Pin, { from, to }: { from: bigint; to: bigint }, low: bigint): { first: number; end: number } {
  const first = indexOf(pin, from > low ? from : low);
  return { first, end: Math.max(first, indexOf(pin, to)) };
}

/** Where a pin's view ends within the range, in reading order; null: it covers it. */
function edge({ low, high }: Pin, { from, to }: { from: bigint; to: bigint }, order: "asc" | "desc"): bigint | null {
  if (order === "asc") return high < to ? high - 1n : null;
  return low > from && from < to ? low : null;
}

/** Whether an event that a page looks at belongs to it. */
export function passes(event: Pick<TailEvent, "type" | "occurredAtMs">, { types, sinceMs, untilMs }: Filter): boolean {
  return (
    (types === null || types.has(event.type)) &&
    (sinceMs === null || event.occurredAtMs >= sinceMs) &&
    (untilMs === null || event.occurredAtMs < untilMs)
  );
}
