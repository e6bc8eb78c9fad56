/** One page, whatever part of it is saved: the same events, the same `next`, the same `hasMore`, at every bound. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CURSOR_LENGTH } from "#lib/cursor.ts";
import { type Event, eventJson, OCCURRED_AT_MS_MAX, OCCURRED_AT_MS_MIN, timeText } from "#lib/event.ts";
import { parseTime } from "#lib/rfc3339.ts";
import { PAGE_BYTES_MAX } from "../../../apps/query/statements.ts";
import type { App } from "../../support/process.ts";
import { bodyOf, Given, type PageAnswer, type Placed, page } from "./given.ts";

type Parameters = Readonly<Record<string, string>>;

let given: Given;
let node: App;
beforeAll(async () => {
  given = await Given.create();
  node = await given.node();
  await node.ready();
});
afterAll(async () => {
  expect(await node.stop()).toBe(0);
  await given[Symbol.asyncDispose]();
});

/** The answers to these questions while nothing is saved and with each of these many events saved: all the same. */
async function sameAnswers(
  placed: readonly Placed[],
  saved: readonly number[],
  questions: readonly Parameters[],
): Promise<PageAnswer[]> {
  const [{ partition, offset, event }] = placed as [Placed];
  const ask = (): Promise<PageAnswer[]> =>
    Promise.all(questions.map((question) => page(node, { clientId: event.clientId, ...question })));
  const unsaved = await ask();
  for (const answer of unsaved) expect(answer.status).toBe(200);
  for (const count of saved) {
    await given.save(partition, offset + BigInt(count));
    for (const [nth, { text, headers }] of (await ask()).entries()) {
      expect(headers.get("spillway-saved-through")).toBe(placed[count - 1]?.cursor);
      // Not by `expect`, which would print megabytes.
      const [now, before] = [JSON.parse(text), JSON.parse(unsaved[nth]?.text ?? "")] as [PageAnswer, PageAnswer];
      expect([count, questions[nth], now.events.length, now.next, now.hasMore]).toEqual([
        count,
        questions[nth],
        before.events.length,
        before.next,
        before.hasMore,
      ]);
      expect(text === unsaved[nth]?.text).toBe(true);
    }
  }
  return unsaved;
}

/** An event whose part of an answer is just so many bytes long. */
function sized(clientId: string, character: string, bytes: number): Event {
  const event = given.event(clientId, { data: '""' });
  const left = bytes - Buffer.byteLength(eventJson(event, " ".repeat(CURSOR_LENGTH)));
  const width = Buffer.byteLength(character);
  return { ...event, data: `"${"x".repeat(left % width)}${character.repeat(Math.floor(left / width))}"` };
}

test.each([
  ["one byte", "a"],
  ["two bytes", "é"],
  ["three bytes", "語"],
  ["four bytes", "😀"],
])("a page of characters of %s each is cut at the same byte, saved, unsaved or in between", async (_, character) => {
  const clientId = `wide ${character}`;
  const part = PAGE_BYTES_MAX / 32;
  // 32 of them fill a page to its last byte; with the 33rd among them a page would be one byte too long.
  const sizes = [...Array.from({ length: 32 }, () => part), part + 1, part];
  const placed = await given.append(...sizes.map((bytes) => sized(clientId, character, bytes)));
  expect(placed.map(({ json }) => Buffer.byteLength(json))).toEqual(sizes);
  const questions = [
    { limit: "1000" },
    { limit: "1000", after: placed[0]?.cursor ?? "" },
    { limit: "1000", order: "desc" },
    { limit: "1000", type: "made" },
  ];
  const [asc, beyond, desc] = await sameAnswers(placed, [1, 20, 32, 33, 34], questions);
  expect(asc?.text === bodyOf(placed.slice(0, 32), placed[31]?.cursor ?? "", true)).toBe(true);
  expect(beyond?.events).toHaveLength(31);
  expect(desc?.events).toHaveLength(31);
});

test("since and until choose the same events at the ends of time and to the millisecond, saved and unsaved", async () => {
  const near = [
    OCCURRED_AT_MS_MIN,
    -59_011_459_199_999,
    -1,
    0,
    1_700_000_000_123,
    250_000_000_000_001,
    OCCURRED_AT_MS_MAX,
  ];
  const times = near
    .flatMap((ms) => Array.from({ length: 9 }, (_, n) => ms + n - 4))
    .filter((ms) => ms >= OCCURRED_AT_MS_MIN && ms <= OCCURRED_AT_MS_MAX);
  const placed = await given.append(...times.map((occurredAtMs) => given.event("times", { occurredAtMs })));
  const bounds = [
    ...times.map(timeText),
    // In UTC the years -1, 0 and 10000.
    "0000-01-01T00:00:00+23:59",
    "0000-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59.999-00:01",
  ];
  const questions = bounds.flatMap((bound) => [{ since: bound }, { until: bound }]);
  const answers = await sameAnswers(placed, [placed.length], questions);
  const chosen = answers.map(({ events }) => events.length);
  const milliseconds = (bound: string): number => (parseTime(bound) as { ms: number }).ms;
  const before = (bound: string): number => times.filter((ms) => ms < milliseconds(bound)).length;
  expect(chosen).toEqual(bounds.flatMap((bound) => [times.length - before(bound), before(bound)]));
});

test("a filter that passes over more than a page may look at gives the same pages, and a walk finds all of its events", async () => {
  // 20,001 are two pages' looks and one more; the rare ones lie around the bounds.
  const rare = new Set([0, 1, 9_998, 9_999, 10_000, 10_001, 15_000, 19_999, 20_000]);
  const events = Array.from({ length: 20_001 }, (_, n) =>
    given.event("sparse", { type: rare.has(n) ? "rare" : "common", data: null }),
  );
  const placed = await given.append(...events);
  const at = (nth: number): string => placed[nth]?.cursor ?? "";
  const questions: Parameters[] = [
    { type: "rare" },
    { type: "rare", limit: "3" },
    { type: "none" },
    { type: "none", after: at(9_999) },
    { type: "none", after: at(10_000) },
    { type: "rare", order: "desc" },
    { type: "none", order: "desc" },
    { type: "none", order: "desc", before: at(10_000) },
    { type: "none", order: "desc", before: at(10_001) },
    { until: "1970-01-01T00:00:00Z" },
  ];
  const answers = await sameAnswers(placed, [1, 6_000, 9_999, 10_000, 10_001, 14_000, 20_001], questions);
  expect(answers.map(({ hasMore }) => hasMore)).toEqual([true, true, true, true, false, true, true, false, true, true]);
  expect([answers[0]?.next, answers[4]?.next, answers[5]?.next]).toEqual([at(9_999), at(20_000), at(10_001)]);
  for (const [order, on] of [
    ["asc", "after"],
    ["desc", "before"],
  ] as const) {
    const ids: string[] = [];
    for (let from: Parameters = {}, more = true; more; ) {
      const answer = await page(node, { clientId: "sparse", type: "rare", order, ...from });
      ids.push(...answer.events.map(({ id }) => id));
      [from, more] = [{ [on]: answer.next }, answer.hasMore];
    }
    const wanted = placed.filter((_, n) => rare.has(n)).map(({ event }) => event.id);
    expect(ids).toEqual(order === "asc" ? wanted : wanted.reverse());
  }
});
