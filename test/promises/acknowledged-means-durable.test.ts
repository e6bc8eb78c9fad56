/**
 * Promise: whoever got 201 finds the event on the log, and later in the database and in every read, whatever dies meanwhile.
 * Attack: kill -9 of ingest, sink, query and broker while appends are under way, replies lost on either side of ingest, and
 * records deleted before they were saved.
 */
import { expect, test } from "vitest";
import { createProxy } from "../../infra/proxy.ts";
import { until } from "../support/until.ts";
import { proxiedKafka } from "./support/faults.ts";
import type { Role } from "./support/spillway.ts";
import { startSpillway } from "./support/spillway.ts";
import { readCheckpoints } from "./support/truth.ts";
import { acknowledges, EventMaker, newSeed, produce } from "./support/workload.ts";

const PRODUCERS = 6;
const CLIENTS = ["hot-1", "hot-2", "hot-3", ...Array.from({ length: 20 }, (_, n) => `cold-${n}`)];

test("ingest, sink and query die in the middle of it, and nothing acknowledged is lost", async () => {
  await using spillway = await startSpillway({ ingests: 2, sinks: 1, queries: 1 });
  const { history, producer, ingests } = spillway;
  const seed = newSeed("roles die");
  const killing = (async () => {
    // Killed in flight: the death of an ingest that serves six producers leaves requests without an answer.
    const victims: Role[] = [...ingests, spillway.sink, spillway.query, ...ingests, spillway.sink];
    for (const victim of victims) {
      await acknowledges(history, 60);
      await victim.kill();
      await victim.launch();
    }
    await Promise.all(spillway.roles.map(({ app }) => app.ready()));
  })();
  const load = {
    nodes: ingests,
    clients: CLIENTS,
    requests: 400,
    producers: PRODUCERS,
    pauseMs: 30,
    seed,
    during: killing,
  };
  await Promise.all([produce(producer, load), killing]);
  await spillway.saved();
  const counts = await spillway.check({ okIds: 800, infoAttempts: 3, resentIds: 20, rows: 800 });
  expect(counts.rows).toBe(counts.okIds + counts.infoIds);
});

test("the broker dies and its replies are lost, and what was acknowledged is there", async () => {
  await using broker = await proxiedKafka();
  const { kafka, proxy } = broker;
  await using spillway = await startSpillway({ brokers: kafka.brokers, ingests: 1, sinks: 1, queries: 1 });
  const { history, producer, ingests } = spillway;
  const seed = newSeed("the broker dies");
  const breaking = (async () => {
    for (let i = 0; i < 2; i++) {
      await acknowledges(history, 60);
      // Stored, and ingest does not hear of it: the same records must go out again, and count once.
      proxy.mode = "swallowReplies";
      await until("every producer waits for an acknowledgement", () => producer.inFlight === PRODUCERS);
      proxy.mode = "pass";
    }
    await acknowledges(history, 60);
    await kafka.kill();
    await kafka.start();
    await acknowledges(history, 60);
  })();
  const load = { nodes: ingests, clients: CLIENTS, requests: 400, producers: PRODUCERS, pauseMs: 30, seed };
  await Promise.all([produce(producer, { ...load, during: breaking }), breaking]);
  await spillway.saved();
  const counts = await spillway.check({ okIds: 800, rows: 800 });
  expect(counts.rows).toBe(counts.okIds + counts.infoIds);
});

test("the reply to the client is lost: the event is there, once, also after it was sent again", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 1 });
  const { producer, reader, ingest, query, history } = spillway;
  await using proxy = await createProxy({ host: "127.0.0.1", port: ingest.app.port });
  const lossy = { name: "ingest-1 behind a proxy", url: `http://127.0.0.1:${proxy.port}` };
  const maker = new EventMaker("lost");
  const view = await spillway.log();
  const stored = async (): Promise<bigint> =>
    [...(await view.offsets()).values()].reduce((sum, { high }) => sum + high, 0n);
  for (let i = 0; i < 10; i++) {
    const events = [maker.make("a"), maker.make("b"), maker.make("a")];
    const before = await stored();
    proxy.mode = "swallowReplies";
    const unanswered = producer.append(lossy, events);
    const swallowed = proxy.counts.swallowedBytes;
    await until("the request is on the log", async () => (await stored()) >= before + 3n);
    await until("its answer has been lost", () => proxy.counts.swallowedBytes > swallowed);
    proxy.mode = "pass";
    expect((await unanswered).outcome).toBe("info");
    // Not acknowledged, and yet there: it may be shown, and must not be shown again later.
    await reader.walk(query, { clientId: "a" });
    await producer.deliver(lossy, events);
    await reader.walk(query, { clientId: "a", order: "desc", limit: 3 });
  }
  expect(history.unknowns).toBe(30);
  await spillway.check({ okIds: 30, infoAttempts: 30, copies: 30, unsavedShown: 20 });
});

test("records that left the log before they were saved stop the sink with an error that names topic and offsets", async () => {
  await using spillway = await startSpillway({ ingests: 1, sinks: 1 });
  const { producer, ingest, sink, topic, database } = spillway;
  const maker = new EventMaker("gone");
  await producer.deliver(ingest, [maker.make("a")]);
  await spillway.saved();
  expect(await sink.app.stop()).toBe(0);
  const { cursors } = await producer.deliver(ingest, [maker.make("a"), maker.make("a"), maker.make("a")]);
  expect(cursors).toHaveLength(3);
  const view = await spillway.log();
  const [partition, saved] = [...(await readCheckpoints(database))].find(([, next]) => next > 0n) ?? [0, 0n];
  const low = saved + 2n;
  await view.admin.deleteBelow(topic, new Map([[partition, low]]));
  await until("the log begins later", async () => (await view.offsets()).get(partition)?.low === low);
  const app = await sink.launch();
  expect(await app.exit()).toBe(1);
  const said = app.lines.find((line) => line.includes('"level":"error"')) ?? "";
  for (const part of [`${topic}/${partition}`, `offset ${saved} `, `holds ${low} to`]) expect(said).toContain(part);
  // Nothing was skipped: the checkpoint stands where it stood.
  expect((await readCheckpoints(database)).get(partition)).toBe(saved);
});
