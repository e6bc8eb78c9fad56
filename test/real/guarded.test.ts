/**
 * Promise: every role works with a Kafka and a PostgreSQL that demand TLS, certificates, passwords and a prefix, and one that is
 * not let in says why and waits. Attack: another authority, no certificate, another host's name, a wrong password, no TLS.
 */
import { readFileSync, rmSync } from "node:fs";
import { Kafka, logLevel } from "kafkajs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { readSettings } from "#lib/config.ts";
import { databaseSettings } from "#lib/database-settings.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import { readKafkaAccess } from "#lib/kafka-access.ts";
import { logSettings } from "#lib/log-settings.ts";
import { installInto } from "../support/buffer.ts";
import { type Authority, newAuthority } from "../support/certificates.ts";
import { newFolder } from "../support/folder.ts";
import {
  type GuardedKafka,
  type GuardedPostgres,
  guardedKafka,
  guardedPostgres,
  PASSWORD,
  PREFIX,
  USER,
} from "../support/guarded.ts";
import { queryOnce } from "../support/postgres.ts";
import { type App, startApp } from "../support/process.ts";
import { silentLog } from "../support/records.ts";
import { openPool } from "../support/store.ts";
import { until } from "../support/until.ts";

const folder = newFolder("guarded");
const pem = (path: string): string => readFileSync(path, "utf8");
let kafka: GuardedKafka;
let postgres: GuardedPostgres;
let stranger: Authority;
let certificates: Readonly<Record<string, string>>;
let login: Readonly<Record<string, string>>;
let database: string;
beforeAll(async () => {
  [kafka, postgres] = await Promise.all([guardedKafka(), guardedPostgres()]);
  stranger = newAuthority(folder, "stranger");
  const client = kafka.authority.issue("client");
  certificates = {
    KAFKA_BROKERS: kafka.certificates,
    KAFKA_TRUSTED_CERT: pem(kafka.authority.cert),
    KAFKA_CLIENT_CERT: pem(client.cert),
    KAFKA_CLIENT_CERT_KEY: pem(client.key),
    KAFKA_PREFIX: PREFIX,
    SPILLWAY_PARTITIONS: "2",
  };
  login = {
    KAFKA_BROKERS: kafka.passwords,
    KAFKA_TRUSTED_CERT: kafka.authority.cert,
    KAFKA_USERNAME: USER,
    KAFKA_PASSWORD: PASSWORD,
    SPILLWAY_PARTITIONS: "2",
  };
  database = `${postgres.url}?sslmode=verify-full&sslrootcert=${postgres.authority.cert}`;
}, 120_000);
afterAll(async () => {
  await Promise.all([kafka.remove(), postgres.remove()]);
  rmSync(folder, { recursive: true });
});

const post = ({ url }: App, id: string): Promise<Response> =>
  fetch(`${url}/api/v1/events`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ clientId: "1", type: "t", id }),
  });

async function idsOf({ url }: App, view: string): Promise<string[]> {
  const page = await fetch(`${url}/api/v1/events?clientId=1&view=${view}`);
  return ((await page.json()) as { events: { id: string }[] }).events.map(({ id }) => id);
}

/** A secret of any kind, in whatever a role wrote. */
const told = (app: App): string[] =>
  app.lines.filter((line) => line.includes(PASSWORD) || line.includes("PRIVATE KEY") || line.includes("BEGIN CERT"));

/** All roles at work: an event posted is read and saved, and so is one that a transaction emitted. */
async function worksEndToEnd(env: Readonly<Record<string, string>>): Promise<void> {
  const mains = ["ingest", "query", "sink", "relay"] as const;
  const apps = await Promise.all(mains.map((name) => startApp(`apps/${name}/main.ts`, env)));
  const [ingest, query] = apps as [App, App, App, App];
  try {
    await Promise.all(apps.map((app) => app.ready()));
    expect((await post(ingest, "posted")).status).toBe(201);
    expect(await idsOf(query, "merged")).toContain("posted");
    await queryOnce(String(env["DATABASE_URL"]), `SELECT spillway.emit('1', 't', '{}', id => 'emitted')`);
    await until("both are saved", async () => (await idsOf(query, "saved")).sort().join() === "emitted,posted");
    for (const app of apps) expect(told(app)).toEqual([]);
    for (const app of apps) expect(await app.stop()).toBe(0);
  } finally {
    await Promise.all(apps.map((app) => app.kill()));
  }
}

