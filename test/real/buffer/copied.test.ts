/**
 * Promise: a copy of the database that was made by logical replication takes over with every row as it was and each client's order,
 * by the statements in docs/event-buffer. Attack: rows that wait, are stamped and deleted before and while it replicates, a writer on the
 * copy before the switch.
 */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { freshBuffer, openSession, takable } from "../../support/buffer.ts";
import { type Database, privatePostgres } from "../../support/postgres.ts";
import { until } from "../../support/until.ts";

const [PREPARE = ""] = /(?<=`)ALTER TABLE spillway\.event_buffer DISABLE [^`]+(?=`)/.exec(documented()) ?? [];
const [SWITCH = ""] = /(?<=```sql\n)SELECT setval[^`]+(?=```)/.exec(documented()) ?? [];

function documented(): string {
  return readFileSync(new URL("../../../docs/event-buffer/README.md", import.meta.url), "utf8");
}

const rows = (database: Database) =>
  database.query("SELECT position, id, recorded, set_aside FROM spillway.event_buffer ORDER BY position");

const guards = (database: Database) =>
  database.query("SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname");

test("a copy by logical replication has every row as it was, and goes on behind them", {
  timeout: 240_000,
}, async () => {
  await using postgres = await privatePostgres({ wal_level: "logical" });
  await using old = await freshBuffer(postgres.url);
  await using copy = await freshBuffer(postgres.url);
  const before = await guards(copy);
  await using writer = await openSession(old.url);
  for (const id of ["1", "2", "3"]) await writer.emit("A", id);
  await old.query("CREATE PUBLICATION p FOR ALL TABLES");
  // Before the subscription, which waits for ever for its own slot on the same server.
  await old.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
  await copy.query(PREPARE);
  // As in a copy of the schema alone.
  await copy.query("TRUNCATE spillway.event_buffer_migration");
  const { port, pathname } = new URL(old.url);
  await copy.query(
    `CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=${port} user=spillway dbname=${pathname.slice(1)}'
       PUBLICATION p WITH (create_slot = false, slot_name = 's')`,
  );
  for (const id of ["4", "5", "6"]) await writer.emit("A", id);
  await writer.query("UPDATE spillway.event_buffer SET recorded = now() WHERE id IN ('1', '2', '5')");
  await writer.query("DELETE FROM spillway.event_buffer WHERE id = '1'");
  await writer.query("UPDATE spillway.event_buffer SET set_aside = 'too-deep' WHERE id = '3'");
  const last = await rows(old);
  await until("the copy has the last change", async () => {
    const there = await rows(copy);
    return JSON.stringify(there) === JSON.stringify(last);
  });
  await expect(copy.query("SELECT spillway.emit('A', 't', id => 'early')")).rejects.toMatchObject({ code: "23502" });
  await copy.query("ALTER SUBSCRIPTION s DISABLE");
  await copy.query("ALTER SUBSCRIPTION s SET (slot_name = NONE)");
  await copy.query("DROP SUBSCRIPTION s");
  await copy.query(SWITCH);
  await copy.query("SELECT spillway.emit('A', 't', id => '7')");
  expect(await takable(copy)).toEqual(["4", "6", "7"]);
  expect(await guards(copy)).toEqual(before);
  await until("nobody uses the slot", () =>
    old.query("SELECT pg_drop_replication_slot('s')").then(
      () => true,
      () => false,
    ),
  );
});
