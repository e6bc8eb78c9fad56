/**
 * A running installation goes over to a topic with more partitions: nothing is lost, repeated or reordered, cursors stay valid.
 * Attack: 4 → 12 partitions under traffic with followers, the command and an ingest node killed in the middle; a command that
 * dies once the old log is closed; an ingest node that sleeps through it all and wakes; ids sent again afterwards.
 */

import { describe, test } from "vitest";
import { systemClock as clock } from "#lib/clock.ts";
import { ControlWriter } from "#lib/control-writer.ts";
import { decodeCursor } from "#lib/cursor.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import { CLOSED_TOPIC_CONFIG, EVENT_TOPIC_CONFIG } from "#schemas/topics.ts";
import { type App, startApp } from "../support/process.ts";
import { silentLog } from "../support/records.ts";
import { until } from "../support/until.ts";
import type { NewEvent } from "./support/content.ts";
import { Follower } from "./support/follower.ts";
import { type Spillway, startSpillway } from "./support/spillway.ts";
import { acknowledges, EventMaker, newSeed, produce } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d", "e", "f"];
const PARTITIONS = 12;

/** The command, as an operator runs it. */
const command = ({ brokers, topic }: Spillway, next: string): Promise<App> =>
  startApp("infra/adopt-log/main.ts", { KAFKA_BROKERS: brokers, SPILLWAY_TOPIC: topic }, [
    ...["--topic", next, "--partitions", String(PARTITIONS)],
  ]);

/** Followers of all clients, which come again with their cursors, whatever ends their connections. */
function following(spillway: Spillway) {
  const done = new AbortController();
  const followers = CLIENTS.map(
    (clientId, n) => new Follower({ clientId, after: "0", by: n % 2 === 0 ? "socket" : "stream" }),
  );
  const all = followers.map(async (follower) => {
    for (;;) {
      await follower.reconnect(spillway.queries, 60_000);
      await until("an end", () => done.signal.aborted || !follower.open, { limitMs: 170_000 });
      if (done.signal.aborted) return;
    }
  });
  for (const one of all) one.catch(() => undefined);
  return {
    /** Resolves once each event was shown to the follower of its client, by itself. */
    show: (events: readonly NewEvent[]): Promise<unknown> =>
      Promise.all(
        events.flatMap(({ clientId, id }) =>
          followers.filter((one) => one.clientId === clientId).map((one) => one.shows([id], 60_000)),
        ),
      ),
    stop: async (): Promise<void> => {
      done.abort();
      await Promise.all(all);
      for (const follower of followers) {
        await follower.reconnect(spillway.queries);
        await follower.caughtUp(60_000);
        follower.finish(spillway.history);
      }
    },
  };
}

/** Each acknowledged event is read at once: the reads are judged. */
const load = (spillway: Spillway, seed: number, name: string) => ({
  nodes: spillway.ingests,
  clients: CLIENTS,
  requests: 20,
  producers: 3,
  seed,
  name,
  afterEach: async ([event]: readonly { readonly clientId: string }[], cursors: readonly string[]) => {
    const node = spillway.queries[cursors.length % spillway.queries.length];
    if (node && event)
      await spillway.reader.page(node, { clientId: event.clientId, limit: 50, order: "desc", timeoutMs: 2_000 });
  },
});

const newTopic = ({ topic }: Spillway): string => `${topic}.wide`;

