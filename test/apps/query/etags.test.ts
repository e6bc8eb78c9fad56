import { expect, test } from "vitest";
import { caching, neverChanges, stillKept, unchanged } from "../../../apps/query/etags.ts";
import { ClientOrder, ORIGIN, type Place } from "../../../apps/query/places.ts";
import type { Page, PageQuery } from "../../../apps/query/read.ts";

const DAY_MS = 86_400_000;
const NOW = 20_000 * DAY_MS + 1_000;
const order = new ClientOrder("a", { epoch: 2, partitions: new Map([[2, 1]]) });
const at = (offset: number): Place => ({ epoch: 2, offset: BigInt(offset) });
const usual: PageQuery = {
  after: ORIGIN,
  before: null,
  types: null,
  sinceMs: null,
  untilMs: null,
  order: "asc",
  limit: 2,
  view: "merged",
  consistency: "latest",
  atLeast: null,
  timeoutMs: 5_000,
};
const full: Page = { events: ["x", "y"], next: at(7), hasMore: true, savedThrough: at(7) };

test("a page never changes when it is full, saved as a whole, and more comes behind it", () => {
  expect(neverChanges(usual, full)).toBe(true);
  expect(neverChanges(usual, { ...full, savedThrough: at(6) })).toBe(false);
  expect(neverChanges(usual, { ...full, savedThrough: { epoch: 1, offset: 9n } })).toBe(false);
  expect(neverChanges(usual, { ...full, savedThrough: null })).toBe(false);
  expect(neverChanges(usual, { ...full, hasMore: false })).toBe(false);
  expect(neverChanges(usual, { ...full, unchecked: true })).toBe(false);
  expect(neverChanges(usual, { ...full, events: ["x"] })).toBe(false);
});

test("a descending page does when it begins where nothing can be added", () => {
  const desc: PageQuery = { ...usual, order: "desc" };
  expect(neverChanges(desc, full)).toBe(false);
  expect(neverChanges({ ...desc, before: at(8) }, full)).toBe(true);
  expect(neverChanges({ ...desc, before: at(9) }, full)).toBe(false);
  expect(neverChanges({ ...desc, before: at(8) }, { ...full, events: [] })).toBe(false);
});

const told = (query: PageQuery, page: Page, body = "body", nowMs = NOW) =>
  caching({ order, query, page, body: Buffer.from(body) }, nowMs);

test("what never changes may be kept to the end of the next day, and is not read again before", () => {
  const { etag, cacheControl } = told(usual, full);
  expect([etag, cacheControl]).toEqual([
    expect.stringMatching(/^"20000-[\w-]{22}-[\w-]{22}"$/),
    "private, immutable, max-age=172799",
  ]);
  expect(told(usual, full, "body", NOW + 5_000).etag).toBe(etag);
  expect(stillKept(etag, order, usual, NOW)).toEqual({ etag, cacheControl });
  expect(stillKept(`"x", W/${etag}`, order, usual, NOW + DAY_MS)).toEqual({
    etag,
    cacheControl: "private, immutable, max-age=86399",
  });
  expect(stillKept(etag, order, usual, NOW - 1_000 + 2 * DAY_MS)).toBeNull();
  expect(stillKept(etag, order, usual, NOW - DAY_MS)).toBeNull();
  expect(stillKept(undefined, order, usual, NOW)).toBeNull();
  expect(stillKept("*", order, usual, NOW)).toBeNull();
});

test("a tag proves nothing for another question", () => {
  const { etag } = told(usual, full);
  const others: Partial<PageQuery>[] = [
    { after: at(1) },
    { before: at(100) },
    { types: new Set(["t"]) },
    { sinceMs: 1 },
    { untilMs: 1 },
    { order: "desc" },
    { limit: 3 },
    { view: "saved" },
  ];
  for (const other of others) expect(stillKept(etag, order, { ...usual, ...other }, NOW)).toBeNull();
  expect(stillKept(etag, new ClientOrder("b", { epoch: 2, partitions: new Map([[2, 1]]) }), usual, NOW)).toBeNull();
  // How long the answer may take, and what it must cover, is no part of it.
  expect(stillKept(etag, order, { ...usual, timeoutMs: 1, consistency: "known", atLeast: at(1) }, NOW)).not.toBeNull();
  const types = (...some: string[]): PageQuery => ({ ...usual, types: new Set(some) });
  expect(told(types("a", "b"), full).etag).toBe(told(types("b", "a"), full).etag);
});

test("a page that may change is told by its body alone, each time after it was read", () => {
  const page = { ...full, hasMore: false };
  const { etag, cacheControl } = told(usual, page);
  expect([etag, cacheControl]).toEqual([expect.stringMatching(/^"[\w-]{22}"$/), "no-cache"]);
  expect(told(usual, page, "other").etag).not.toBe(etag);
  expect(stillKept(etag, order, usual, NOW)).toBeNull();
  expect(unchanged(etag, etag)).toBe(etag);
  expect(unchanged(`"a" , W/${etag}`, etag)).toBe(etag);
  expect(unchanged("*", etag)).toBe(etag);
  for (const header of [undefined, "", '"a"', '"', etag.replaceAll('"', "")])
    expect(unchanged(header, etag)).toBeNull();
});

test("a page that was kept for too long is right if its body is: the caller hears of it by its own tag", () => {
  const old = told(usual, full);
  const later = told(usual, full, "body", NOW + 3 * DAY_MS);
  expect(later.etag).not.toBe(old.etag);
  expect(unchanged(old.etag, later.etag)).toBe(old.etag);
  expect(unchanged(old.etag, told(usual, full, "erased", NOW).etag)).toBeNull();
});
