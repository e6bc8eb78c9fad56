/** Whether a database can give the connections that are declared, asked of real ones with limits of every kind. */
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { createMetrics } from "#lib/metrics.ts";
import { isWrongStore } from "#lib/postgres/identity.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { requireRoom } from "#lib/postgres/room.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import type { PostgresServer } from "../../../infra/server.ts";
import { hasPgBouncer, startPgBouncer } from "../../support/pgbouncer.ts";
import { privatePostgres, queryOnce } from "../../support/postgres.ts";
import { keptLog } from "../../support/records.ts";
import { openPool } from "../../support/store.ts";
import { until } from "../../support/until.ts";

let postgres: PostgresServer & AsyncDisposable;
const run = (statement: string): Promise<unknown[]> => queryOnce(postgres.url, statement);

/** 20 less 3 for superusers and 4 for those who may use reserved ones: 13 for others. */
beforeAll(async () => {
  postgres = await privatePostgres({ max_connections: "20", reserved_connections: "4" });
  await run("CREATE ROLE plain LOGIN");
  await run("CREATE ROLE favoured LOGIN IN ROLE pg_use_reserved_connections");
  await run("CREATE ROLE narrow LOGIN CONNECTION LIMIT 5");
  await run("CREATE DATABASE small CONNECTION LIMIT 3");
  await run("CREATE DATABASE hardened");
});
afterAll(() => postgres.remove());

const as = (role: string, database = "spillway"): string => {
  const url = new URL(postgres.url);
  [url.username, url.pathname] = [role, `/${database}`];
  return url.href;
};

/** @returns what was logged, or what it was refused with */
async function asked(url: string, share: number, budget: number): Promise<unknown> {
  const log = keptLog();
  const pool = openPool(url, share);
  try {
    const held = (): number => pool.size.total;
    await requireRoom(pool, { share, held, budget, address: "here" }, log);
    return log.lines.map(({ level, message, fields }) => ({ level, message, ...fields }));
  } catch (error) {
    expect(isWrongStore(error)).toBe(true);
    return (error as Error).message;
  } finally {
    await pool.close();
  }
}
const fits = (allowed: number): unknown => [expect.objectContaining({ message: "connections reckoned", allowed })];

describe("a declared budget", () => {
  const OWN_USERS = "; of processes with a user of their own declare the sum by themselves";
  test.each([
    ["plain", "spillway", 13, "max_connections 20, less 7 reserved", "--limit 20 --reserve 10", ""],
    ["favoured", "spillway", 17, "max_connections 20, less 3 reserved", "--limit 20 --reserve 6", ""],
    ["spillway", "small", 17, "max_connections 20, less 3 reserved", "--limit 20 --reserve 6", ""],
    ["narrow", "spillway", 5, "CONNECTION LIMIT of role narrow", "--limit 5 --reserve 3", OWN_USERS],
    ["narrow", "small", 3, "CONNECTION LIMIT of database small", "--limit 3 --reserve 3", ""],
  ])("of role %s in database %s holds up to %i: %s", async (role, database, most, why, flags, otherwise) => {
    expect(await asked(as(role, database), 2, most)).toEqual(fits(most));
    expect(await asked(as(role, database), 2, most + 1)).toBe(
      `SPILLWAY_DATABASE_CONNECTIONS_MAX: ${most + 1} connections are declared, and the database here gives at most ${most} (${why}). ` +
        `Make pools and processes fit (npm run budget -- ${flags}) and declare what it says, or raise that limit${otherwise}.`,
    );
  });

  test("is refused to a process that could exceed it alone", async () => {
    expect(await asked(as("plain"), 4, 4)).toEqual(fits(13));
    expect(await asked(as("plain"), 4, 3)).toMatch(
      /3 connections are declared for all .* may open 4\. Make its pool smaller/,
    );
  });
});

