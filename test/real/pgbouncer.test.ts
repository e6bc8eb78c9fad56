/** The PgBouncer of the tests does what those that use it rely on. */
import pg from "pg";
import { describe, expect, inject, test } from "vitest";
import { hasPgBouncer, startPgBouncer } from "../support/pgbouncer.ts";
import { queryOnce } from "../support/postgres.ts";
import { until } from "../support/until.ts";

describe.skipIf(!hasPgBouncer())("PgBouncer", () => {
  test("gives many clients one server connection, transaction by transaction", async () => {
    await using pooler = await startPgBouncer({ upstream: inject("databaseUrl"), poolSize: 1 });
    const pids = await Promise.all(
      Array.from({ length: 20 }, () => queryOnce<{ pid: number }>(pooler.url, "SELECT pg_backend_pid() AS pid")),
    );
    expect(new Set(pids.map(([row]) => row?.pid)).size).toBe(1);
  });

  test("is paused, resumed, stopped, killed and started on its port", async () => {
    await using pooler = await startPgBouncer({ upstream: inject("databaseUrl"), poolSize: 1 });
    // Before its first server connection it lets nobody in while it is paused.
    await queryOnce(pooler.url, "SELECT 1");
    await pooler.admin("PAUSE");
    const client = new pg.Client({ connectionString: pooler.url });
    client.on("error", () => undefined);
    await client.connect();
    const asked = client.query("SELECT 1 AS one");
    await until("the client waits", async () => {
      const pools = await pooler.admin<{ database: string; cl_waiting: number }>("SHOW POOLS");
      return pools.some(({ cl_waiting }) => Number(cl_waiting) === 1);
    });
    await pooler.admin("RESUME");
    expect((await asked).rows).toEqual([{ one: 1 }]);
    await client.end();
    for (const verb of ["restart", "stop", "kill"] as const) {
      await pooler[verb]();
      if (verb !== "restart") await expect(queryOnce(pooler.url, "SELECT 1")).rejects.toThrow("ECONNREFUSED");
      await pooler.start();
      expect(await queryOnce(pooler.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    }
  });
});
