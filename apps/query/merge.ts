/**
 * Rows and a pinned tail → one page. Pure.
 *
 * Both halves are sources in reading order: a run of printed events, and whether that is all the source has in the range.
 * A page takes from one after the other and stops where it is full or where a source was cut short.
 */
import type { TailEvent } from "./client-tail.ts";
import { type ClientOrder, comparePlaces, earlier, later, type Place } from "./places.ts";
import type { Candidates } from "./scan.ts";

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

/** Where the saved row of an identity lies. */
export type RowPlaces = ReadonlyMap<string, Place>;

/**
 * An event is a copy if and only if a saved row or a tail record with its identity lies at a lower position. A row at the
 * same position is the event itself, saved meanwhile; saved without one, it was a copy, or its owner has erased it.
 * @param unsavedFrom offsets at or above it are tail records for this read
 * @param savedBelow the checkpoint of the snapshot that the rows are from, which may be a later one
 */
export function isCopy(
  event: TailEvent,
  epoch: number,
  unsavedFrom: bigint,
  rows: RowPlaces,
  savedBelow: bigint = unsavedFrom,
): boolean {
  if (event.previous >= 0n && event.previous >= unsavedFrom) return true;
  const row = rows.get(event.id);
  if (row === undefined) return event.offset < savedBelow;
  return comparePlaces(row, { epoch, offset: event.offset }) !== 0;
}

/**
 * The tail's half of a page: candidates at or above `unsavedFrom` that are no copies.
 * @param end as `scanEnd` gives it
 * @param savedBelow as for `isCopy`
 */
export function tailSource(
  found: Candidates,
  epoch: number,
  order: "asc" | "desc",
  unsavedFrom: bigint,
  rows: RowPlaces,
  end: Place | null,
  savedBelow: bigint = unsavedFrom,
): Source {
  const step = order === "asc" ? 1 : -1;
  const pastEnd = (place: Place): number => (end === null ? -1 : comparePlaces(place, end) * step);
  const events: Printed[] = [];
  for (const event of found.events) {
    const place = { epoch, offset: event.offset };
    if (event.offset >= unsavedFrom && pastEnd(place) <= 0 && !isCopy(event, epoch, unsavedFrom, rows, savedBelow))
      events.push({ place, json: event.json });
  }
  const cutAt = cutPlace(found.cutAt, epoch, order, unsavedFrom);
  return { events, cutAt: cutAt === null || pastEnd(cutAt) >= 0 ? end : cutAt };
}

/** Below `unsavedFrom` the rows have the word: ascending they have covered it all, descending they come next. */
function cutPlace(cutAt: bigint | null, epoch: number, order: "asc" | "desc", unsavedFrom: bigint): Place | null {
  if (cutAt === null || (order === "desc" && cutAt < unsavedFrom)) return null;
  return { epoch, offset: cutAt < unsavedFrom ? unsavedFrom - 1n : cutAt };
}

/** Events that come before the tail's in reading order; null: the rows fill the page. */
export const taken = (query: Selection, rows: readonly Source[]): number | null =>
  query.order === "desc" ? 0 : rows.some(({ cutAt }) => cutAt !== null) ? null : (rows[0]?.events.length ?? 0);

/** What is covered once nothing more is to be had. @param covered first offset not looked at */
export function endOf({ epoch }: ClientOrder, { order, after, before }: Selection, covered: bigint): Place {
  if (order === "desc") return after;
  const end = { epoch, offset: covered - 1n };
  if (before === null) return later(end, after);
  const beforeIt = { epoch: before.epoch, offset: before.offset < 0n ? -1n : before.offset - 1n };
  return later(earlier(end, beforeIt), after);
}
