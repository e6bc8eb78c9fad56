/** The PgBouncer of the tests does what those that use it rely on. */
import pg from "pg";
import { describe, expect, inject, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { write } from "../../apps/sink/write.ts";
import { hasPgBouncer, leftBehind, startPgBouncer } from "../support/pgbouncer.ts";
import { queryOnce } from "../support/postgres.ts";
import { recordOf, someEvent } from "../support/records.ts";
import { batchOf, EPOCH, freshStore, openPool } from "../support/store.ts";
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

  test("keeps what a client leaves of its session, and finds nothing of ours, whatever way rows went in", async () => {
    await using pooler = await startPgBouncer({ upstream: inject("databaseUrl"), poolSize: 1 });
    await using store = await freshStore();
    const url = new URL(store.database.url);
    url.port = new URL(pooler.url).port;
    const pool = openPool(url.href);
    const client = new pg.Client({ connectionString: url.href });
    client.on("error", () => undefined);
    await client.connect();
    const left = async (): Promise<string[]> => {
      await client.query("BEGIN");
      const found = await leftBehind(client);
      await client.query("COMMIT");
      return found;
    };
    const some = (offset: bigint, ids: readonly string[]) =>
      ids.map((id, nth) => recordOf(someEvent({ clientId: "0", id }), offset + BigInt(nth)));
    await migrate(pool);
    await store.database.query("ALTER TABLE spillway.event ADD CHECK (id <> 'refused')");
    await write(pool, EPOCH, await batchOf(1, { 0: some(0n, ["a", "b"]) }), "copy", systemClock);
    await write(pool, EPOCH, await batchOf(1, { 0: some(2n, ["b", "c"]) }), "stage", systemClock);
    await write(pool, EPOCH, await batchOf(1, { 0: some(4n, ["d", "refused"]) }), "bisect", systemClock);
    expect(await store.rows()).toEqual(["0 a", "1 b", "3 c", "4 d"]);
    expect(await store.dead()).toEqual(["5 refused-23514"]);
    expect(await left()).toEqual([]);
    // What it would find.
    for (const text of [
      "SET work_mem = '5MB'",
      "CREATE TEMPORARY TABLE mine (a int)",
      "LISTEN mine",
      "PREPARE mine AS SELECT 1",
    ])
      await pool.query(text, [], 5_000);
    await pool.query("SELECT pg_advisory_lock(7)", [], 5_000);
    expect((await left()).sort()).toEqual([
      "channel mine",
      "lock 7",
      "setting work_mem = 5120",
      "statement mine",
      "temporary mine",
    ]);
    await client.end();
    await pool.close();
  });
});
