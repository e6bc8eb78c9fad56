/**
 * Promise: for one client the order of positions is the order of commits, and a reader that takes what it sees by position misses
 * nothing and turns nothing round. Attack: writers of one client at once, long transactions, rollbacks, savepoints, prepared
 * transactions over a crash, a COPY of 100,000 clients, sessions in the replication role, writers in opposite orders.
 */
import { expect, test } from "vitest";
import { freshBuffer, openSession, type Session, takable, waits } from "../../support/buffer.ts";
import { type Database, privatePostgres } from "../../support/postgres.ts";
import { openPool } from "../../support/store.ts";

const LIMITS = { lockTimeoutMs: 10_000, statementTimeoutMs: 120_000, idleTimeoutMs: 60_000 };

const stamp = (database: Database, ids: readonly string[]) =>
  database.query("UPDATE spillway.event_buffer SET recorded = now() WHERE id = ANY ($1)", [ids]);

test("of two transactions for one client the second waits, and stands behind the first", async () => {
  await using database = await freshBuffer();
  await using first = await openSession(database.url);
  await using second = await openSession(database.url);
  // The older transaction, with the lower xid, is the one that writes later.
  await second.query("BEGIN; SELECT pg_current_xact_id()");
  await first.query("BEGIN");
  await first.emit("A", "1");
  const later = second.emit("A", "2");
  await waits(second, database);
  await first.emit("A", "3");
  await first.query("COMMIT");
  await later;
  expect(await takable(database)).toEqual(["1", "3"]);
  await second.query("COMMIT");
  expect(await takable(database)).toEqual(["1", "3", "2"]);
});

test("a long transaction holds up no other client, and its rows are taken when it commits", async () => {
  await using database = await freshBuffer();
  await using long = await openSession(database.url);
  await using other = await openSession(database.url);
  await long.query("BEGIN");
  await long.emit("long", "early");
  for (const id of ["1", "2", "3"]) await other.emit("other", id);
  expect(await takable(database)).toEqual(["1", "2", "3"]);
  await stamp(database, ["1", "2", "3"]);
  await other.emit("other", "4");
  await long.emit("long", "late");
  await long.query("COMMIT");
  expect(await takable(database)).toEqual(["early", "4", "late"]);
});

test("what was rolled back is never there, and its positions hold nothing up", async () => {
  await using database = await freshBuffer();
  await using writer = await openSession(database.url);
  await writer.emit("A", "1");
  await writer.query("BEGIN");
  await writer.emit("A", "gone");
  await writer.query("ROLLBACK");
  await database.query("SELECT setval('spillway.event_buffer_position', 1000)");
  await writer.emit("A", "2");
  expect(await takable(database)).toEqual(["1", "2"]);
});

test("what a savepoint takes back is never there, and its lock is free for others at once", async () => {
  await using database = await freshBuffer();
  await using writer = await openSession(database.url);
  await using other = await openSession(database.url);
  await writer.query("BEGIN");
  await writer.emit("A", "a1");
  await writer.query("SAVEPOINT s");
  await writer.emit("B", "gone");
  await writer.query("ROLLBACK TO s");
  await other.emit("B", "b1");
  await writer.emit("B", "b2");
  // A subtransaction as PL/pgSQL makes them; its row is the whole transaction's.
  await writer.query(
    "DO $$ BEGIN PERFORM spillway.emit('A', 't', id => 'a2'); EXCEPTION WHEN others THEN NULL; END $$",
  );
  const later = other.emit("A", "a3");
  await waits(other, database);
  await writer.query("COMMIT");
  await later;
  expect(await takable(database)).toEqual(["a1", "b1", "b2", "a2", "a3"]);
});

test("a prepared transaction keeps its client's place, over a crash of the server too", {
  timeout: 240_000,
}, async () => {
  await using postgres = await privatePostgres({ max_prepared_transactions: "5" });
  await using database = await freshBuffer(postgres.url);
  const writer = await openSession(database.url);
  await writer.query("BEGIN");
  await writer.emit("A", "prepared");
  await writer.query("PREPARE TRANSACTION 'p'");
  await writer.emit("other", "o");
  await postgres.kill();
  await postgres.start();
  await using next = await openSession(database.url);
  const behind = next.emit("A", "behind");
  await waits(next, database);
  expect(await takable(database)).toEqual(["o"]);
  await database.query("COMMIT PREPARED 'p'");
  await behind;
  expect(await takable(database)).toEqual(["prepared", "o", "behind"]);
});

