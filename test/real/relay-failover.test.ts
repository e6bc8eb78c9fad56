/**
 * Promise: after a failover of the application's database the relay goes on by itself; what reached the replica is published once and
 * in order, and of what did not, at most what the relay had seen before. Attack: a real streaming replica behind a network that
 * stops, a relay led to it before it is promoted, rows whose stamp was lost, rows that were lost with and without being published.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { nativePostgres } from "../../infra/postgres-native.ts";
import { proxiedPostgres } from "../../infra/proxy.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { startSpillway } from "../promises/support/spillway.ts";
import { installInto, openSession } from "../support/buffer.ts";
import { newFolder } from "../support/folder.ts";
import { disposable } from "../support/kafka.ts";
import { type Database, privatePostgres, queryOnce } from "../support/postgres.ts";
import { until } from "../support/until.ts";

type App = Pick<Database, "query">;
const appOf = ({ url }: { readonly url: string }): App => ({ query: (text, values) => queryOnce(url, text, values) });

/** A copy of a server that follows it, over `way`. */
async function replicaOf(primary: PostgresServer, way: string): Promise<PostgresServer & AsyncDisposable> {
  const [place] = await appOf(primary).query<{ data_directory: string }>("SHOW data_directory");
  const dataDir = newFolder("replica");
  const { hostname, port, username } = new URL(way);
  const replica = disposable(
    await nativePostgres({
      dataDir,
      say: () => undefined,
      settings: {
        fsync: "off",
        primary_conninfo: `host=${hostname} port=${port} user=${username}`,
        wal_retrieve_retry_interval: "100ms",
      },
    }),
  );
  await primary.stop();
  // With their owner and rights, whoever runs this.
  execFileSync("cp", ["-a", place?.data_directory ?? "", join(dataDir, "data")]);
  writeFileSync(join(dataDir, "data", "standby.signal"), "");
  await primary.start();
  await replica.start();
  return replica;
}

/** Emits one event and books it, in one transaction. */
const move = (app: App, id: string): Promise<unknown> =>
  app.query(
    "WITH made AS (INSERT INTO book VALUES ($1) RETURNING id) SELECT spillway.emit('a', 't', id => id) FROM made",
    [id],
  );

const drained = (app: App): Promise<unknown> =>
  until("nothing waits", async () => {
    const [total] = await app.query<{ waiting: string }>("SELECT waiting FROM spillway.backlog_total");
    return total?.waiting === "0";
  });

/** Resolves once the replica has what the primary has. */
async function follows(primary: App, replica: App): Promise<void> {
  const [now] = await primary.query<{ lsn: string }>("SELECT pg_current_wal_lsn() AS lsn");
  await until("the replica has it too", async () => {
    const [at] = await replica.query<{ there: boolean }>("SELECT pg_last_wal_replay_lsn() >= $1 AS there", [now?.lsn]);
    return at?.there;
  });
}

test("what reached the replica is published once and in order, and what waits for the replica is not published before", async () => {
  await using old = await privatePostgres();
  await installInto(old.url);
  const primary = appOf(old);
  await primary.query("CREATE TABLE book (id text PRIMARY KEY)");
  await using link = (await proxiedPostgres(old.url)).proxy;
  await using replica = await replicaOf(old, `postgres://spillway@127.0.0.1:${link.port}/`);
  const standby = appOf(replica);
  const way = await proxiedPostgres(old.url);
  await using _ = way.proxy;
  await using spillway = await startSpillway({});
  const relay = await spillway.start("relay", { DATABASE_URL: way.url });
  const onLog = async (): Promise<string[]> =>
    (await (await spillway.log()).records()).flatMap(({ event }) => (event ? [event.id] : []));
  for (const id of ["1", "2"]) await move(primary, id);
  await drained(primary);

  // Synchronous replication: until the replica has it, a commit is seen by nobody.
  await primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'");
  await primary.query("SELECT pg_reload_conf()");
  await until("a commit waits for the replica", async () => {
    const [found] = await primary.query<{ sync_state: string }>("SELECT sync_state FROM pg_stat_replication");
    return found?.sync_state === "sync";
  });
  link.mode = "hold";
  await using writer = await openSession(old.url);
  const emitted = writer.emit("a", "replicated");
  await until("it waits", async () => {
    const sql = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'";
    return (await primary.query(sql, [writer.pid])).length > 0;
  });
  const rounds = async (): Promise<number> =>
    Number(/relay_rounds_total (\d+)/.exec(await (await fetch(`${relay.url}/metrics`)).text())?.[1]);
  const before = await rounds();
  await until("the relay looked", async () => (await rounds()) >= before + 3);
  expect(await onLog()).toEqual(["1", "2"]);
  link.mode = "pass";
  await emitted;
  await drained(primary);
  expect(await onLog()).toEqual(["1", "2", "replicated"]);
  await primary.query("ALTER SYSTEM RESET synchronous_standby_names");
  await primary.query("SELECT pg_reload_conf()");

  // Without it: a stamp that is lost, a row that is lost after it was published, and one that is lost before.
  await relay.kill();
  await move(primary, "stamp lost");
  await follows(primary, standby);
  link.mode = "hold";
  await relay.start();
  await move(primary, "published, then lost");
  await drained(primary);
  await relay.kill();
  await move(primary, "lost");
  await old.kill();
  way.proxy.target = { host: "127.0.0.1", port: Number(new URL(replica.url).port) };
  await relay.launch();
  await relay.app.line("this server takes no writes");
  await standby.query("SELECT pg_promote()");
  await relay.app.ready();
  await move(standby, "after");
  await drained(standby);
  const wanted = ["1", "2", "replicated", "stamp lost", "published, then lost", "after"];
  expect([...new Set(await onLog())]).toEqual(wanted);
  const books = await standby.query<{ id: string }>("SELECT id FROM book ORDER BY id");
  expect(books.map(({ id }) => id)).toEqual(["1", "2", "after", "stamp lost"]);
  expect(await relay.app.stop()).toBe(0);
});
