/**
 * Promise: an id is stored and shown once, and its first copy wins; sent again it is acknowledged again and never appears
 * a second time.
 * Attack: the same ids again, with the same and with other contents: in one request, through two nodes at once, before
 * the first was saved, after it, and across that seam.
 */
import { expect, test } from "vitest";
import type { NewEvent } from "./support/content.ts";
import { Follower } from "./support/follower.ts";
import type { Answered } from "./support/producer.ts";
import { type Spillway, startSpillway } from "./support/spillway.ts";
import { EventMaker } from "./support/workload.ts";

const CLIENTS = ["once-a", "once-b", "once-c", "once-d"];
const other = (event: NewEvent, by: string): NewEvent => ({ ...event, type: `later-${by}`, data: { by, again: true } });

/** Reads every client on every node in both directions; the checker looks for repeats in each walk. */
async function readAll({ reader, queries }: Spillway): Promise<void> {
  for (const node of queries)
    for (const clientId of CLIENTS) {
      await reader.walk(node, { clientId, limit: 7 });
      await reader.walk(node, { clientId, limit: 7, order: "desc" });
      await reader.walk(node, { clientId, limit: 50, view: "unsaved" });
    }
}

test("whenever, wherever and with whatever content an id is sent again", async () => {
  await using spillway = await startSpillway({ ingests: 2, sinks: 1, queries: 2 });
  const { producer, history, ingests, queries, sink } = spillway;
  const [one, two] = ingests;
  const [query] = queries;
  if (one === undefined || two === undefined || query === undefined) throw new Error("two ingest nodes are needed");
  const follower = new Follower({ clientId: "once-a", after: "0" });
  await follower.connect(query);
  const maker = new EventMaker("once");
  const some = (): NewEvent[] => CLIENTS.flatMap((clientId) => [maker.make(clientId), maker.make(clientId)]);
  const expectOk = (answers: readonly Answered[]): void =>
    expect(new Set(answers.map(({ outcome }) => outcome))).toEqual(new Set(["ok"]));

  const saved = some();
  await producer.deliver(one, saved);
  await spillway.saved();
  await sink.kill();

  // In one request, the second time with another content.
  const within = some();
  expectOk([
    await producer.append(
      one,
      within.flatMap((event) => [event, other(event, "within"), event]),
    ),
  ]);
  // Through both nodes at the same time.
  const racing = some();
  for (const event of racing)
    expectOk(await Promise.all([producer.append(one, [event]), producer.append(two, [other(event, "racing")])]));
  // On the other node, before the first copy is saved.
  const before = some();
  await producer.deliver(one, before);
  expectOk([
    await producer.append(two, before),
    await producer.append(
      two,
      before.map((e) => other(e, "before")),
    ),
  ]);
  // Across the seam: the first copy is saved, this one is not.
  expectOk([
    await producer.append(two, saved),
    await producer.append(
      one,
      saved.map((e) => other(e, "seam")),
    ),
  ]);
  await readAll(spillway);
  await follower.shows([...within, ...racing, ...before].filter((e) => e.clientId === "once-a").map(({ id }) => id));

  await sink.start();
  await spillway.saved();
  await readAll(spillway);
  // After everything was saved, between events that are new.
  const after = some();
  const again = [...saved, ...within, ...racing, ...before];
  expectOk([
    await producer.append(one, [...again, ...after]),
    await producer.append(
      two,
      again.map((event) => other(event, "after")),
    ),
  ]);
  await readAll(spillway);
  await follower.shows(after.filter(({ clientId }) => clientId === "once-a").map(({ id }) => id));
  await spillway.saved();
  await readAll(spillway);
  follower.finish(history);

  const ids = saved.length + within.length + racing.length + before.length + after.length;
  const counts = await spillway.check({
    okIds: ids,
    resentIds: ids - after.length,
    shownOnBothSides: 20,
    liveEvents: 10,
  });
  expect([counts.rows, counts.okIds]).toEqual([ids, ids]);
  // Every single attempt was stored: what made them one event is how they are read and saved.
  expect(counts.copies).toBe(counts.appends - ids);
});

test("the first copy wins also when the later one is saved by another sink, on a replay", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 1 });
  const { producer, reader, ingest, query, database } = spillway;
  const maker = new EventMaker("replay");
  const events = Array.from({ length: 50 }, () => maker.make("once-a"));
  await producer.deliver(ingest, events);
  await producer.deliver(
    ingest,
    events.map((event) => other(event, "later")),
  );
  await spillway.start("sink");
  await spillway.saved();
  await reader.walk(query, { clientId: "once-a" });
  // The checkpoint goes back with every row still there: all of it comes once more, now as copies of what is saved.
  await spillway.sink.kill();
  await database.query("UPDATE spillway.checkpoint SET next_offset = 0, last_offset = NULL, last_hash = NULL");
  await reader.walk(query, { clientId: "once-a" });
  await spillway.sink.start();
  await spillway.saved();
  await reader.walk(query, { clientId: "once-a" });
  const counts = await spillway.check({ okIds: 50, copies: 50, savedShown: 50 });
  expect(counts.rows).toBe(50);
});
