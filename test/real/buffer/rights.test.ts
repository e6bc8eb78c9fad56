/**
 * Promise: a writer's role can emit and nothing else, a relay's role can read, stamp and remove what is recorded and nothing else,
 * and nobody changes an event or deletes one that waits. Attack: each tries everything else, with functions and operators of its own
 * in its search path.
 */
import { expect, test } from "vitest";
import { freshBuffer, installInto, newRole, openSession, takable } from "../../support/buffer.ts";

const DENIED = { code: "42501" };

test("a writer's role emits, and can neither read nor insert nor draw a position", async () => {
  await using database = await freshBuffer();
  const { name, url } = await newRole(database);
  await installInto(database.url, { relay: [], writers: [name] });
  await using writer = await openSession(url);
  expect(await writer.emit("A", "1")).toBe("1");
  expect(await writer.query(`SELECT spillway.emit_many('[{"clientId":"A","type":"t","id":"2"}]') AS ids`)).toEqual([
    { ids: ["2"] },
  ]);
  for (const sql of [
    "SELECT * FROM spillway.event_buffer",
    "INSERT INTO spillway.event_buffer (client_id, type) VALUES ('A', 't')",
    "COPY spillway.event_buffer (client_id, type) FROM STDIN",
    "UPDATE spillway.event_buffer SET recorded = now()",
    "DELETE FROM spillway.event_buffer",
    "TRUNCATE spillway.event_buffer",
    "SELECT nextval('spillway.event_buffer_position')",
    "SELECT setval('spillway.event_buffer_position', 1)",
    "SELECT * FROM spillway.backlog",
    "SELECT * FROM spillway.blocking()",
    "CREATE TABLE spillway.mine (n int)",
  ])
    await expect(writer.query(sql), sql).rejects.toMatchObject(DENIED);
  expect(await takable(database)).toEqual(["1", "2"]);
});

test("a relay's role reads, stamps, sets aside and removes what is recorded, and emits and changes nothing", async () => {
  await using database = await freshBuffer();
  const { name, url } = await newRole(database);
  await installInto(database.url, { relay: [name], writers: [] });
  await using owner = await openSession(database.url);
  for (const id of ["1", "2", "3"]) await owner.emit("A", id);
  await using relay = await openSession(url);
  await relay.query("UPDATE spillway.event_buffer SET recorded = now() WHERE id = '1'");
  await relay.query(
    "UPDATE spillway.event_buffer SET set_aside = 'too-deep', set_aside_why = 'because' WHERE id = '2'",
  );
  await expect(relay.query("DELETE FROM spillway.event_buffer")).rejects.toMatchObject({ code: "SW011" });
  await relay.query("DELETE FROM spillway.event_buffer WHERE recorded IS NOT NULL");
  expect(await relay.query("SELECT client_id, waiting, set_aside FROM spillway.backlog")).toEqual([
    { client_id: "A", waiting: "1", set_aside: "1" },
  ]);
  expect(await relay.query("SELECT waiting FROM spillway.backlog_total")).toEqual([{ waiting: "1" }]);
  expect(await relay.query("SELECT * FROM spillway.blocking()")).toEqual([]);
  await relay.query("INSERT INTO spillway.event_buffer_relay (holder, until) VALUES ('x', now())");
  await relay.query("UPDATE spillway.event_buffer_relay SET holder = 'y'");
  for (const sql of [
    "SELECT spillway.emit('A', 't')",
    "SELECT spillway.emit_many('[]')",
    "UPDATE spillway.event_buffer SET data = '1'",
    "TRUNCATE spillway.event_buffer",
    "INSERT INTO spillway.event_buffer (client_id, type) VALUES ('A', 't')",
  ])
    await expect(relay.query(sql), sql).rejects.toMatchObject(DENIED);
});

