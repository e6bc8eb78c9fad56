/** The sink as a process of its own, between a real broker and a real PostgreSQL. */
import { expect, onTestFinished, test } from "vitest";
import { fingerprintOf } from "#lib/codec.ts";
import type { Event } from "#lib/event.ts";
import type { OpenedLog } from "#lib/topics.ts";
import { freshLog, type TestLog } from "../support/log.ts";
import { type Database, freshDatabase, privatePostgres } from "../support/postgres.ts";
import { type App, startApp } from "../support/process.ts";
import { clientOf, rawRecord, recordOf, someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";
import { NEWER_SCHEMA, OLDER_SCHEMA, writeAs } from "../support/writers.ts";

const PARTITIONS = 2;
const clients = [clientOf(0, PARTITIONS), clientOf(1, PARTITIONS)] as const;
const event = (partition: 0 | 1, id: string, more: Partial<Event> = {}): Event =>
  someEvent({ clientId: clients[partition], id, ...more });
const records = (partition: 0 | 1, ids: readonly string[]) => ids.map((id) => recordOf(event(partition, id), 0n));
const ids = (count: number, prefix = "e") => Array.from({ length: count }, (_, n) => `${prefix}${n}`);

interface Given {
  readonly log: TestLog & { readonly opened: OpenedLog };
  readonly database: Database;
  start(): Promise<App>;
}

async function given(database?: Database): Promise<Given> {
  const log = await freshLog(PARTITIONS);
  const store = database ?? (await freshDatabase());
  const apps: App[] = [];
  onTestFinished(async () => {
    await Promise.all(apps.map((app) => app.kill()));
    await store.drop();
    await log[Symbol.asyncDispose]();
  });
  const start = async (): Promise<App> => {
    const env = { ...log.env, DATABASE_URL: store.url, SPILLWAY_SESSION_TIMEOUT_MS: "6000" };
    const app = await startApp("apps/sink/main.ts", env);
    apps.push(app);
    return app;
  };
  return { log, database: store, start };
}

/** S of both partitions, once it is what is expected. */
const saved = (database: Database, expected: readonly [bigint, bigint]): Promise<boolean> =>
  until(`the checkpoints stand at ${expected.join(" and ")}`, async () => {
    const rows = await database.query<{ next: string }>(
      "SELECT next_offset::text AS next FROM spillway.checkpoint WHERE log_epoch = 1 ORDER BY partition",
    );
    return rows.map(({ next }) => BigInt(next)).join() === expected.join();
  });
const idsSaved = async (database: Database, partition: 0 | 1): Promise<string[]> =>
  (
    await database.query<{ id: string }>(`SELECT id FROM spillway.event WHERE client_id = $1 ORDER BY "offset"`, [
      clients[partition],
    ])
  ).map(({ id }) => id);
const deadLetters = (database: Database): Promise<{ place: string; reason: string }[]> =>
  database.query(
    `SELECT partition || '/' || "offset" AS place, reason FROM spillway.dead_letter ORDER BY partition, "offset"`,
  );

test("records become rows, bad ones dead letters, repeated ids one row; a restart goes on at the checkpoint", async () => {
  const { log, database, start } = await given();
  await log.append(0, records(0, ids(500)));
  await log.append(0, [
    rawRecord(0n, clients[0], "poison"),
    rawRecord(0n, null, null),
    ...records(0, ["e7", "after"]),
    recordOf(event(0, "wrong\0"), 0n),
    recordOf(event(1, "elsewhere"), 0n),
  ]);
  await log.append(1, [...records(1, ["x", "x", "y"]), recordOf(event(1, "x", { data: '"second"' }), 0n)]);
  const sink = await start();
  await sink.ready();
  await saved(database, [506n, 4n]);
  expect(await idsSaved(database, 0)).toEqual([...ids(500), "after"]);
  expect(await idsSaved(database, 1)).toEqual(["x", "y"]);
  const [first] = await database.query(
    `SELECT data::text AS data FROM spillway.event WHERE client_id = $1 AND id = 'x'`,
    [clients[1]],
  );
  expect(first).toEqual({ data: event(1, "x").data });
  expect(await deadLetters(database)).toEqual([
    { place: "0/500", reason: "undecodable" },
    { place: "0/501", reason: "undecodable" },
    { place: "0/504", reason: "unstorable-text" },
    { place: "0/505", reason: "wrong-partition" },
  ]);

  const { control } = log.opened;
  await until("S is published", async () => {
    await control.refresh();
    return control.checkpoint(1, 0)?.nextOffset === 506n && control.checkpoint(1, 1)?.nextOffset === 4n;
  });
  await until(
    "the checkpoints are marked",
    async () => (await database.query("SELECT DISTINCT partition FROM spillway.checkpoint_mark")).length === 2,
  );
  const metrics = await (await fetch(`${sink.url}/metrics`)).text();
  expect(metrics).toMatch(/^spillway_sink_copies_total 3$/m);
  expect(metrics).toMatch(/^spillway_sink_checkpoint\{partition="0"\} 506$/m);

  expect(await sink.stop()).toBe(0);
  await log.append(0, records(0, ids(20, "later")));
  // Rows that a sink without a checkpoint would put back.
  await database.query("DELETE FROM spillway.event");
  await start();
  await saved(database, [526n, 4n]);
  expect(await idsSaved(database, 0)).toEqual(ids(20, "later"));
});

test("a newer and an older writer's records pass, also when their schema is published while the sink runs", async () => {
  const { log, database, start } = await given();
  const sink = await start();
  await sink.ready();
  const { controlWriter } = log.opened;
  await controlWriter.schema(fingerprintOf(NEWER_SCHEMA), NEWER_SCHEMA);
  await log.append(0, [rawRecord(0n, clients[0], writeAs(NEWER_SCHEMA, event(0, "newer"), { source: "x" }))]);
  await controlWriter.schema(fingerprintOf(OLDER_SCHEMA), OLDER_SCHEMA);
  await log.append(0, [
    rawRecord(0n, clients[0], writeAs(OLDER_SCHEMA, event(0, "older", { data: null }))),
    ...records(0, ["ours"]),
  ]);
  await saved(database, [3n, 0n]);
  expect(await idsSaved(database, 0)).toEqual(["newer", "older", "ours"]);
  expect(await deadLetters(database)).toEqual([]);
});

test("two sinks share the partitions, and when one is killed the other takes its part over", async () => {
  const { log, database, start } = await given();
  const sinks = [await start(), await start()];
  await Promise.all(sinks.map((sink) => sink.ready()));
  await log.append(0, records(0, ids(100)));
  await log.append(1, records(1, ids(100)));
  await saved(database, [100n, 100n]);
  await sinks[0]?.kill();
  await log.append(0, records(0, ids(100, "f")));
  await log.append(1, records(1, ids(100, "f")));
  await saved(database, [200n, 200n]);
  for (const partition of [0, 1] as const)
    expect(await idsSaved(database, partition)).toEqual([...ids(100), ...ids(100, "f")]);
});

test("offsets that are gone from the log stop the sink with what it needs to know", async () => {
  const { log, database, start } = await given();
  await log.append(0, records(0, ids(10)));
  const sink = await start();
  await saved(database, [10n, 0n]);
  await sink.stop();
  await log.append(0, records(0, ids(10, "lost")));
  await log.admin.deleteBelow(log.topic, new Map([[0, 15n]]));
  const again = await start();
  expect(await again.exit()).toBe(1);
  const line = await again.line("ended by a failure");
  for (const part of [`${log.topic}/0`, "offset 10", "15 to 20", "restore the topic"]) expect(line).toContain(part);
  expect(await idsSaved(database, 0)).toEqual(ids(10));
});

test("a checkpoint that goes back to offsets that are gone stops the running sink", async () => {
  const { log, database, start } = await given();
  await log.append(0, records(0, ids(10)));
  const sink = await start();
  await saved(database, [10n, 0n]);
  await log.admin.deleteBelow(log.topic, new Map([[0, 8n]]));
  await database.query("UPDATE spillway.checkpoint SET next_offset = 5 WHERE partition = 0");
  await log.append(0, records(0, ["next"]));
  expect(await sink.exit()).toBe(1);
  expect(await sink.line("ended by a failure")).toContain("offset 5 is wanted, but the log holds 8 to 11");
});

test("a checkpoint beyond the log's end stops the sink", async () => {
  const { log, database, start } = await given();
  await log.append(0, records(0, ids(10)));
  const sink = await start();
  await saved(database, [10n, 0n]);
  await sink.stop();
  await database.query("UPDATE spillway.checkpoint SET next_offset = 11 WHERE partition = 0");
  const again = await start();
  expect(await again.exit()).toBe(1);
  expect(await again.line("ended by a failure")).toContain("recreated or cut");
});

test("a log that holds another record at the checkpoint stops the sink; what was trimmed does not", async () => {
  const { log, database, start } = await given();
  await log.append(0, records(0, ids(10)));
  const sink = await start();
  await saved(database, [10n, 0n]);
  await sink.stop();
  await database.query("UPDATE spillway.checkpoint SET last_hash = sha256('another') WHERE partition = 0");
  const again = await start();
  expect(await again.exit()).toBe(1);
  const line = await again.line("ended by a failure");
  for (const part of [`${log.topic}/0`, "offset 9", "not the one that was saved"]) expect(line).toContain(part);
  await log.admin.deleteBelow(log.topic, new Map([[0, 10n]]));
  await log.append(0, records(0, ["next"]));
  await start();
  await saved(database, [11n, 0n]);
});

test("a database of another log stops the sink", async () => {
  const { database, start } = await given();
  const sink = await start();
  await sink.ready();
  await sink.stop();
  await database.query("UPDATE spillway.log_identity SET topic = 'another'");
  const again = await start();
  expect(await again.exit()).toBe(1);
  expect(await again.line("ended by a failure")).toContain("holds epoch 1 of the log another");
});

test("a PostgreSQL that dies, refuses, and comes back costs nothing: no dead letter, no restart, membership kept", async () => {
  const postgres = await privatePostgres();
  onTestFinished(() => postgres.remove());
  const database = await freshDatabase(postgres.url);
  const { log, start } = await given({ ...database, drop: () => Promise.resolve() });
  const sink = await start();
  await sink.ready();
  for (let round = 0; round < 3; round++) {
    await log.append(0, records(0, ids(200, `${round}-`)));
    await (round === 1 ? postgres.kill() : postgres.stop());
    await log.append(0, records(0, ids(200, `${round}+`)));
    await log.append(1, records(1, ids(100, `${round}=`)));
    await until("the sink tells what is missing", async () => {
      const answer = await fetch(`${sink.url}/readyz`);
      return answer.status === 503 && (await answer.text()).includes("store");
    });
    await postgres.start();
    await saved(database, [BigInt(400 * (round + 1)), BigInt(100 * (round + 1))]);
    await sink.ready();
  }
  const expected = [0, 1, 2].flatMap((round) => [...ids(200, `${round}-`), ...ids(200, `${round}+`)]);
  expect(await idsSaved(database, 0)).toEqual(expected);
  expect(await deadLetters(database)).toEqual([]);
  expect(sink.ended).toBeUndefined();
  expect(sink.lines.filter((line) => line.includes("partitions assigned"))).toHaveLength(1);
  expect(await sink.stop()).toBe(0);
});

test("a sink whose database is not there yet, and whose topics are not either, waits and then works", async () => {
  const postgres = await privatePostgres();
  onTestFinished(() => postgres.remove());
  const database = await freshDatabase(postgres.url);
  const { log, start } = await given({ ...database, drop: () => Promise.resolve() });
  await postgres.stop();
  const sink = await start();
  await sink.line("store not opened yet");
  expect((await fetch(`${sink.url}/readyz`)).status).toBe(503);
  const metrics = await (await fetch(`${sink.url}/metrics`)).text();
  expect(metrics).toMatch(/^spillway_sink_circuit_state 2$/m);
  expect(metrics).toMatch(/^spillway_sink_store_errors_total\{class="down"\} [1-9]/m);
  expect((await fetch(`${sink.url}/healthz`)).status).toBe(200);
  await log.append(1, records(1, ids(3)));
  await postgres.start();
  await saved(database, [0n, 3n]);
});

test("a sink with nothing to save tells of tables that are not there, and works when they are again", async () => {
  const { log, database, start } = await given();
  const sink = await start();
  await sink.ready();
  await database.query("ALTER TABLE spillway.checkpoint RENAME TO gone");
  const readiness = await until("it is no longer ready", async () => {
    const answer = await fetch(`${sink.url}/readyz`);
    return answer.status === 503 && (await answer.text());
  });
  expect(readiness).toMatch(/store: \S+: bug: relation \S+ does not exist \(since \S+Z\)/);
  await database.query("ALTER TABLE spillway.gone RENAME TO checkpoint");
  await sink.ready();
  await log.append(0, records(0, ids(3)));
  await saved(database, [3n, 0n]);
});

test("told to stop while the database is away, it ends in order", async () => {
  const postgres = await privatePostgres();
  onTestFinished(() => postgres.remove());
  const database = await freshDatabase(postgres.url);
  const { log, start } = await given({ ...database, drop: () => Promise.resolve() });
  const sink = await start();
  await sink.ready();
  await postgres.kill();
  await log.append(0, records(0, ids(3)));
  await sink.line("store did not take a batch");
  expect(await sink.stop()).toBe(0);
});

const above = (offset: number) => `DELETE FROM spillway.event WHERE "offset" >= ${offset}`;

test.each([
  ["went back", "UPDATE spillway.checkpoint SET next_offset = 20 WHERE partition = 0", above(20)],
  ["was deleted", "DELETE FROM spillway.checkpoint WHERE partition = 0", above(0)],
])("S that %s is followed, with news or without: the rows above it are saved again", async (_, move, remove) => {
  const { log, database, start } = await given();
  await log.append(0, records(0, ids(50)));
  const sink = await start();
  await saved(database, [50n, 0n]);
  await database.query(`WITH moved AS (${move}) ${remove}`);
  await log.append(0, records(0, ["after"]));
  await saved(database, [51n, 0n]);
  expect(await idsSaved(database, 0)).toEqual([...ids(50), "after"]);
  await database.query(`WITH moved AS (${move}) ${remove}`);
  await saved(database, [51n, 0n]);
  expect(await idsSaved(database, 0)).toEqual([...ids(50), "after"]);
  expect(sink.ended).toBeUndefined();
});
