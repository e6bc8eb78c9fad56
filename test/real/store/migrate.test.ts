/** The store's schema and its owner, made by every role at once. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { createMetrics } from "#lib/metrics.ts";
import { ensureIdentity, StoreBelongsElsewhere, verifyIdentity } from "#lib/postgres/identity.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Store } from "../../../apps/query/store.ts";
import { freshDatabase, queryOnce } from "../../support/postgres.ts";
import { keptLog } from "../../support/records.ts";
import { openPool } from "../../support/store.ts";

const FOLDER = new URL("../../../schemas/store/", import.meta.url);
const FILES = readdirSync(FOLDER).sort();

test("roles that come at once bring the store up to date once", async () => {
  await using database = await freshDatabase();
  const pools = Array.from({ length: 6 }, () => openPool(database.url));
  const applied = await Promise.all(pools.map((pool) => migrate(pool)));
  expect(applied.filter((files) => files.length > 0)).toEqual([FILES]);
  expect(await database.query("SELECT name FROM spillway.migration ORDER BY name")).toEqual(
    FILES.map((name) => ({ name })),
  );
  expect(await Promise.all(pools.map((pool) => migrate(pool)))).toEqual(pools.map(() => []));
  await Promise.all(pools.map((pool) => pool.close()));
});

test("a store of the first version is brought up to date with what it holds", async () => {
  await using database = await freshDatabase();
  await database.query("CREATE SCHEMA spillway");
  await database.query(readFileSync(new URL("0001_store.sql", FOLDER), "utf8"));
  await database.query(
    "CREATE TABLE spillway.migration (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
  );
  await database.query("INSERT INTO spillway.migration VALUES ('0001_store.sql')");
  await database.query("INSERT INTO spillway.dead_letter VALUES (1, 2, 3, 'undecodable', 'no', 'k', 'v', now())");
  const pool = openPool(database.url);
  expect(await migrate(pool)).toEqual(FILES.slice(1));
  await pool.close();
  expect(await database.query("SELECT reason, redriven_at FROM spillway.dead_letter")).toEqual([
    { reason: "undecodable", redriven_at: null },
  ]);
});

test("a store that is up to date needs no right to create anything", async () => {
  await using database = await freshDatabase();
  const owner = openPool(database.url);
  await migrate(owner);
  await owner.close();
  const role = `reader_${new URL(database.url).pathname.slice(1)}`;
  await database.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
  await database.query(`GRANT USAGE ON SCHEMA spillway TO ${role}`);
  await database.query(`GRANT SELECT ON ALL TABLES IN SCHEMA spillway TO ${role}`);
  const url = new URL(database.url);
  url.username = role;
  url.password = "secret";
  const reader = openPool(url.href);
  // A newer build's file beside ours: it is theirs to know.
  await database.query("INSERT INTO spillway.migration (name) VALUES ('9999_newer.sql')");
  expect(await migrate(reader)).toEqual([]);
  await reader.close();
  await queryOnce(database.url, `DROP OWNED BY ${role}`);
  await queryOnce(database.url, `DROP ROLE ${role}`);
});

test("who may not make the schema, or not use it, is told what right is missing, and reckons its connections once", async () => {
  await using database = await freshDatabase();
  const role = `stranger_${new URL(database.url).pathname.slice(1)}`;
  await database.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret'`);
  const url = new URL(database.url);
  [url.username, url.password] = [role, "secret"];
  const stranger = openPool(url.href);
  await expect(migrate(stranger)).rejects.toThrow(/^permission denied for database .*: .* GRANT CREATE ON DATABASE/);
  const owner = openPool(database.url);
  await migrate(owner);
  await expect(migrate(stranger)).rejects.toThrow(/^permission denied for schema spillway: it is another user's/);
  const log = keptLog();
  const parts = { url: url.href, connectionsMax: 2, budget: 0, log, clock: systemClock, metrics: createMetrics() };
  const store = new Store(parts);
  for (let nth = 0; nth < 3; nth++)
    await expect(
      store.open({ epoch: 1, topic: "a", partitions: 1 }, [], { proveSaved: () => Promise.resolve() } as never),
    ).rejects.toThrow(/it is another user's/);
  expect(log.lines.filter(({ message }) => message === "connections reckoned")).toHaveLength(1);
  await Promise.all([store.close(), stranger.close(), owner.close()]);
  await queryOnce(database.url, `DROP ROLE ${role}`);
});

test("a database keeps the identity of its log, by epoch, and refuses another", async () => {
  await using database = await freshDatabase();
  const pool = openPool(database.url, 4);
  await migrate(pool);
  const first = { epoch: 1, topic: "a", partitions: 12 };
  const second = { epoch: 2, topic: "b", partitions: 24 };
  await Promise.all([1, 2, 3, 4].map(() => ensureIdentity(pool, [first])));
  await ensureIdentity(pool, [first, second]);
  await verifyIdentity(pool, [first]);
  for (const other of [
    [{ ...first, topic: "x" }],
    [{ ...first, partitions: 13 }],
    [first, { ...second, topic: "a" }],
  ]) {
    await expect(ensureIdentity(pool, other)).rejects.toThrow(StoreBelongsElsewhere);
    await expect(verifyIdentity(pool, other)).rejects.toThrow(/Point DATABASE_URL or SPILLWAY_TOPIC/);
  }
  expect(await database.query("SELECT topic, partitions FROM spillway.log_identity ORDER BY log_epoch")).toEqual([
    { topic: "a", partitions: 12 },
    { topic: "b", partitions: 24 },
  ]);
  await pool.close();
});
