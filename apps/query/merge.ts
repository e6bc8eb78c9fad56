/**
 * Rows and a pinned tail → one page. Pure.
 *
 * Both halves are sources in reading order: a run of printed events, and whether that is all the source has in the range.
 * A page takes from one after the other and stops where it is full or where a source was cut short.
 */
import { indexOf, type TailEvent } from "./client-tail.ts";
import type { Pin } from "./partition-tail.ts";
import { comparePlaces, type Place } from "./places.ts";

/** What of a client's events a reader asks for. Both ends of the range are exclusive. */
export interface Filter {
  readonly after: Place;
  /** Null: no upper end. */
  readonly before: Place | null;
  /** Null: all types. */
  readonly types: ReadonlySet<string> | null;
  /** Inclusive, ms since 1970; null: no lower end. */
  readonly sinceMs: number | null;
  /** Exclusive, ms since 1970; null: no upper end. */
  readonly untilMs: number | null;
}

export interface Selection extends Filter {
  readonly order: "asc" | "desc";
  /** Most events in the page. */
  readonly limit: number;
}

/** Whether filters may pass over events, so that the work is no longer bounded by the limit. */
export const hasFilters = ({ types, sinceMs, untilMs }: Filter): boolean =>
  types !== null || sinceMs !== null || untilMs !== null;

export interface Printed {
  readonly place: Place;
  readonly json: string;
}

/** One half of a page, in reading order. */
export interface Source {
  readonly events: readonly Printed[];
  /** Null: nothing else in the range. Otherwise everything up to this place was looked at. */
  readonly cutAt: Place | null;
}

export interface Merged {
  readonly events: readonly string[];
  /** Everything up to here, in reading order, is in this page or passed over by its filters. */
  readonly next: Place;
  readonly hasMore: boolean;
}

/**
 * Bytes are those of the answer, in UTF-8: neither text in memory nor rows in the database measure alike, and a page would
 * be cut at another place once it is saved.
 * @param sources in reading order
 * @param end what is covered when every source has been taken whole
 */
export function assemble(sources: readonly Source[], limit: number, bytesMax: number, end: Place): Merged {
  const events: string[] = [];
  let bytes = 0;
  let last: Place | null = null;
  for (const source of sources) {
    for (const { place, json } of source.events) {
      const size = Buffer.byteLength(json);
      if (last !== null && (events.length >= limit || bytes + size > bytesMax))
        return { events, next: last, hasMore: true };
      events.push(json);
      bytes += size;
      last = place;
    }
    if (source.cutAt !== null) return { events, next: source.cutAt, hasMore: true };
  }
  return { events, next: end, hasMore: false };
}

/** Tail events that may belong to a page, in reading order, before it is known which of them are copies. */
export interface Candidates {
  readonly events: readonly TailEvent[];
  /** Null: all of the range. Otherwise everything up to this offset, in reading order, was looked at. */
  readonly cutAt: bigint | null;
}

/** Events looked at for one page at most, in the tail and among the rows each. */
export const SCAN_EVENTS_MAX = 10_000;

/**
 * The first events of the pinned tail in range that pass the filters: one more than the limit, not counting those that the
 * tail itself shows to be copies.
 * @param epoch the tail's
 * @param beyond goes on after this offset, in reading order; null: from the end of the range
 */
export function candidates(pin: Pin, epoch: number, selection: Selection, beyond: bigint | null = null): Candidates {
  const { first, end } = bounds(pin, epoch, selection, beyond);
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
  return { events, cutAt: null };
}

/** Indexes [first, end) of the pinned events inside the range. */
function bounds(pin: Pin, epoch: number, selection: Selection, beyond: bigint | null): { first: number; end: number } {
  const { after, before, order } = selection;
  let low = after.epoch === epoch ? after.offset + 1n : after.epoch > epoch ? pin.next : 0n;
  let high = before === null || before.epoch > epoch ? pin.next : before.epoch === epoch ? before.offset : 0n;
  if (beyond !== null && order === "asc") low = beyond + 1n > low ? beyond + 1n : low;
  if (beyond !== null && order === "desc") high = beyond < high ? beyond : high;
  const first = indexOf(pin, low);
  return { first, end: Math.max(first, indexOf(pin, high)) };
}

function passes(event: TailEvent, { types, sinceMs, untilMs }: Filter): boolean {
  return (
    (types === null || types.has(event.type)) &&
    (sinceMs === null || event.occurredAtMs >= sinceMs) &&
    (untilMs === null || event.occurredAtMs < untilMs)
  );
}

/** Where the saved row of an identity lies. */
export type RowPlaces = ReadonlyMap<string, Place>;

/**
 * An event is a copy if and only if a saved row or a tail record with its identity lies at a lower position. A row at the
 * same position is the event itself, saved meanwhile.
 * @param unsavedFrom offsets at or above it are tail records for this read
 */
export function isCopy(event: TailEvent, epoch: number, unsavedFrom: bigint, rows: RowPlaces): boolean {
  if (event.previous >= 0n && event.previous >= unsavedFrom) return true;
  const row = rows.get(event.id);
  return row !== undefined && comparePlaces(row, { epoch, offset: event.offset }) < 0;
}

/** The tail's half of a page: candidates at or above `unsavedFrom` that are no copies. */
export function tailSource(
  found: Candidates,
  epoch: number,
  order: "asc" | "desc",
  unsavedFrom: bigint,
  rows: RowPlaces,
): Source {
  const events: Printed[] = [];
  for (const event of found.events)
    if (event.offset >= unsavedFrom && !isCopy(event, epoch, unsavedFrom, rows))
      events.push({ place: { epoch, offset: event.offset }, json: event.json });
  return { events, cutAt: cutPlace(found.cutAt, epoch, order, unsavedFrom) };
}

/** Below `unsavedFrom` the rows have the word: ascending they have covered it all, descending they come next. */
function cutPlace(cutAt: bigint | null, epoch: number, order: "asc" | "desc", unsavedFrom: bigint): Place | null {
  if (cutAt === null || (order === "desc" && cutAt < unsavedFrom)) return null;
  return { epoch, offset: cutAt < unsavedFrom ? unsavedFrom - 1n : cutAt };
}
