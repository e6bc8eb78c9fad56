/** The pool against a real PostgreSQL: what breaks is replaced, what waits is given up, and nothing ends the process. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { Pool, RollBack, type TransactionLimits } from "#lib/postgres/pool.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import { createProxy } from "../../../infra/proxy.ts";
import { type Database, freshDatabase } from "../../support/postgres.ts";
import { keptLog, silentLog } from "../../support/records.ts";
import { openPool } from "../../support/store.ts";
import { until } from "../../support/until.ts";

const LIMITS: TransactionLimits = { lockTimeoutMs: 300, statementTimeoutMs: 10_000, idleTimeoutMs: 10_000 };
let database: Database;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query("CREATE TABLE number (n int CHECK (n < 1000))");
});
afterAll(() => database.drop());

/** The backend behind a pool's only connection. */
const pidOf = async (pool: Pool): Promise<number> =>
  (await pool.query<{ pid: number }>("SELECT pg_backend_pid() AS pid", [], 5_000))[0]?.pid ?? 0;
const failure = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => Promise.reject(new Error("it succeeded")),
    (error: Error) => error,
  );
const count = async (): Promise<number> =>
  (await database.query<{ n: number }>("SELECT count(*)::int AS n FROM number"))[0]?.n ?? -1;

test("a statement that takes too long is ended on the server; its connection serves the next, and there is no other", async () => {
  const pool = openPool(database.url);
  const pid = await pidOf(pool);
  const error = await failure(pool.query("SELECT pg_sleep(60)", [], 200));
  expect(classify(error)).toBe("silent");
  // The pool's next free connection: it is free only once the server has ended the statement.
  expect(await pidOf(pool)).toBe(pid);
  const sleeping = await database.query(
    "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'",
  );
  expect(sleeping).toEqual([]);
  await pool.close();
});

test("statements given up by the hundred cost no connection beyond the pool's", async () => {
  const pool = openPool(database.url);
  const pid = await pidOf(pool);
  for (let n = 0; n < 100; n++)
    expect(classify(await failure(pool.query("SELECT pg_sleep(60)", [], 2)))).toBe("silent");
  expect(await pidOf(pool)).toBe(pid);
  await pool.close();
});

test("a statement whose cancellation is lost is cancelled again", async () => {
  const target = new URL(database.url);
  await using proxy = await createProxy({ host: target.hostname, port: Number(target.port) });
  target.port = String(proxy.port);
  const pool = openPool(target.href);
  const pid = await pidOf(pool);
  const asked = failure(pool.query("SELECT pg_sleep(61)", [], 1_000));
  await until("the server is at it", async () => {
    const [one] = await database.query<{ query: string }>("SELECT query FROM pg_stat_activity WHERE pid = $1", [pid]);
    return one?.query.includes("pg_sleep(61)");
  });
  proxy.mode = "swallow";
  await asked;
  await until("the request to cancel is lost", () => proxy.counts.swallowedBytes > 0);
  proxy.mode = "pass";
  expect(await pidOf(pool)).toBe(pid);
  await pool.close();
});

test("a refused statement keeps its connection", async () => {
  const pool = openPool(database.url);
  const pid = await pidOf(pool);
  expect(classify(await failure(pool.query("SELECT 1/0", [], 5_000)))).toBe("data");
  expect(await pidOf(pool)).toBe(pid);
  await pool.close();
});

test("never more connections than allowed; whoever waits is served in turn", async () => {
  const name = "spillway-crowd";
  const pool = openPool(database.url, 3, name);
  const seen: number[] = [];
  const work = async (): Promise<void> => {
    await pool.query("SELECT pg_sleep(0.02)", [], 5_000);
    const sql = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = $1";
    seen.push((await database.query<{ n: number }>(sql, [name]))[0]?.n ?? 99);
  };
  await Promise.all(Array.from({ length: 20 }, work));
  expect(Math.max(...seen)).toBeLessThanOrEqual(3);
  expect(pool.size).toMatchObject({ waiting: 0 });
  await pool.close();
});

