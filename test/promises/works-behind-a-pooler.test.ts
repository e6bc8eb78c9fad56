/**
 * Behind PgBouncer in transaction mode every role works, with five server connections and with one, takes no more of the
 * server than that, and leaves nothing of a session behind.
 * Attack: the real PgBouncer restarted, killed, paused, told to reconnect; its pool held by somebody else until
 * query_wait_timeout; its client connections used up; the server behind it killed; sessions of others that change what they can.
 */
import pg from "pg";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { PgBouncer } from "../../infra/pgbouncer.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { hasPgBouncer, leftBehind, startPgBouncer } from "../support/pgbouncer.ts";
import { privatePostgres, queryOnce } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { Follower } from "./support/follower.ts";
import { Sampler } from "./support/sampler.ts";
import { type Role, type Spillway, startSpillway } from "./support/spillway.ts";
import { newSeed, produce } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d"];
/** Whom PgBouncer is to the server: all its sessions and no others. */
const POOLED = "pooled";
const READERS = 40;
const CLIENTS_MAX = 60;

describe.skipIf(!hasPgBouncer()).each([5, 1])("with a server pool of %i", (poolSize) => {
  let postgres: PostgresServer & AsyncDisposable;
  let pooler: PgBouncer;
  let spillway: Spillway;
  let sampler: Sampler;
  const seed = newSeed("pooler");
  let round = 0;

  beforeAll(async () => {
    postgres = await privatePostgres();
    await queryOnce(postgres.url, `CREATE ROLE ${POOLED} LOGIN SUPERUSER`);
    const upstream = new URL(postgres.url);
    upstream.username = POOLED;
    const settings = { query_wait_timeout: "3", max_client_conn: String(CLIENTS_MAX) };
    pooler = await startPgBouncer({ upstream: upstream.href, poolSize, settings });
    sampler = new Sampler(postgres.url, { by: "usename", budget: { [POOLED]: poolSize }, lastingMs: 100 });
    sampler.start();
    // Nobody of Spillway dies here: a machine that is merely busy must not cost the sink its membership.
    const env = { SPILLWAY_SESSION_TIMEOUT_MS: "45000" };
    const roles = { ingests: 1, sinks: 1, queries: 1 };
    spillway = await startSpillway({ databaseUrl: postgres.url, rolesDatabaseUrl: pooler.url, env, ...roles });
    return async () => {
      await sampler.stop();
      await spillway[Symbol.asyncDispose]();
      await pooler.remove();
      await postgres.remove();
    };
  });

  const write = (requests: number): Promise<void> =>
    produce(spillway.producer, {
      nodes: [spillway.ingest],
      clients: CLIENTS,
      requests,
      seed: seed + ++round,
      name: `at${round}-`,
      resends: 0.2,
    });
  const crowd = async (): Promise<number[]> => {
    const pages = Array.from({ length: READERS }, (_, n) =>
      spillway.reader.page(spillway.query, {
        clientId: CLIENTS[n % CLIENTS.length] ?? "",
        timeoutMs: 4_000,
        limit: n + 1,
      }),
    );
    return (await Promise.all(pages)).map(({ status }) => status);
  };
  /** Resolves once /readyz says so. */
  const told = (role: Role, what: RegExp): Promise<unknown> =>
    until(`${role.name} tells of ${what}`, async () => what.test(await (await fetch(`${role.url}/readyz`)).text()));
  const dead = async (): Promise<number> =>
    (await spillway.database.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.dead_letter"))[0]?.n ?? -1;

  /** Clients of the pooler in transactions, one for each of its server connections: nobody else gets one. */
  async function holdPool(): Promise<{ readonly clients: readonly pg.Client[] } & AsyncDisposable> {
    const clients: pg.Client[] = [];
    for (let n = 0; n < poolSize; n++) {
      const client = await connected();
      await client.query("BEGIN");
      clients.push(client);
    }
    const release = async (): Promise<void> => {
      await Promise.all(clients.map((client) => client.end()));
    };
    return { clients, [Symbol.asyncDispose]: release };
  }

  async function connected(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: pooler.url });
    client.on("error", () => undefined);
    await client.connect();
    return client;
  }

  /** After the pooler went: what ran on the server ends before another one comes. */
  const untilLeft = (): Promise<unknown> =>
    until("its sessions are gone", async () => {
      const left = await spillway.database.query("SELECT FROM pg_stat_activity WHERE usename = $1", [POOLED]);
      return left.length === 0;
    });

  /** Whatever happened before: it goes on by itself, with nothing lost and nothing good set aside. */
  afterEach(async () => {
    await write(20);
    await spillway.saved(90_000);
    await Promise.all([spillway.sink.app.ready(), spillway.query.app.ready()]);
    await spillway.reader.patientPage(spillway.query, { clientId: "a", view: "saved" });
    expect(await dead()).toBe(0);
    expect(spillway.roles.map(({ app }) => app.ended)).toEqual([undefined, undefined, undefined]);
    expect(sampler.excesses).toEqual([]);
  });

  test("events are saved, read and followed", async () => {
    const follower = new Follower({ clientId: "a", after: "0", name: "follower" });
    await follower.reconnect([spillway.query]);
    await write(100);
    await spillway.saved();
    for (let n = 0; n < 5; n++) expect(new Set(await crowd())).toEqual(new Set([200]));
    await until("the follower has them", () => follower.shown > 20);
    follower.cut();
    expect(await spillway.query.app.line("connections reckoned")).toContain('"pooled":true');
  });

  test("nothing of a session is left on a server connection", async () => {
    const metrics = await (await fetch(`${spillway.sink.url}/metrics`)).text();
    // Through the temporary table too.
    expect(Number(/^spillway_sink_copies_total (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(0);
    await using pool = await holdPool();
    for (const client of pool.clients) expect(await leftBehind(client)).toEqual([]);
  });

  test("what others leave on a server connection changes nothing", async () => {
    const before = await spillway.reader.patientPage(spillway.query, { clientId: "a", view: "saved" });
    {
      await using pool = await holdPool();
      // For the session, as a client does who knows nothing of the pooler.
      for (const client of pool.clients)
        await client.query(`SET search_path = pg_temp; SET bytea_output = escape; SET extra_float_digits = 0;
          SET IntervalStyle = iso_8601; SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'SQL, DMY';
          CREATE TEMPORARY TABLE staged (a int); CREATE TEMPORARY TABLE event (a int); COMMIT`);
    }
    await write(30);
    await spillway.saved();
    const after = await spillway.reader.patientPage(spillway.query, { clientId: "a", view: "saved" });
    expect(after.texts.slice(0, before.texts.length)).toEqual(before.texts);
    expect(before.texts.length).toBeGreaterThan(10);
    // With its server connections goes what was left on them.
    await pooler.admin("RECONNECT");
  });

  test("it is restarted, killed, and told to reconnect, while events are written", async () => {
    for (const verb of ["stop", "kill"] as const) {
      const writing = write(30);
      await pooler[verb]();
      await told(spillway.sink, /store: \S+: down: .*ECONNREFUSED/);
      await untilLeft();
      await pooler.start();
      await writing;
    }
    await Promise.all([write(30), pooler.admin("RECONNECT"), crowd()]);
  });

  test("it is paused: events are taken, what is unsaved is read, and it is told", async () => {
    await pooler.admin("PAUSE");
    await write(20);
    const unsaved = await spillway.reader.patientPage(spillway.query, { clientId: "a", view: "unsaved" });
    expect(unsaved.status).toBe(200);
    await told(spillway.sink, /store: \S+: (no answer|silent|overload)/);
    await told(spillway.query, /"degraded":\["store: \S+ does not answer/);
    await pooler.admin("RESUME");
  });

  test("somebody else holds its whole pool, until query_wait_timeout and beyond", async () => {
    const since = spillway.sink.app.lines.length;
    await using _pool = await holdPool();
    await write(20);
    const felt = (line: string): boolean =>
      line.includes("query_wait_timeout") && line.includes('"errorClass":"overload"');
    await until("the sink is told three times", () => spillway.sink.app.lines.slice(since).filter(felt).length >= 3, {
      limitMs: 60_000,
    });
    await told(spillway.sink, /store: \S+: overload: query_wait_timeout/);
    expect(new Set(await crowd())).toEqual(new Set([503]));
  });

  test("others have all connections that it allows to clients", async () => {
    const ours = [spillway.sink.app, spillway.query.app];
    for (const app of ours) app.freeze();
    await pooler.kill();
    await untilLeft();
    await pooler.start();
    const others: pg.Client[] = [];
    const fill = async (): Promise<void> => {
      for (;;) others.push(await connected());
    };
    await expect(fill()).rejects.toThrow("no more connections allowed");
    for (const app of ours) app.thaw();
    await write(20);
    await told(spillway.sink, /store: \S+: overload: no more connections allowed/);
    await Promise.all(others.map((client) => client.end()));
  });

  test("the server behind it is killed", async () => {
    const writing = write(40);
    await postgres.kill();
    await told(spillway.sink, /store: \S+: (down|overload|silent|no answer)/);
    await postgres.start();
    await writing;
  });

  test("and in the end nothing is lost, repeated or out of order, and there was no session too many", async () => {
    await spillway.check({ okIds: 500, pages: 200, rows: 500 });
    expect(sampler.samples).toBeGreaterThan(300);
    expect(sampler.most.get(POOLED)).toBe(poolSize);
  });
});