/** A database of its own, with the event buffer. */
async function freshUrl(name: string): Promise<string> {
  await queryOnce(database, `CREATE DATABASE ${name}`);
  const url = new URL(database);
  url.pathname = `/${name}`;
  await installInto(url.href);
  return url.href;
}

test("all roles work as on Heroku: certificates on both sides, brokers of another name, a prefix, a database with TLS and password", async () => {
  const heroku = { ...certificates, KAFKA_BROKERS: kafka.misnamed, KAFKA_SSLMODE: "verify-ca" };
  await worksEndToEnd({ ...heroku, DATABASE_URL: await freshUrl("heroku") });
  const admin = new Kafka({ brokers: [kafka.brokers], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  const topics = (await admin.listTopics()).filter((topic) => !topic.startsWith("__"));
  const { groups } = await admin.listGroups();
  await admin.disconnect();
  expect(topics.sort()).toEqual([`${PREFIX}spillway.events`, `${PREFIX}spillway.events.control`]);
  expect(groups.map(({ groupId }) => groupId)).toEqual([`${PREFIX}spillway.events.sink`]);
});

test("all roles work with a user and a password over TLS", async () => {
  await worksEndToEnd({ ...login, SPILLWAY_TOPIC: "by-password", DATABASE_URL: await freshUrl("by_password") });
});

test.each(["plain", "scram-sha-256", "scram-sha-512"])("a password is proved by %s", async (mechanism) => {
  const access = readKafkaAccess(readSettings(logSettings, { ...login, KAFKA_SASL_MECHANISM: mechanism }));
  const admin = await connectKafka({ ...access, clientId: "test", log: silentLog, clock: systemClock }).admin();
  expect(await admin.facts("no-such-topic")).toBeUndefined();
  await admin.close();
});

test.each(["verify-full", "verify-ca", "require", "prefer"])(
  "the database is reached by sslmode=%s with its authority, and by no other",
  async (mode) => {
    const trusting = (authority: string): string => `${postgres.url}?sslmode=${mode}&sslrootcert=${authority}`;
    const pool = openPool(trusting(postgres.authority.cert));
    expect(await pool.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", [], 5_000)).toEqual([
      { ssl: true },
    ]);
    await pool.close();
    const cheated = openPool(trusting(stranger.cert));
    await expect(cheated.query("SELECT 1", [], 5_000)).rejects.toThrow(/sslrootcert=FILE/);
    await cheated.close();
  },
);

test("a password of every sign opens the database, written as in a URL", async () => {
  const password = "p@s:s/w%o#r?d &=+'ä[]{}%41";
  await queryOnce(database, `CREATE ROLE odd LOGIN PASSWORD '${password.replaceAll("'", "''")}'`);
  const url = new URL(database);
  const address = database.replace(`${url.username}:${url.password}@`, `odd:${encodeURIComponent(password)}@`);
  expect(readSettings(databaseSettings, { DATABASE_URL: address }).DATABASE_URL).toBe(address);
  const pool = openPool(address);
  expect(await pool.query("SELECT current_user AS me", [], 5_000)).toEqual([{ me: "odd" }]);
  await pool.close();
});

test("a statement that was given up ends on the server, over TLS too", async () => {
  const pool = openPool(database);
  await expect(pool.query("SELECT pg_sleep(600)", [], 200)).rejects.toThrow("timeout");
  await until("it has ended", async () => {
    const sql = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query LIKE '%sleep(600)%' AND state = 'active'";
    const [running] = await queryOnce<{ n: number }>(database, `${sql} AND pid <> pg_backend_pid()`);
    return running?.n === 0;
  });
  await pool.close();
});

interface Refusal {
  readonly env: () => Readonly<Record<string, string>>;
  readonly said: RegExp;
}

/** The process goes on, says why in /readyz, and has said so in its log. */
async function waitsAndSays(main: string, { env, said }: Refusal): Promise<void> {
  await using app = await startApp(main, env());
  const missing = await until("/readyz says why", async () => {
    const state = (await (await fetch(`${app.url}/readyz`)).json()) as { missing: string[]; degraded?: string[] };
    const text = [...state.missing, ...(state.degraded ?? [])].join("\n");
    if (!said.test(text)) throw new Error(text);
    return text;
  });
  expect(missing).toMatch(/ \(since \d{4}-/);
  await until("the log says why", () => app.lines.some((line) => said.test(line)));
  expect(app.ended).toBeUndefined();
  expect((await fetch(`${app.url}/healthz`)).status).toBe(200);
  expect(told(app)).toEqual([]);
}

describe("ingest says why it waits for the log when", () => {
  const anotherPassword = { KAFKA_PASSWORD: "hunter3" };
  test.each<[string, Refusal]>([
    [
      "another authority signed the broker's certificate",
      { env: () => ({ ...certificates, KAFKA_TRUSTED_CERT: stranger.cert }), said: /KAFKA_TRUSTED_CERT/ },
    ],
    [
      "nobody's authority is named",
      { env: () => ({ ...certificates, KAFKA_TRUSTED_CERT: "" }), said: /KAFKA_TRUSTED_CERT/ },
    ],
    [
      "the broker's certificate names another host",
      { env: () => ({ ...certificates, KAFKA_BROKERS: kafka.misnamed }), said: /KAFKA_SSLMODE/ },
    ],
    [
      "it has no certificate",
      { env: () => ({ ...certificates, KAFKA_CLIENT_CERT: "", KAFKA_CLIENT_CERT_KEY: "" }), said: /KAFKA_CLIENT_CERT/ },
    ],
    [
      "another authority signed its certificate",
      { env: () => ({ ...certificates, ...strangersPair() }), said: /KAFKA_CLIENT_CERT/ },
    ],
    ["its password is wrong", { env: () => ({ ...login, ...anotherPassword }), said: /KAFKA_PASSWORD/ }],
    [
      "the same, by plain",
      { env: () => ({ ...login, ...anotherPassword, KAFKA_SASL_MECHANISM: "plain" }), said: /KAFKA_PASSWORD/ },
    ],
    [
      "it has no password",
      { env: () => ({ ...login, KAFKA_USERNAME: "", KAFKA_PASSWORD: "" }), said: /KAFKA_USERNAME/ },
    ],
    [
      "it asks for TLS where there is none",
      { env: () => ({ ...certificates, KAFKA_BROKERS: `kafka+ssl://${kafka.brokers}` }), said: /kafka\+ssl/ },
    ],
    [
      "it does not ask for TLS where there is",
      { env: () => ({ KAFKA_BROKERS: kafka.passwords.replace("kafka+ssl://", "") }), said: /kafka\+ssl/ },
    ],
    [
      "it has a password where none is asked for",
      { env: () => ({ ...login, KAFKA_BROKERS: kafka.brokers, KAFKA_TRUSTED_CERT: "" }), said: /unset KAFKA_USERNAME/ },
    ],
    ["its names lack the prefix", { env: () => ({ ...certificates, KAFKA_PREFIX: "" }), said: /KAFKA_PREFIX/ }],
  ])("%s", async (_what, refusal) => waitsAndSays("apps/ingest/main.ts", refusal));

  const strangersPair = (): Record<string, string> => {
    const { cert, key } = stranger.issue("client");
    return { KAFKA_CLIENT_CERT: cert, KAFKA_CLIENT_CERT_KEY: key };
  };
});

describe.each(["query", "sink", "relay"])("%s says why it waits for the database when", (role) => {
  const at =
    (search: string, change: (url: URL) => void = () => undefined) =>
    () => {
      const url = new URL(`${postgres.url}${search}`);
      change(url);
      return { ...login, DATABASE_URL: url.href };
    };
  test.each<[string, Refusal]>([
    [
      "another authority signed its certificate",
      { env: () => at(`?sslmode=verify-full&sslrootcert=${stranger.cert}`)(), said: /sslrootcert/ },
    ],
    ["it does not ask for TLS", { env: () => at("")(), said: /sslmode/ }],
    [
      "its password is wrong",
      {
        env: () =>
          at(`?sslmode=no-verify`, (url) => {
            url.password = "hunter3";
          })(),
        said: /password authentication failed for user/,
      },
    ],
    [
      "it has no password",
      {
        env: () =>
          at(`?sslmode=no-verify`, (url) => {
            url.password = "";
          })(),
        said: /write user and password into DATABASE_URL/,
      },
    ],
  ])("%s", async (_what, refusal) => waitsAndSays(`apps/${role}/main.ts`, refusal));
});
