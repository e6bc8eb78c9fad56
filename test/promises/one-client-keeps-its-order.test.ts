/**
 * Promise: one order everywhere: what was acknowledged before another event was sent comes before it, and a request keeps
 * its own order.
 * Attack: many producers on few clients through two ingest nodes, arrays, replies that are lost, sinks that join and leave.
 */
import { expect, test } from "vitest";
import { createProxy } from "../../infra/proxy.ts";
import { until } from "../support/until.ts";
import { Follower } from "./support/follower.ts";
import { startSpillway } from "./support/spillway.ts";
import { acknowledges, EventMaker, newSeed, produce } from "./support/workload.ts";

const CLIENTS = ["one", "two", "three"];

test("with eight producers, lost replies, and sinks that join and leave", async () => {
  await using spillway = await startSpillway({ ingests: 2, sinks: 1, queries: 2 });
  const { history, producer, reader, ingests, queries } = spillway;
  const seed = newSeed("one order");
  const [near, far] = ingests;
  if (near === undefined || far === undefined) throw new Error("two ingest nodes are needed");
  await using proxy = await createProxy({ host: "127.0.0.1", port: far.app.port });
  const nodes = [near, { name: "ingest-2 behind a proxy", url: `http://127.0.0.1:${proxy.port}` }];
  const followers = CLIENTS.map((clientId) => new Follower({ clientId, after: "0" }));
  for (const [n, follower] of followers.entries()) await follower.reconnect(n % 2 ? queries : queries.toReversed());

  const disturbing = (async () => {
    for (let i = 0; i < 3; i++) {
      // The second sink takes partitions over, and dies with records in hand.
      const second = await spillway.start("sink");
      await acknowledges(history, 60);
      const unknowns = history.unknowns;
      await until("a reply was lost", () => {
        proxy.cut();
        return history.unknowns > unknowns;
      });
      await second.kill();
      await acknowledges(history, 60);
    }
  })();
  const afterEach = (events: readonly { clientId: string }[]) =>
    reader.patientPage(queries[0] ?? near, { clientId: events[0]?.clientId ?? "", order: "desc", limit: 20 });
  const load = { nodes, clients: CLIENTS, requests: 300, producers: 8, eventsMax: 8, pauseMs: 30, seed, afterEach };
  await Promise.all([produce(producer, { ...load, during: disturbing }), disturbing]);

  await spillway.saved();
  for (const follower of followers) {
    await follower.shows(idsOf(spillway.history, follower));
    follower.finish(history);
  }
  await spillway.check({
    okIds: 1_000,
    infoAttempts: 3,
    copies: 10,
    liveEvents: 1_000,
    rows: 1_000,
    shownOnBothSides: 20,
  });
});

test("an array keeps its order, and what one producer sends keeps its own, in every direction of reading", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 1 });
  const { producer, reader, ingest, query } = spillway;
  const maker = new EventMaker("array");
  // Longer than one send of the lane takes for a partition.
  const long = Array.from({ length: 5_000 }, () => maker.make("long"));
  const { cursors } = await producer.deliver(ingest, long);
  expect(cursors.toSorted()).toEqual(cursors);
  const mixed = Array.from({ length: 600 }, (_, n) => maker.make(CLIENTS[n % 3] ?? ""));
  await producer.deliver(ingest, mixed);
  const ids = long.map(({ id }) => id);
  const up = await reader.walk(query, { clientId: "long", limit: 1_000 });
  expect(up.pages.flatMap(({ events }) => events).map(({ id }) => id)).toEqual(ids);
  const down = await reader.walk(query, { clientId: "long", limit: 999, order: "desc" });
  expect(down.pages.flatMap(({ events }) => events).map(({ id }) => id)).toEqual(ids.toReversed());
  await spillway.check({ okIds: 5_600 });
});

/** Every id of the follower's client that was acknowledged. */
const idsOf = (history: { entries: readonly object[] }, follower: Follower): string[] =>
  (history.entries as { f: string; type?: string; clientId: string; id: string }[])
    .filter((one) => one.f === "append" && one.type === "ok" && one.clientId === follower.clientId)
    .map(({ id }) => id);
