/**
 * Pages in caches: which can never change, and whether what a caller has is still right. Pure.
 *
 * A page of saved events that nothing can be added to stays as it is, unless its owner erases rows: so it may be kept to the end
 * of the next day (UTC) and no longer. Its tag tells that day and the question. Until then the tag alone proves that the caller
 * may keep what it has, which is 304 without a look at the rows; later they are read, and compared by the body's digest, as those
 * of other pages always are. A tag opens nothing: the caller's right to the client is asked for before.
 */
import { hash } from "node:crypto";
import { type ClientOrder, comparePlaces } from "./places.ts";
import type { Page, PageQuery } from "./read.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;
/** 132 bits in base64url. */
const DIGEST_LENGTH = 22;
const LASTING = /^"(\d{1,7})-([\w-]{22})-[\w-]{22}"$/;

/** What a cache is told. */
export interface Caching {
  readonly etag: string;
  readonly cacheControl: string;
}

/** A page with its body. */
export interface Answered {
  readonly order: ClientOrder;
  readonly query: PageQuery;
  readonly page: Page;
  readonly body: Uint8Array;
}

/** Full, saved as a whole, shown by the database to hold no copy, and not at the end of what there is. */
export function neverChanges(
  { before, limit, order }: PageQuery,
  { events, next, hasMore, savedThrough, unchecked }: Page,
): boolean {
  if (unchecked || savedThrough === null || !hasMore || events.length < limit) return false;
  if (order === "asc") return comparePlaces(next, savedThrough) <= 0;
  const unsaved = { ...savedThrough, offset: savedThrough.offset + 1n };
  return before !== null && comparePlaces(before, unsaved) <= 0;
}

/** What is told with a page. */
export function caching({ order, query, page, body }: Answered, nowMs: number): Caching {
  const digest = digestOf(body);
  if (!neverChanges(query, page)) return { etag: `"${digest}"`, cacheControl: "no-cache" };
  const day = Math.floor(nowMs / DAY_MS);
  return { etag: `"${day}-${questionOf(order, query)}-${digest}"`, cacheControl: lasting(day, nowMs) };
}

/**
 * What is told with 304 without reading anything: the caller has a page of just this question, which it may still keep.
 * @returns null: it must be read
 */
export function stillKept(
  header: string | undefined,
  order: ClientOrder,
  query: PageQuery,
  nowMs: number,
): Caching | null {
  const today = Math.floor(nowMs / DAY_MS);
  for (const etag of tagsOf(header)) {
    const [, day = "", question] = LASTING.exec(etag) ?? [];
    if (question !== questionOf(order, query)) continue;
    if (Number(day) === today || Number(day) === today - 1) return { etag, cacheControl: lasting(Number(day), nowMs) };
  }
  return null;
}

/** Which of the caller's tags names the body that it would get. @returns null: none */
export function unchanged(header: string | undefined, etag: string): string | null {
  if (header?.trim() === "*") return etag;
  const digest = etag.slice(-DIGEST_LENGTH - 1);
  return tagsOf(header).find((tag) => tag.slice(-DIGEST_LENGTH - 1) === digest) ?? null;
}

/** `If-None-Match` compares weakly: `W/` says nothing here. */
const tagsOf = (header = ""): readonly string[] => header.match(/"[^"]*"/g) ?? [];

const lasting = (day: number, nowMs: number): string =>
  `private, immutable, max-age=${Math.ceil(((day + 2) * DAY_MS - nowMs) / 1_000)}`;

function questionOf(order: ClientOrder, { after, before, types, ...query }: PageQuery): string {
  const range = [order.cursor(after), before === null ? null : order.cursor(before)];
  const filters = [types === null ? null : [...types].sort(), query.sinceMs, query.untilMs];
  return digestOf(JSON.stringify([order.clientId, range, filters, query.order, query.limit, query.view]));
}

const digestOf = (data: string | Uint8Array): string => hash("sha256", data, "base64url").slice(0, DIGEST_LENGTH);
