/**
 * Promise: the event buffer comes into any database at once or not at all, takes no right but its own, and goes again without
 * taking an event or anybody else's object with it. Attack: installers at once, the store beside it, roles without rights, rows
 * that wait, a writer that is not done, a database that cannot hold it.
 */
import { expect, test } from "vitest";
import { migrate } from "#lib/postgres/migrate.ts";
import { FILES } from "../../../infra/buffer/script.ts";
import { freshBuffer, installInto, newRole, openSession } from "../../support/buffer.ts";
import { type Database, freshDatabase } from "../../support/postgres.ts";
import { startApp } from "../../support/process.ts";
import { openPool } from "../../support/store.ts";
import { until } from "../../support/until.ts";

async function run(url: string, ...args: string[]): Promise<{ code: number | null; said: string }> {
  const app = await startApp("infra/buffer/main.ts", { DATABASE_URL: url }, args);
  return { code: await app.exit(), said: app.lines.join("\n") };
}

/** Everything in the schema, with its definition and rights. */
const objects = (database: Database) =>
  database.query<{ what: string }>(`
    SELECT 'function ' || pg_get_functiondef(oid) || coalesce(proacl::text, '') AS what FROM pg_proc WHERE pronamespace = to_regnamespace('spillway')
    UNION ALL SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
      FROM information_schema.columns WHERE table_schema = 'spillway'
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'spillway'
    UNION ALL SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'class ' || relname || relkind::text || coalesce(reloptions::text, '') FROM pg_class WHERE relnamespace = to_regnamespace('spillway')
    ORDER BY 1`);