test("waiting for a connection ends", async () => {
  const pool = new Pool({
    url: database.url,
    max: 1,
    name: "t",
    connectTimeoutMs: 200,
    log: silentLog,
    clock: systemClock,
  });
  const busy = pool.query("SELECT pg_sleep(1)", [], 5_000);
  expect(classify(await failure(pool.query("SELECT 1", [], 5_000)))).toBe("overload");
  await busy;
  await pool.close();
});

test("a server that is not there is down, and so is one that takes the connection and says nothing", async () => {
  const { hostname, port } = new URL(database.url);
  await using proxy = await createProxy({ host: hostname, port: Number(port) });
  const url = new URL(database.url);
  url.port = String(proxy.port);
  const pool = new Pool({
    url: url.href,
    max: 1,
    name: "t",
    connectTimeoutMs: 500,
    log: silentLog,
    clock: systemClock,
  });
  expect(await pidOf(pool)).toBeGreaterThan(0);
  proxy.mode = "refuse";
  await until("the pool has noticed", () => pool.size.total === 0);
  expect(classify(await failure(pidOf(pool)))).toBe("down");
  proxy.mode = "swallow";
  expect(["down", "overload"]).toContain(classify(await failure(pidOf(pool))));
  proxy.mode = "pass";
  expect(await pidOf(pool)).toBeGreaterThan(0);
  await pool.close();
});

describe("a connection that dies", () => {
  test("idle, is replaced", async () => {
    const log = keptLog();
    const pool = new Pool({ url: database.url, max: 1, name: "t", connectTimeoutMs: 5_000, log, clock: systemClock });
    const pid = await pidOf(pool);
    await database.query("SELECT pg_terminate_backend($1)", [pid]);
    await until("its loss was noticed", () => pool.size.total === 0);
    expect(await pidOf(pool)).not.toBe(pid);
    expect(log.lines.length).toBeGreaterThan(0);
    await pool.close();
  });

  test("under a statement, fails it as down", async () => {
    const pool = openPool(database.url);
    const pid = await pidOf(pool);
    const failed = failure(pool.query("SELECT pg_sleep(60)", [], 60_000));
    await until("it runs", () =>
      database
        .query("SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", [pid])
        .then((rows) => rows.length > 0),
    );
    await database.query("SELECT pg_terminate_backend($1)", [pid]);
    expect(classify(await failed)).toBe("down");
    expect(await pidOf(pool)).not.toBe(pid);
    await pool.close();
  });

  test("between two statements of a transaction, or under COPY, fails that", async () => {
    const pool = openPool(database.url);
    for (const then of ["query", "copy"] as const) {
      const failed = await failure(
        pool.transaction(LIMITS, async (transaction) => {
          const [row] = await transaction.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
          await database.query("SELECT pg_terminate_backend($1)", [row?.pid]);
          await (then === "query"
            ? transaction.query("INSERT INTO number VALUES (1)")
            : transaction.copy("COPY number FROM STDIN", Buffer.from("1\n".repeat(100_000))));
        }),
      );
      expect(classify(failed), `${then}: ${failed.message}`).toBe("down");
      expect(await pidOf(pool)).toBeGreaterThan(0);
    }
    expect(await count()).toBe(0);
    await pool.close();
  });
});