test("sessions in the replication role, and writers who choose a position, are given theirs like all others", async () => {
  await using database = await freshBuffer();
  await using replica = await openSession(database.url);
  await using writer = await openSession(database.url);
  await replica.query("SET session_replication_role = replica");
  await writer.query("BEGIN");
  await writer.emit("A", "1");
  const later = replica.query(
    `INSERT INTO spillway.event_buffer (position, client_id, id, type, written_at, recorded, set_aside, data_bytes)
     OVERRIDING USER VALUE VALUES (-5, 'A', '2', 't', 'epoch', now(), 'mine', 7)`,
  );
  await waits(replica, database);
  await writer.query("COMMIT");
  await later;
  expect(await takable(database)).toEqual(["1", "2"]);
  const [row] = await database.query(
    `SELECT position > 0 AS drawn, written_at > 'epoch' AS dated, occurred_at = written_at::date AS given, data_bytes AS bytes
     FROM spillway.event_buffer WHERE id = '2'`,
  );
  expect(row).toEqual({ drawn: true, dated: true, given: false, bytes: 0 });
  for (const given of ["recorded = now()", "set_aside = 'mine'", "set_aside_why = 'mine'"]) {
    const [column = "", value] = given.split(" = ");
    const rows = await writer.query(
      `INSERT INTO spillway.event_buffer (client_id, type, ${column}) VALUES ('A', 't', ${value}) RETURNING ${column} AS kept`,
    );
    expect(rows, given).toEqual([{ kept: null }]);
  }
  await expect(replica.query("INSERT INTO spillway.event_buffer (client_id, type) VALUES ('', 't')")).rejects.toThrow(
    "invalid-event: client_id is empty",
  );
});

test("a COPY of 100,000 clients keeps its order and needs 1,024 places for locks on a small server", {
  timeout: 240_000,
}, async () => {
  await using postgres = await privatePostgres({ max_connections: "20" });
  await using database = await freshBuffer(postgres.url);
  await using other = await openSession(database.url);
  const ids = Array.from({ length: 100_000 }, (_, n) => `id-${n}`);
  const pool = openPool(database.url);
  const held = await pool.transaction(LIMITS, async (transaction) => {
    await transaction.copy(
      "COPY spillway.event_buffer (client_id, id, type) FROM STDIN",
      Buffer.from(ids.map((id, n) => `client-${n}\t${id}\tt\n`).join("")),
    );
    // The server's table has places left for what others do.
    await other.query("BEGIN; CREATE TABLE room AS SELECT 1 AS n; COMMIT");
    return transaction.query<{ n: string }>("SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory'");
  });
  await pool.close();
  expect(held).toEqual([{ n: "1024" }]);
  expect(await takable(database)).toEqual(ids);
});

test("writers of two clients in opposite orders deadlock; by emit_many they do not", async () => {
  await using database = await freshBuffer();
  await using one = await openSession(database.url);
  await using two = await openSession(database.url);
  await one.query("BEGIN");
  await one.emit("A", "1a");
  await two.query("BEGIN");
  await two.emit("B", "2b");
  const crossing = [one.emit("B", "1b"), two.emit("A", "2a")];
  const ends = await Promise.allSettled(crossing);
  expect(ends.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(ends.find(({ status }) => status === "rejected")).toMatchObject({ reason: { code: "40P01" } });
  await one.query("ROLLBACK");
  await two.query("ROLLBACK");
  const clients = Array.from({ length: 40 }, (_, n) => `c${n}`);
  const many = async (session: Session, names: readonly string[]): Promise<void> => {
    const events = JSON.stringify(names.map((clientId) => ({ clientId, type: "t" })));
    for (let n = 0; n < 50; n++) await session.query("SELECT spillway.emit_many($1)", [events]);
  };
  await Promise.all([many(one, clients), many(two, clients.toReversed())]);
  expect(await takable(database)).toHaveLength(4_000);
});
