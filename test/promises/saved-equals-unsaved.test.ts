/**
 * Promise: an event is shown in the same bytes before and after it is saved, in pages and in live frames.
 * Attack: every hostile event of the corpus, read on both sides of its saving, by nodes that remember it and that do not.
 */
import { expect, test } from "vitest";
import { bodyOf, HOSTILE_EVENTS, type HostileEvent } from "../support/corpus.ts";
import { Follower } from "./support/follower.ts";
import type { Node } from "./support/producer.ts";
import { Reader } from "./support/reader.ts";
import { type Spillway, startSpillway } from "./support/spillway.ts";

const CLIENTS = [...new Set(HOSTILE_EVENTS.map(({ clientId }) => clientId))];

async function post(spillway: Spillway, event: HostileEvent): Promise<void> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${spillway.ingest.url}/api/v1/events`, {
    method: "POST",
    headers,
    body: bodyOf(event),
  });
  const answer = (await response.json()) as { id?: string };
  expect([event.name, response.status, answer.id]).toEqual([event.name, 201, event.id]);
}

/** Every client's events as printed: id → text. */
async function shown(spillway: Spillway, node: Node, wanted: { order?: "asc" | "desc"; view?: "saved" | "unsaved" }) {
  const texts = new Map<string, string>();
  const reader = new Reader(spillway.history);
  for (const clientId of CLIENTS)
    for (const text of (await reader.walk(node, { clientId, ...wanted })).texts)
      texts.set((JSON.parse(text) as { id: string }).id, text);
  return texts;
}

/** The same from live frames that begin at the beginning. */
async function followed(node: Node): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const by of ["socket", "stream"] as const)
    for (const clientId of CLIENTS) {
      const follower = new Follower({ clientId, after: "0", by });
      await follower.connect(node);
      await follower.caughtUp();
      for (const text of follower.texts) {
        const { id } = JSON.parse(text) as { id: string };
        expect(texts.get(id) ?? text).toBe(text);
        texts.set(id, text);
      }
      follower.cut();
    }
  return texts;
}

test("every hostile event, by page and by frame, unsaved, saved, and on a node that never saw it unsaved", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 1 });
  const { query, history, database } = spillway;
  const live = CLIENTS.slice(0, 10).map((clientId) => new Follower({ clientId, after: "0" }));
  for (const follower of live) await follower.connect(query);
  for (const event of HOSTILE_EVENTS) await post(spillway, event);

  const unsaved = await shown(spillway, query, {});
  expect(unsaved.size).toBe(HOSTILE_EVENTS.length);
  for (const { id, clientId, type, canonical, name } of HOSTILE_EVENTS) {
    const text = unsaved.get(id) ?? "";
    // Not parsed: the canonical text itself stands in the answer, or the field is not there at all.
    const [, data] = /^\{.*?"receivedAt":"[^"]*"(?:,"data":(.*))?,"cursor":"[0-9a-v]{24}"\}$/s.exec(text) ?? [];
    expect([name, data]).toEqual([name, canonical ?? undefined]);
    expect(JSON.parse(text)).toMatchObject({ id, clientId, type });
  }
  for (const follower of live)
    await follower.shows(HOSTILE_EVENTS.filter((one) => one.clientId === follower.clientId).map(({ id }) => id));
  for (const text of live.flatMap(({ texts }) => texts))
    expect(unsaved.get((JSON.parse(text) as { id: string }).id)).toBe(text);
  expect(await shown(spillway, query, { view: "unsaved", order: "desc" })).toEqual(unsaved);
  expect(await followed(query)).toEqual(unsaved);

  await spillway.start("sink");
  await spillway.saved();
  const dead = await database.query("SELECT reason, detail FROM spillway.dead_letter");
  expect(dead).toEqual([]);
  const fresh = await spillway.start("query");
  for (const node of [query, fresh]) {
    expect(await shown(spillway, node, {})).toEqual(unsaved);
    expect(await shown(spillway, node, { order: "desc" })).toEqual(unsaved);
    expect(await shown(spillway, node, { view: "saved" })).toEqual(unsaved);
    expect(await followed(node)).toEqual(unsaved);
  }
  // Each was really read on both sides: as above the checkpoint first, as below it then.
  const pages = history.entries.filter((one) => one.f === "page");
  const side = (saved: boolean) =>
    new Set(
      pages.flatMap(({ events, savedThrough }) =>
        events
          .filter(({ offset }) => offset <= (savedThrough ?? -1n) === saved)
          .map(({ clientId, id }) => `${clientId}/${id}`),
      ),
    );
  expect([side(false).size, side(true).size]).toEqual([HOSTILE_EVENTS.length, HOSTILE_EVENTS.length]);
});
