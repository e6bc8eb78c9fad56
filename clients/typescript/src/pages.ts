/** A client's events, page by page. */
import type { Http } from "./http.ts";
import type { Event, Page, ReadOptions } from "./types.ts";

const PAGE_EVENTS_MAX = 1_000;

/** The pages of a client's events, each asked for when the one before was taken. @throws RefusedError, UnavailableError */
export async function* pages(
  http: Http,
  clientId: string,
  options: ReadOptions,
): AsyncGenerator<Page, void, undefined> {
  const { order = "asc", limit = Number.POSITIVE_INFINITY, signal } = options;
  const query = queryOf(clientId, { ...options, order });
  for (let left = limit; left > 0; ) {
    query.set("limit", String(Math.min(left, PAGE_EVENTS_MAX)));
    const { json, header } = await http.insist({ path: `/api/v1/events?${query}`, signal });
    const { events, next, hasMore } = json as Omit<Page, "savedThrough">;
    left -= events.length;
    yield { events, next, hasMore, savedThrough: header("spillway-saved-through") ?? "0" };
    if (!hasMore) return;
    query.set(order === "asc" ? "after" : "before", next);
  }
}

/** The events of those pages, one by one. */
export async function* read(
  http: Http,
  clientId: string,
  options: ReadOptions,
): AsyncGenerator<Event, void, undefined> {
  for await (const { events } of pages(http, clientId, options)) yield* events;
}

function queryOf(clientId: string, options: ReadOptions): URLSearchParams {
  const { after, before, order, types, since, until, view, consistency, atLeast } = options;
  const given = { clientId, after, before, order, since: text(since), until: text(until), view, consistency, atLeast };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) if (value !== undefined) query.set(name, value);
  for (const type of types ?? []) query.append("type", type);
  return query;
}

const text = (time: string | Date | undefined): string | undefined =>
  time instanceof Date ? time.toISOString() : time;