test("nobody changes what a row says, or takes one away that waits", async () => {
  await using database = await freshBuffer();
  await using owner = await openSession(database.url);
  for (const id of ["1", "2"]) await owner.emit("A", id);
  await owner.query("UPDATE spillway.event_buffer SET recorded = now() WHERE id = '1'");
  for (const change of [
    "data = '1'",
    "client_id = 'B'",
    "position = 9",
    "id = 'x'",
    "type = 'x'",
    "occurred_at = now()",
  ])
    await expect(owner.query(`UPDATE spillway.event_buffer SET ${change}`), change).rejects.toMatchObject({
      code: "SW010",
      message: expect.stringMatching(
        /^row-is-fixed: row [12] of client "A" may be published already: emit another event/,
      ) as string,
    });
  const waits = { code: "SW011", message: expect.stringMatching(/^row-waits: .*wait/) };
  await expect(owner.query("DELETE FROM spillway.event_buffer WHERE id = '2'")).rejects.toMatchObject(waits);
  await expect(owner.query("TRUNCATE spillway.event_buffer")).rejects.toMatchObject(waits);
  await owner.query("SET session_replication_role = replica");
  await expect(owner.query("DELETE FROM spillway.event_buffer WHERE id = '2'")).rejects.toMatchObject(waits);
  await owner.query("UPDATE spillway.event_buffer SET set_aside = 'discarded' WHERE id = '2'");
  await owner.query("TRUNCATE spillway.event_buffer");
  expect(await takable(database)).toEqual([]);
});

test("a transaction that does not see which rows wait by now truncates none of them", async () => {
  await using database = await freshBuffer();
  await using old = await openSession(database.url);
  await using writer = await openSession(database.url);
  for (const level of ["REPEATABLE READ", "SERIALIZABLE"]) {
    // Its snapshot is older than the row, and the lock on the table is free.
    await old.query(`BEGIN ISOLATION LEVEL ${level}; SELECT pg_current_snapshot()`);
    await writer.emit("A", level);
    await expect(old.query("TRUNCATE spillway.event_buffer"), level).rejects.toMatchObject({
      code: "SW011",
      message: expect.stringMatching(/does not see which rows wait by now: truncate .* read committed$/) as string,
    });
    await old.query("ROLLBACK");
  }
  expect(await takable(database)).toEqual(["REPEATABLE READ", "SERIALIZABLE"]);
});

test("a writer's own functions and operators are not called with the owner's rights", async () => {
  await using database = await freshBuffer();
  const { name, quoted, url } = await newRole(database);
  await installInto(database.url, { relay: [], writers: [name] });
  await database.query(`CREATE SCHEMA evil AUTHORIZATION ${quoted}`);
  await using writer = await openSession(url);
  await writer.query("CREATE TABLE evil.seen (who text)");
  await writer.query(
    `CREATE FUNCTION evil.catch(anyelement) RETURNS int LANGUAGE plpgsql AS
       $$ BEGIN INSERT INTO evil.seen VALUES (current_user); RETURN 1; END $$;
     CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT evil.catch($1)';
     CREATE FUNCTION evil.hashtext(text) RETURNS int LANGUAGE sql AS 'SELECT evil.catch($1)';
     CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT evil.catch(1); SELECT pg_catalog.now()';
     CREATE FUNCTION evil.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT evil.catch($1)::bigint';
     CREATE FUNCTION evil.refuse(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT evil.catch($1) = 2';
     CREATE OPERATOR evil.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.refuse);
     CREATE TEMP TABLE event_buffer (n int);
     SET search_path = evil, pg_temp, pg_catalog`,
  );
  await writer.emit("A", "1");
  await writer.query(`SELECT spillway.emit_many('[{"clientId":"A","type":"t","id":"2","data":{"n":1}}]')`);
  expect(await writer.query("SELECT * FROM evil.seen")).toEqual([]);
  expect(await takable(database)).toEqual(["1", "2"]);
  await database.query(`DROP SCHEMA evil CASCADE`);
});
