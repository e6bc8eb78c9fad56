/**
 * Promise: a read begun after a 201 shows the event, on any node; what cannot be proved in time is 503, never a short list.
 * Attack: reads on the other node right after each 201, while nothing is saved, in the middle of saves, while the tables
 * are locked, while the checkpoint runs, after a node was frozen, behind a proxy that changes nodes with each request, and
 * with the log out of reach.
 */
import { expect, test } from "vitest";
import { until } from "../support/until.ts";
import type { NewEvent } from "./support/content.ts";
import { holdTransaction, proxiedKafka } from "./support/faults.ts";
import { Follower } from "./support/follower.ts";
import type { Node } from "./support/producer.ts";
import type { Reader } from "./support/reader.ts";
import { roundRobin } from "./support/round-robin.ts";
import { startSpillway } from "./support/spillway.ts";
import { readCheckpoints } from "./support/truth.ts";
import { acknowledges, EventMaker, newSeed, produce, seeded } from "./support/workload.ts";

const CLIENTS = ["hot-1", "hot-2", ...Array.from({ length: 8 }, (_, n) => `cold-${n}`)];

interface Readers {
  readonly reader: Reader;
  readonly queries: readonly Node[];
}

/** Reads what was just acknowledged, each time in another way and on another node. */
function readBack(
  { reader, queries }: Readers,
  seed: number,
): (events: readonly NewEvent[], cursors: readonly string[]) => Promise<void> {
  const random = seeded(seed);
  let turn = 0;
  return async (events, cursors) => {
    const node = queries[turn++ % queries.length];
    const [clientId, last] = [events[0]?.clientId, cursors.at(-1)];
    if (node === undefined || clientId === undefined || last === undefined) throw new Error("nothing to read back");
    const limit = 1 + Math.floor(random() * 200);
    const ways = [
      () => reader.patientPage(node, { clientId, order: "desc", limit }),
      () => reader.patientPage(node, { clientId, order: "desc", limit, atLeast: last }),
      () => reader.walk(node, { clientId, limit: limit + 50 }),
      () => reader.patientPage(node, { clientId, order: "desc", limit, type: ["order-paid", "order-sent"] }),
      () => reader.patientPage(node, { clientId, view: "unsaved", limit: 1_000 }),
      () => reader.patientPage(node, { clientId, view: "saved", order: "desc", limit }),
    ];
    await ways[turn % ways.length]?.();
  };
}

test("on two nodes, with nothing saved, in the middle of saves and with everything saved", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 2 });
  const { producer, database, history, ingests: nodes } = spillway;
  const seed = newSeed("reads see");
  const load = { nodes, clients: CLIENTS, producers: 4, seed, afterEach: readBack(spillway, seed) };
  await produce(producer, { ...load, requests: 150, name: "unsaved" });
  expect(await readCheckpoints(database)).toEqual(new Map());

  // The whole backlog is saved under the readers, then what they read back is saved as it comes.
  const draining = spillway.start("sink");
  await produce(producer, { ...load, requests: 150, name: "draining", during: draining });

  // The sink stands in the middle of its transaction, checkpoints moved and rows not yet there, again and again.
  const locking = (async () => {
    for (let i = 0; i < 4; i++) {
      await using _lock = await holdTransaction(database.url, "LOCK TABLE spillway.event IN SHARE ROW EXCLUSIVE MODE");
      await until("the sink waits for the lock", async () => {
        const [waiting] = await database.query<{ n: number }>(
          "SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        );
        return (waiting?.n ?? 0) > 0;
      });
      await acknowledges(history, 25);
    }
  })();
  await produce(producer, { ...load, requests: 100, name: "locked", during: locking });
  await locking;

  // A node that slept through many appends answers as if it had not.
  const [first, second] = spillway.queries;
  second?.app.freeze();
  await produce(producer, { ...load, requests: 20, name: "frozen", afterEach: () => Promise.resolve() });
  second?.app.thaw();
  if (first && second)
    for (const node of [second, first])
      for (const clientId of CLIENTS) await spillway.reader.patientPage(node, { clientId, order: "desc", limit: 50 });

  await spillway.saved();
  await produce(producer, { ...load, requests: 30, name: "saved" });
  await spillway.saved();
  await spillway.check({
    okIds: 800,
    pages: 400,
    mixedPages: 20,
    savedShown: 400,
    unsavedShown: 400,
    shownOnBothSides: 300,
  });
});

/** Longer than a node goes without the log's word before it makes sure that it is the same log. */
const FROZEN_MS = 6_000;

/** Leaves again and again, and comes back through the proxy: each time to another node. */
async function comeAndGo(follower: Follower, proxy: Node, done: AbortSignal): Promise<void> {
  while (!done.aborted) {
    await follower.reconnect([proxy]);
    const target = follower.events.length + 30;
    await until("more events, or an end", () => done.aborted || !follower.open || follower.events.length >= target, {
      limitMs: 60_000,
    });
    follower.cut();
  }
}