describe.concurrent("at once", () => {
  test("four partitions become twelve under traffic, while the command and an ingest node are killed", {
    timeout: 180_000,
  }, async ({ expect }) => {
    const seed = newSeed("log can grow");
    await using spillway = await startSpillway({ ingests: 2, sinks: 2, queries: 2 });
    const { history, ingest, query } = spillway;
    const next = newTopic(spillway);
    const over = Promise.withResolvers<void>();
    const followers = following(spillway);
    const old = new EventMaker("old");
    const [first, second] = [old.make("a"), old.make("a")];
    const before = await spillway.producer.deliver(ingest, [first, second]);
    const producing = produce(spillway.producer, { ...load(spillway, seed, "t"), during: over.promise });
    await acknowledges(history, 60);

    // It is killed in the middle: while the sinks sleep, the old log is not saved whole.
    for (const { app } of spillway.sinks) app.freeze();
    await acknowledges(history, 5);
    const interrupted = await command(spillway, next);
    await interrupted.line("Events wait from now on");
    await interrupted.kill();
    await ingest.kill();
    for (const { app } of spillway.sinks) app.thaw();
    const again = await command(spillway, next);
    await again.line("Events wait from now on");
    await ingest.launch();
    expect(await again.exit(), again.lines.join("\n")).toBe(0);
    console.log(again.lines.find((line) => line.includes("after events began to wait")));
    await spillway.adopted(next);
    await acknowledges(history, 100);
    // The same id again is the same event, whichever log its first copy is in.
    const { cursors } = await spillway.producer.deliver(spillway.ingests, [first]);
    expect(decodeCursor(cursors[0] ?? "")?.epoch).toBe(2);
    // Followers go on by themselves.
    const fresh = CLIENTS.map((clientId) => old.make(clientId));
    for (const event of fresh) await spillway.producer.deliver(spillway.ingests, [event]);
    await followers.show(fresh);
    over.resolve();
    await producing;
    await followers.stop();
    await spillway.saved();

    // A cursor of the old log goes on into the new one.
    const { pages } = await spillway.reader.walk(query, { clientId: "a", after: before.cursors[0] ?? "", limit: 7 });
    const walked = pages.flatMap(({ events }) => events);
    expect(walked[0]?.id).toBe(second.id);
    expect(walked.map(({ id }) => id)).not.toContain(first.id);
    expect((await (await spillway.log()).offsets()).size).toBe(PARTITIONS);
    await spillway.check({ okIds: 150, copies: 1, pages: 60, liveEvents: 200, rows: 150, resumes: CLIENTS.length });
    expect(spillway.roles.map(({ app }) => app.ended)).toEqual(spillway.roles.map(() => undefined));
  });

  test("a command that dies when the old log is closed leaves nothing undone", { timeout: 120_000 }, async ({
    expect,
  }) => {
    const seed = newSeed("log can grow, closed");
    await using spillway = await startSpillway({ ingests: 2, sinks: 1, queries: 1 });
    const next = newTopic(spillway);
    await produce(spillway.producer, load(spillway, seed, "t"));
    await spillway.saved();
    await dieOnceClosed(spillway, next);
    await spillway.producer.deliver(spillway.ingest, [new EventMaker("after").make("a")], 60_000);
    await spillway.adopted(next);
    await produce(spillway.producer, load(spillway, seed + 1, "u"));
    await spillway.saved();
    // The command, run again, has nothing left to do.
    const again = await command(spillway, next);
    expect(await again.exit()).toBe(0);
    await again.line("Nothing to do");
    await spillway.check({ okIds: 41, pages: 20, rows: 41 });
  });

  test("an ingest node that slept through it appends nothing to the old log when it wakes", {
    timeout: 120_000,
  }, async ({ expect }) => {
    const seed = newSeed("log can grow, asleep");
    await using spillway = await startSpillway({ ingests: 2, sinks: 1, queries: 1 });
    const [awake, sleeper] = spillway.ingests;
    if (!awake || !sleeper) throw new Error("two ingest nodes");
    const next = newTopic(spillway);
    const old = await spillway.log();
    await produce(spillway.producer, load(spillway, seed, "t"));
    sleeper.app.freeze();
    // It is in the sleeper's hands before the log is adopted, and read by it afterwards.
    const late = spillway.producer.append(sleeper, [new EventMaker("late").make("b")]);
    const tool = await command(spillway, next);
    expect(await tool.exit(), tool.lines.join("\n")).toBe(0);
    const ends = await old.offsets();
    await spillway.producer.deliver(awake, [new EventMaker("awake").make("b")]);
    sleeper.app.thaw();
    await late;
    const { cursors } = await spillway.producer.deliver(sleeper, [new EventMaker("woken").make("b")], 60_000);
    expect(decodeCursor(cursors[0] ?? "")?.epoch).toBe(2);
    expect(await old.offsets()).toEqual(ends);
    await spillway.adopted(next);
    await spillway.saved();
    await spillway.check({ okIds: 42, rows: 42 });
  });

  test("emptied tables refill from both logs, and no read shows less meanwhile", { timeout: 120_000 }, async ({
    expect,
  }) => {
    const seed = newSeed("log can grow, emptied");
    await using spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1 });
    const next = newTopic(spillway);
    await produce(spillway.producer, load(spillway, seed, "t"));
    const tool = await command(spillway, next);
    expect(await tool.exit(), tool.lines.join("\n")).toBe(0);
    await spillway.adopted(next);
    await produce(spillway.producer, load(spillway, seed + 1, "u"));
    await spillway.saved();
    const dump =
      'SELECT client_id, log_epoch, "offset"::text, id, data::text FROM spillway.event ORDER BY 1, 2, event."offset"';
    const before = await spillway.database.query(dump);
    await spillway.database.query("TRUNCATE spillway.event, spillway.checkpoint, spillway.checkpoint_mark");
    // Refused or whole: each of these reads is judged too.
    await produce(spillway.producer, load(spillway, seed + 2, "v"));
    await until("both logs are saved again", async () => (await spillway.database.query(dump)).length > before.length);
    await spillway.saved();
    const after = new Set((await spillway.database.query(dump)).map((row) => JSON.stringify(row)));
    expect(before.filter((row) => !after.has(JSON.stringify(row)))).toEqual([]);
    await spillway.check({ okIds: 60, pages: 20, rows: 60 });
  });
});

/** What the command has done when it dies just after it has closed the old log. */
async function dieOnceClosed({ brokers, topic }: Spillway, next: string): Promise<void> {
  const kafka = connectKafka({ brokers: brokers.split(","), clientId: "test", log: silentLog, clock });
  const admin = await kafka.admin();
  const producer = await kafka.producer();
  try {
    await admin.ensureTopic({ topic: next, partitions: PARTITIONS, config: EVENT_TOPIC_CONFIG });
    await new ControlWriter(`${topic}.control`, producer).successor(1, {
      epoch: 2,
      topic: next,
      partitions: PARTITIONS,
    });
    await admin.configure(topic, CLOSED_TOPIC_CONFIG);
  } finally {
    await producer.close();
    await admin.close();
  }
}
