/**
 * Promise: a role that is started before, or without, what it needs says so calmly, and stops in order when it is told to.
 * Attack: a broker that is not there, one that takes connections and never answers, a database of another kind or log.
 */
import { describe, expect, onTestFinished, test } from "vitest";
import { createProxy } from "../../infra/proxy.ts";
import { proxiedKafka } from "../promises/support/faults.ts";
import { startSpillway } from "../promises/support/spillway.ts";
import { freshLog } from "../support/log.ts";
import { type Database, freshDatabase, queryOnce } from "../support/postgres.ts";
import { type App, startApp } from "../support/process.ts";

const ROLES = ["ingest", "query", "sink", "web"] as const;

async function start(role: (typeof ROLES)[number], env: Readonly<Record<string, string>>): Promise<App> {
  const app = await startApp(`apps/${role}/main.ts`, env);
  onTestFinished(() => app.kill());
  return app;
}

test("what only weakens the topic is said once, not by every role", async () => {
  await using spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1 });
  const lines = spillway.roles.flatMap(({ app }) => app.lines);
  expect(lines.filter((line) => line.includes("replication is 1"))).toHaveLength(1);
});

describe("told to stop before the log was ever reached, every role ends in order", () => {
  test.each([
    ["refuses connections", "refuse"],
    ["takes them and never answers", "swallow"],
  ] as const)("while the broker %s", async (_, mode) => {
    await using proxy = await createProxy({ host: "127.0.0.1", port: 1 });
    proxy.mode = mode;
    await using database = await freshDatabase();
    const env = { KAFKA_BROKERS: `127.0.0.1:${proxy.port}`, DATABASE_URL: database.url };
    const apps = await Promise.all(ROLES.map((role) => start(role, env)));
    for (const app of apps) await app.line("listening");
    if (mode === "refuse") for (const app of apps) await app.line("log not reached yet");
    expect(await Promise.all(apps.map((app) => app.stop()))).toEqual(ROLES.map(() => 0));
  });
});

test("told to stop while the broker has fallen silent, every role ends in order", async () => {
  await using broker = await proxiedKafka();
  await using spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1, brokers: broker.kafka.brokers });
  await spillway.start("web");
  broker.proxy.mode = "swallow";
  const codes = await Promise.all(spillway.roles.map(async ({ name, app }) => `${name} ${await app.stop()}`));
  expect(codes).toEqual(spillway.roles.map(({ name }) => `${name} 0`));
});

describe("a database that can never do stops query and sink, which say why", () => {
  const ended = async (app: App, why: string): Promise<void> => {
    expect(await app.exit()).toBe(1);
    expect(await app.line("ended by a failure")).toContain(why);
  };

  test("one that does not keep text as Unicode", async () => {
    await using log = await freshLog();
    await using database = await latinDatabase();
    for (const role of ["query", "sink"] as const)
      await ended(
        await start(role, { ...log.env, DATABASE_URL: database.url }),
        "This database keeps text as LATIN1, so good events could not be saved: use one with ENCODING 'UTF8'",
      );
  });

  test("one of another log", async () => {
    await using log = await freshLog();
    await using database = await freshDatabase();
    const env = { ...log.env, DATABASE_URL: database.url };
    const sink = await start("sink", env);
    await sink.ready();
    expect(await sink.stop()).toBe(0);
    await database.query("UPDATE spillway.log_identity SET topic = 'another'");
    for (const role of ["query", "sink"] as const)
      await ended(await start(role, env), "This database holds epoch 1 of the log another with 2 partitions");
  });
});

async function latinDatabase(): Promise<Database> {
  const database = await freshDatabase();
  const server = new URL(database.url);
  const name = server.pathname.slice(1);
  server.pathname = "/postgres";
  await queryOnce(server.href, `DROP DATABASE ${name}`);
  await queryOnce(
    server.href,
    `CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`,
  );
  return database;
}