describe("without a declared budget", () => {
  test("a pool that can never be had whole is warned of, and works", async () => {
    expect(await asked(as("narrow"), 6, 0)).toEqual([
      expect.objectContaining({ level: "info" }),
      expect.objectContaining({
        level: "warn",
        message: "database gives fewer connections than this role may open: make the pool smaller or raise the limit",
        share: 6,
        allowed: 5,
        by: "CONNECTION LIMIT of role narrow",
      }),
    ]);
  });

  test("too few that are left at this moment are warned of, whoever has the others; own ones count once", async () => {
    const others = Array.from({ length: 10 }, () => new pg.Client({ connectionString: as("favoured", "postgres") }));
    await Promise.all(others.map((client) => client.connect()));
    try {
      // A backend lives on for a moment after its client has gone.
      const onlyOthers = (): Promise<unknown> =>
        until("nobody else has a backend", async () => {
          const found = await others[0]?.query("SELECT sum(numbackends)::int AS used FROM pg_stat_database");
          return found?.rows[0]?.used === others.length;
        });
      await onlyOthers();
      // With its own first: 11 of 13.
      expect(await asked(as("plain"), 3, 0)).toEqual(fits(13));
      await onlyOthers();
      expect(await asked(as("plain"), 4, 0)).toEqual([
        expect.objectContaining({ level: "info" }),
        expect.objectContaining({ level: "warn", most: 13, used: 11, share: 4, held: 1 }),
      ]);
    } finally {
      await Promise.all(others.map((client) => client.end()));
    }
  });
});

describe("where statistics and roles are hidden from its user", () => {
  test("nobody is stopped for that: it is told what to grant, and what can be judged without them is", async () => {
    const [url, server] = [as("plain", "hardened"), as("spillway", "hardened")];
    for (const view of ["pg_stat_activity", "pg_stat_database", "pg_roles"]) {
      await queryOnce(server, `REVOKE SELECT ON ${view} FROM PUBLIC`);
      const told = {
        level: "warn",
        message: expect.stringContaining("GRANT SELECT ON pg_roles, pg_database, pg_stat_activity, pg_stat_database"),
        error: `permission denied for view ${view}`,
        address: "here",
      };
      expect(await asked(url, 2, 18)).toEqual([told]);
      await queryOnce(server, `GRANT SELECT ON ${view} TO PUBLIC`);
    }
    await queryOnce(server, "REVOKE SELECT ON pg_stat_activity FROM PUBLIC");
    expect(await asked(url, 4, 3)).toMatch(/this one alone may open 4/);
    // What the warning says helps.
    await queryOnce(server, "GRANT SELECT ON pg_roles, pg_database, pg_stat_activity, pg_stat_database TO plain");
    expect(await asked(url, 2, 13)).toEqual(fits(13));
  });
});

describe.skipIf(!hasPgBouncer())("behind PgBouncer", () => {
  test("the server's limit is what a budget must hold in, and clients' pools are not reckoned against it", async () => {
    await using pooler = await startPgBouncer({ upstream: as("narrow"), poolSize: 2 });
    expect(await asked(pooler.url, 50, 5)).toEqual([
      expect.objectContaining({ level: "info", allowed: 5, pooled: true }),
    ]);
    expect(await asked(pooler.url, 50, 0)).toEqual([
      expect.objectContaining({ level: "info", allowed: 5, pooled: true }),
    ]);
    expect(await asked(pooler.url, 50, 6)).toMatch(/6 connections are declared, and the database here gives at most 5/);
    // Without it, the two that it holds count among the five.
    expect(await asked(as("narrow"), 3, 5)).toEqual([expect.objectContaining({ pooled: false, allowed: 5 })]);
  });
});

test("waiting for a connection has an end, and is counted with it", async () => {
  const metrics = createMetrics("query");
  const counted = { metrics, pool: "pages" };
  const log = keptLog();
  const pool = new Pool({
    url: as("plain"),
    max: 1,
    name: "t",
    connectTimeoutMs: 200,
    log,
    clock: systemClock,
    counted,
  });
  const text = (): Promise<string> => metrics.registry.metrics();
  try {
    const slow = pool.query("SELECT pg_sleep(0.6)", [], 5_000);
    const waiting = pool.query("SELECT 1", [], 5_000);
    expect(await text()).toContain('spillway_pool_waiting{pool="pages"} 1');
    const error = await waiting.catch((cause: unknown) => cause);
    expect(classify(error)).toBe("overload");
    await slow;
    const told = await text();
    expect(told).toContain('spillway_pool_connections{pool="pages"} 1');
    expect(told).toContain('spillway_pool_waiting{pool="pages"} 0');
    expect(told).toContain('spillway_pool_wait_ms_count{pool="pages"} 2');
    expect(told).toContain('spillway_pool_wait_ms_bucket{le="500",pool="pages"} 2');
    expect(Number(/spillway_pool_wait_ms_sum\S* (\S+)/.exec(told)?.[1])).toBeGreaterThanOrEqual(199);
  } finally {
    await pool.close();
  }
});