const installerWaits = (database: Database): Promise<true> =>
  until("it waits for the writer", async () => {
    const waiting = await database.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'spillway-install'
         AND cardinality(pg_blocking_pids(pid)) > 0`,
    );
    return waiting.length > 0;
  });

test("installers that come at once install it once, and what is printed installs the same", async () => {
  await using database = await freshDatabase();
  await using printed = await freshDatabase();
  const applied = await Promise.all([1, 2, 3, 4].map(() => installInto(database.url)));
  expect(applied.filter((files) => files.length > 0)).toEqual([[...FILES]]);
  const { code, said } = await run("", "install", "--print");
  expect(code).toBe(0);
  await printed.query(said);
  expect(await objects(printed)).toEqual(await objects(database));
  expect((await objects(database)).length).toBeGreaterThan(30);
  expect(await run(printed.url, "install")).toMatchObject({
    code: 0,
    said: expect.stringMatching(/was there and up to date/),
  });
});

test("a database whose transactions see an old snapshot is installed into by several at once, and loses no row with it", async () => {
  await using database = await freshDatabase();
  const name = new URL(database.url).pathname.slice(1);
  await database.query(`ALTER DATABASE ${name} SET default_transaction_isolation = 'repeatable read'`);
  const applied = await Promise.all([1, 2, 3, 4].map(() => installInto(database.url)));
  expect(applied.filter((files) => files.length > 0)).toEqual([[...FILES]]);
  await using writer = await openSession(database.url);
  await writer.query("BEGIN");
  await writer.emit("A", "1");
  const going = run(database.url, "uninstall");
  await installerWaits(database);
  await writer.query("COMMIT");
  expect(await going).toMatchObject({ code: 1, said: expect.stringMatching(/1 waiting and 0 set-aside/) });
});

test("a relay's role is shown the status, with all that it tells", async () => {
  await using database = await freshBuffer();
  const role = await newRole(database);
  await installInto(database.url, { relay: [role.name], writers: [] });
  await database.query("SELECT spillway.emit('A', 't')");
  expect(await run(role.url, "status")).toMatchObject({
    code: 0,
    said: expect.stringMatching(/: 1 waiting.*\n {2}client "A": 1 waiting/),
  });
});

test("a database's owner needs no superuser to install it, beside a store or without", async () => {
  await using database = await freshDatabase();
  const owner = await newRole(database);
  const name = new URL(database.url).pathname.slice(1);
  await database.query(`ALTER DATABASE ${name} OWNER TO ${owner.quoted}`);
  const pool = openPool(owner.url);
  await migrate(pool);
  await pool.close();
  const before = await objects(database);
  const { code, said } = await run(owner.url, "install");
  expect(said).toContain("the event buffer is there now");
  expect(code).toBe(0);
  expect(await run(owner.url, "uninstall")).toMatchObject({ code: 0, said: expect.stringMatching(/is gone\.$/) });
  expect(await objects(database)).toEqual(before);
  expect(await run(owner.url, "uninstall")).toMatchObject({
    code: 0,
    said: expect.stringMatching(/there is no event buffer/),
  });
  await database.query(`REASSIGN OWNED BY ${owner.quoted} TO CURRENT_USER`);
});

test("it is not taken away while rows wait, were set aside, or are being written", async () => {
  await using database = await freshBuffer();
  await using writer = await openSession(database.url);
  await writer.query("BEGIN");
  await writer.emit("A", "1");
  const going = run(database.url, "uninstall");
  await installerWaits(database);
  await writer.query("COMMIT");
  expect(await going).toMatchObject({
    code: 1,
    said: expect.stringMatching(/1 waiting and 0 set-aside rows would be lost/),
  });
  expect((await run(database.url, "status")).said).toMatch(
    /: 1 waiting, the oldest for 00:.*\n {2}client "A": 1 waiting/,
  );
  await database.query("UPDATE spillway.event_buffer SET set_aside = 'invalid-event', set_aside_why = 'no'");
  expect(await run(database.url, "uninstall")).toMatchObject({
    code: 1,
    said: expect.stringMatching(/0 waiting and 1 set-aside rows would be lost/),
  });
  await database.query("CREATE VIEW mine AS SELECT * FROM spillway.event_buffer");
  await database.query("DELETE FROM spillway.event_buffer WHERE set_aside IS NOT NULL");
  expect(await run(database.url, "uninstall")).toMatchObject({
    code: 1,
    said: expect.stringMatching(/Drop that first/),
  });
  await database.query("DROP VIEW mine");
  expect(await run(database.url, "uninstall")).toMatchObject({ code: 0 });
  expect(await database.query("SELECT to_regnamespace('spillway') AS there")).toEqual([{ there: null }]);
});

test("a database that cannot hold it, a role that is not there and a missing address are told with the remedy", async () => {
  await using database = await freshDatabase();
  const other = new URL(database.url);
  other.pathname += "_ascii";
  await database.query(`CREATE DATABASE ${other.pathname.slice(1)} ENCODING 'SQL_ASCII' TEMPLATE template0`);
  const ascii = await run(other.href, "install");
  await database.query(`DROP DATABASE ${other.pathname.slice(1)}`);
  expect(ascii).toMatchObject({
    code: 1,
    said: expect.stringMatching(/encoding is SQL_ASCII.*needs one made with ENCODING 'UTF8'/),
  });
  const stranger = await run(database.url, "install", "--relay-role", "nobody here");
  expect(stranger).toMatchObject({ code: 1, said: expect.stringMatching(/"nobody here" does not exist.*CREATE ROLE/) });
  expect(await database.query("SELECT to_regnamespace('spillway') AS there")).toEqual([{ there: null }]);
  const guest = await newRole(database);
  expect(await run(guest.url, "install")).toMatchObject({
    code: 1,
    said: expect.stringMatching(/permission denied.*owner/),
  });
  expect(await run("", "install")).toMatchObject({ code: 1, said: expect.stringMatching(/Set DATABASE_URL/) });
  expect(await run(database.url, "status", "--print")).toMatchObject({
    code: 1,
    said: expect.stringMatching(/are for install/),
  });
  expect(await run(database.url, "status")).toMatchObject({
    code: 0,
    said: expect.stringMatching(/no event buffer; npm run relay/),
  });
});
