/** An application's database with the event buffer in it, and sessions that stay open: transactions of several writers at once. */
import { randomUUID } from "node:crypto";
import pg from "pg";
import { onTestFinished } from "vitest";
import { install } from "../../infra/buffer/install.ts";
import type { Roles } from "../../infra/buffer/script.ts";
import { type Database, freshDatabase, queryOnce } from "./postgres.ts";
import { openPool } from "./store.ts";
import { until } from "./until.ts";

const NO_ROLES: Roles = { relay: [], writers: [] };

/** A new database with the event buffer. @param serverUrl as `freshDatabase` takes it */
export async function freshBuffer(serverUrl?: string): Promise<Database> {
  const database = await freshDatabase(serverUrl);
  await installInto(database.url);
  return database;
}

export async function installInto(url: string, roles: Roles = NO_ROLES): Promise<readonly string[]> {
  const pool = openPool(url);
  try {
    return await install(pool, roles);
  } finally {
    await pool.close();
  }
}

export interface Session extends AsyncDisposable {
  readonly pid: number;
  /** Several statements in one text give nothing back. */
  query<Row>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** `spillway.emit`, without data. @returns the id */
  emit(clientId: string, id: string): Promise<string>;
  end(): Promise<void>;
}

/** A connection of its own: `await using writer = await openSession(database.url)`. */
export async function openSession(url: string, name = "spillway-test"): Promise<Session> {
  const client = new pg.Client({ connectionString: url, application_name: name });
  client.on("error", () => undefined);
  await client.connect();
  const query = async <Row>(text: string, values: readonly unknown[] = []): Promise<Row[]> =>
    (await client.query(text, [...values])).rows as Row[];
  const [own] = await query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  return {
    pid: own?.pid ?? 0,
    query,
    emit: async (clientId, id) => {
      const [row] = await query<{ id: string }>("SELECT spillway.emit($1, 't', id => $2) AS id", [clientId, id]);
      return row?.id ?? "";
    },
    end: () => client.end(),
    [Symbol.asyncDispose]: () => client.end(),
  };
}

/** Resolves once the session waits for a lock. */
export async function waits({ pid }: Session, database: Database): Promise<void> {
  await until(`process ${pid} waits for a lock`, async () => {
    const [row] = await database.query<{ n: number }>("SELECT cardinality(pg_blocking_pids($1)) AS n", [pid]);
    return (row?.n ?? 0) > 0;
  });
}

/** Ids of the rows that a relay would take now, in its order. */
export async function takable(database: Database): Promise<string[]> {
  const rows = await database.query<{ id: string }>(
    "SELECT id FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL ORDER BY position",
  );
  return rows.map(({ id }) => id);
}

export interface Role {
  /** With every character that has to be quoted. */
  readonly name: string;
  readonly quoted: string;
  /** The database as this role sees it. */
  readonly url: string;
}

/** A login role without rights, of the database's server; gone when the test ends, unless it still owns something. */
export async function newRole(database: Database): Promise<Role> {
  const name = `Role "${randomUUID().slice(0, 8)}"; --`;
  const quoted = `"${name.replaceAll('"', '""')}"`;
  await database.query(`CREATE ROLE ${quoted} LOGIN PASSWORD 'secret'`);
  const [url, server] = [new URL(database.url), new URL(database.url)];
  server.pathname = "/postgres";
  onTestFinished(async () => {
    await queryOnce(server.href, `DROP ROLE ${quoted}`).catch(() => undefined);
  });
  url.username = encodeURIComponent(name);
  url.password = "secret";
  return { name, quoted, url: url.href };
}
