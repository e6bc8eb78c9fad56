/** One page, whatever part of it is saved: the same events, the same `next`, the same `hasMore`, at every bound. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CURSOR_LENGTH } from "#lib/cursor.ts";
import { type Event, eventJson } from "#lib/event.ts";
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
