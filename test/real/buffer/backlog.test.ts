/**
 * Promise: what waits is told by client, joinable with the application's own tables, at the same price however many rows are recorded;
 * and the transaction that keeps writers waiting is named. Attack: a million recorded rows, writers behind an idle transaction, behind a
 * prepared one, asked by a role without rights.
 */
import { expect, test } from "vitest";
import { freshBuffer, installInto, newRole, openSession, waits } from "../../support/buffer.ts";
import { privatePostgres } from "../../support/postgres.ts";

test("the backlog is joined with the application's tables, and reads no recorded row", async () => {
  await using database = await freshBuffer();
  await database.query(
    "CREATE TABLE app (id text PRIMARY KEY, name text); INSERT INTO app VALUES ('A', 'Ada'), ('B', 'Bob')",
  );
  await database.query(
    "INSERT INTO spillway.event_buffer (client_id, type) SELECT 'old', 't' FROM generate_series(1, 50000)",
  );
  await database.query("UPDATE spillway.event_buffer SET recorded = now()");
  for (const client of ["A", "A", "B", "C"]) await database.query("SELECT spillway.emit($1, 't')", [client]);
  await database.query("UPDATE spillway.event_buffer SET set_aside = 'too-deep' WHERE client_id = 'B'");
  await database.query("VACUUM ANALYZE spillway.event_buffer");
  expect(
    await database.query(
      `SELECT name, waiting, set_aside, oldest_written_at < now() AS dated
       FROM app JOIN spillway.backlog ON client_id = app.id ORDER BY name`,
    ),
  ).toEqual([
    { name: "Ada", waiting: "2", set_aside: "0", dated: true },
    { name: "Bob", waiting: "0", set_aside: "1", dated: null },
  ]);
  expect(
    await database.query(
      "SELECT waiting, set_aside, oldest_age > '0' AS aged, oldest_written_at IS NOT NULL AS dated FROM spillway.backlog_total",
    ),
  ).toEqual([{ waiting: "3", set_aside: "1", aged: true, dated: true }]);
  for (const view of ["backlog", "backlog_total"]) {
    const plan = await database.query<{ "QUERY PLAN": string }>(`EXPLAIN SELECT * FROM spillway.${view}`);
    const lines = plan
      .map((row) => row["QUERY PLAN"])
      .filter((line) => / Scan /.test(line) && /event_buffer/.test(line));
    expect(lines.filter((line) => !/event_buffer_(waiting|set_aside)/.test(line))).toEqual([]);
    expect(lines.length).toBeGreaterThan(1);
  }
});

test("who keeps writers waiting is told with pid, age and state; also to a relay's role without rights of its own", async () => {
  await using database = await freshBuffer();
  const { name, url } = await newRole(database);
  await installInto(database.url, { relay: [name], writers: [] });
  await using idle = await openSession(database.url, "forgotten console");
  await using first = await openSession(database.url);
  await using second = await openSession(database.url);
  await idle.query("BEGIN");
  await idle.emit("A", "1");
  const later = [first.emit("A", "2"), second.emit("A", "3")];
  await waits(first, database);
  await waits(second, database);
  await using relay = await openSession(url);
  const blockers = "SELECT pid, gid, state, application_name, waiting, age > '0' AS aged FROM spillway.blocking()";
  const expected = {
    pid: idle.pid,
    gid: null,
    state: "idle in transaction",
    application_name: "forgotten console",
    waiting: "2",
    aged: true,
  };
  expect(await relay.query(blockers)).toEqual([expected]);
  await idle.query("COMMIT");
  await Promise.all(later);
  expect(await relay.query(blockers)).toEqual([]);
});

test("a prepared transaction that keeps writers waiting is told by its name", { timeout: 240_000 }, async () => {
  await using postgres = await privatePostgres({ max_prepared_transactions: "2" });
  await using database = await freshBuffer(postgres.url);
  await using one = await openSession(database.url);
  await using two = await openSession(database.url);
  await one.query("BEGIN");
  await one.emit("A", "1");
  await one.query("PREPARE TRANSACTION 'left behind'");
  const later = two.emit("A", "2");
  await waits(two, database);
  expect(await database.query("SELECT pid, gid, state, waiting, age > '0' AS aged FROM spillway.blocking()")).toEqual([
    { pid: null, gid: "left behind", state: "prepared", waiting: "1", aged: true },
  ]);
  await database.query("ROLLBACK PREPARED 'left behind'");
  await later;
});