describe("a transaction", () => {
  test("that fails or is rolled back on purpose leaves nothing, and its connection usable", async () => {
    const pool = openPool(database.url);
    const pid = await pidOf(pool);
    for (const error of ["CHECK", "RollBack"] as const) {
      const failed = await failure(
        pool.transaction(LIMITS, async (transaction) => {
          await transaction.query("INSERT INTO number VALUES (1)");
          if (error === "CHECK") await transaction.query("INSERT INTO number VALUES (1000)");
          throw new RollBack("on purpose");
        }),
      );
      expect(failed instanceof RollBack).toBe(error === "RollBack");
      expect(await pidOf(pool)).toBe(pid);
    }
    expect(await count()).toBe(0);
    await pool.close();
  });

  test("waits for a lock no longer than it may, and leaks none of its settings", async () => {
    await using pool = { both: openPool(database.url, 2), [Symbol.asyncDispose]: () => pool.both.close() };
    await pool.both.transaction(LIMITS, async (transaction) => {
      await transaction.query("LOCK TABLE number");
      const blocked = pool.both.transaction(LIMITS, (other) => other.query("LOCK TABLE number"));
      expect(classify(await failure(blocked))).toBe("lock");
    });
    const [row] = await pool.both.query<{ t: string }>("SELECT current_setting('lock_timeout') AS t", [], 5_000);
    expect(row?.t).toBe("0");
  });
});

describe("COPY", () => {
  test("refused in its first line with megabytes behind it rejects, and the connection goes on", async () => {
    const { hostname, port } = new URL(database.url);
    await using proxy = await createProxy({ host: hostname, port: Number(port) });
    proxy.rateBytes = 20_000_000;
    const url = new URL(database.url);
    url.port = String(proxy.port);
    for (const target of [database.url, url.href]) {
      const pool = openPool(target);
      const pid = await pidOf(pool);
      const data = Buffer.from(`x\n${"1\n".repeat(4_000_000)}`);
      const copied = pool.transaction({ ...LIMITS, statementTimeoutMs: 30_000 }, (transaction) =>
        transaction.copy("COPY number FROM STDIN", data),
      );
      expect(classify(await failure(copied))).toBe("data");
      expect(await pidOf(pool)).toBe(pid);
      await pool.close();
    }
  });

  test("into a table that is not there rejects", async () => {
    const pool = openPool(database.url);
    const copied = pool.transaction(LIMITS, (transaction) =>
      transaction.copy("COPY nowhere FROM STDIN", Buffer.from("1\n")),
    );
    expect(classify(await failure(copied))).toBe("bug");
    expect(await pidOf(pool)).toBeGreaterThan(0);
    await pool.close();
  });

  test("that nobody answers is given up, and its connection closed", async () => {
    const { hostname, port } = new URL(database.url);
    await using proxy = await createProxy({ host: hostname, port: Number(port) });
    const url = new URL(database.url);
    url.port = String(proxy.port);
    const pool = openPool(url.href);
    const pid = await pidOf(pool);
    const copied = pool.transaction({ ...LIMITS, statementTimeoutMs: 100 }, async (transaction) => {
      await transaction.query("SELECT 1");
      proxy.mode = "swallowReplies";
      await transaction.copy("COPY number FROM STDIN", Buffer.from("1\n"));
    });
    expect(classify(await failure(copied))).toBe("silent");
    proxy.mode = "pass";
    expect(await pidOf(pool)).not.toBe(pid);
    await pool.close();
  });
});

test("a pool that is quiet gives back all connections but one, which others cannot take meanwhile", async () => {
  const name = "quiet-pool";
  const pool = openPool(database.url, 3, name);
  const pids = async (): Promise<number[]> => {
    const rows = await database.query<{ pid: number }>("SELECT pid FROM pg_stat_activity WHERE application_name = $1", [
      name,
    ]);
    return rows.map(({ pid }) => pid);
  };
  await Promise.all([1, 2, 3].map(() => pool.query("SELECT pg_sleep(0.2)", [], 5_000)));
  expect(await pids()).toHaveLength(3);
  await until("it is quiet", async () => (await pids()).length < 3, { limitMs: 60_000 });
  // All were idle equally long: those that go, go at once.
  const [left] = await until("the others are gone", async () => {
    const found = await pids();
    return found.length < 2 && found;
  });
  expect(await pidOf(pool)).toBe(left);
  await pool.close();
});