test("on two nodes and then four, each request at the next of them, and one that slept through it all", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 2, sinks: 1 });
  const { producer, reader, ingests: nodes, query: sleeper } = spillway;
  await using proxy = await roundRobin(spillway.queries);
  const seed = newSeed("reads behind a proxy");
  const load = { nodes, clients: CLIENTS, producers: 4, seed };
  const throughProxy = { ...load, afterEach: readBack({ reader, queries: [proxy] }, seed) };
  const done = new AbortController();
  const followers = ["hot-1", "hot-2", "cold-0"].map((clientId) => new Follower({ clientId, after: "0" }));
  const following = followers.map((follower) => comeAndGo(follower, proxy, done.signal));
  for (const one of following) one.catch(() => undefined);
  await produce(producer, { ...throughProxy, requests: 100, name: "two" });
  await Promise.all([spillway.start("query"), spillway.start("query")]);
  proxy.nodes = spillway.queries;
  await produce(producer, { ...throughProxy, requests: 150, name: "four" });
  done.abort();
  await Promise.all(following);

  // Nobody finds it while it sleeps, but those who had asked it already, and who followed there.
  const awake = spillway.queries.filter((node) => node !== sleeper);
  proxy.nodes = awake;
  const asleep = new Follower({ clientId: "hot-1", after: "0", name: "at the sleeper" });
  await asleep.connect(sleeper);
  await asleep.caughtUp();
  sleeper.app.freeze();
  const begunMs = performance.now();
  const asked = CLIENTS.map((clientId) => reader.page(sleeper, { clientId, order: "desc", limit: 50 }));
  const during = until("a long sleep", () => performance.now() - begunMs > FROZEN_MS);
  await produce(producer, { ...throughProxy, requests: 50, during, name: "asleep" });
  await spillway.saved();
  sleeper.app.thaw();
  for (const clientId of CLIENTS) await reader.patientPage(sleeper, { clientId, order: "desc", limit: 50 });
  await Promise.all(asked);
  proxy.nodes = spillway.queries;
  await produce(producer, { ...throughProxy, requests: 50, name: "awake" });

  for (const follower of followers) await follower.reconnect([proxy]);
  await asleep.reconnect([sleeper]);
  for (const follower of [...followers, asleep]) {
    await follower.caughtUp();
    follower.finish(spillway.history);
  }
  await spillway.saved();
  await spillway.check({ okIds: 500, pages: 300, liveEvents: 300, resumes: 5, savedShown: 200, unsavedShown: 100 });
});

test("with the log out of reach a read says so; one that asks for less is answered", async () => {
  await using broker = await proxiedKafka();
  const { proxy } = broker;
  await using spillway = await startSpillway({ brokers: broker.kafka.brokers, ingests: 1, queries: 1, sinks: 1 });
  const { producer, reader, ingest, query } = spillway;
  const maker = new EventMaker("reach");
  await producer.deliver(ingest, [maker.make("saved"), maker.make("saved")]);
  await spillway.saved();
  await spillway.sink.kill();
  const unsaved = await producer.deliver(ingest, [maker.make("saved")]);
  const { cursors } = await producer.deliver(ingest, [maker.make("a"), maker.make("a")]);
  await reader.patientPage(query, { clientId: "a" });

  proxy.mode = "swallow";
  proxy.cut();
  const latest = await reader.page(query, { clientId: "a", timeoutMs: 1_000 });
  expect([latest.status, JSON.parse(latest.body)]).toMatchObject([503, { code: "log-unreachable" }]);
  const known = await reader.page(query, { clientId: "a", consistency: "known" });
  expect([known.status, known.page?.events.length]).toEqual([200, 2]);
  const atLeast = await reader.page(query, { clientId: "a", atLeast: cursors[1] ?? "", timeoutMs: 1_000 });
  expect([atLeast.status, atLeast.page?.events.length]).toEqual([200, 2]);
  // What is saved needs no log, and how far that reaches is said.
  const saved = await reader.page(query, { clientId: "saved", view: "saved" });
  expect([saved.status, saved.page?.events.length, saved.page?.hasMore]).toEqual([200, 2, false]);
  expect(saved.savedThrough).toBe(saved.next);
  expect(saved.savedThrough < (unsaved.cursors[0] ?? "")).toBe(true);

  proxy.mode = "pass";
  await producer.deliver(ingest, [maker.make("a")]);
  await reader.patientPage(query, { clientId: "a", order: "desc", limit: 1 });

  // A slow log makes reads slower, never shorter: the tail comes late, and the barrier waits for it.
  proxy.delayMs = 60;
  for (let i = 0; i < 10; i++) {
    await producer.deliver(ingest, [maker.make("a"), maker.make("b")]);
    await reader.patientPage(query, { clientId: i % 2 ? "a" : "b", order: "desc", limit: 5 });
  }
  proxy.delayMs = 0;
  await spillway.check({ okIds: 26, pages: 15, unsavedShown: 13, savedShown: 2 });
});
