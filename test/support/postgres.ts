/** Real PostgreSQL for tests: one server that all tests of a run share, with a database for each; and private servers. */
import { randomUUID } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import type { PostgresServer } from "../../infra/server.ts";
import { providePostgres } from "../../infra/stack.ts";
import { newFolder } from "./folder.ts";
import { disposable } from "./kafka.ts";

/** For data that need not survive a power cut. */
const THROW_AWAY = { fsync: "off", full_page_writes: "off" } as const;

export interface Database extends AsyncDisposable {
  /** As DATABASE_URL wants it. */
  readonly url: string;
  /** Runs one statement on a connection of its own. */
  query<Row>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Ends all its sessions and drops it. */
  drop(): Promise<void>;
}

/**
 * A new empty database: `await using database = await freshDatabase()`, or call `drop` in `afterAll`.
 * @param serverUrl any database of the server it is made on; default the shared server's
 */
export async function freshDatabase(serverUrl: string = inject("databaseUrl")): Promise<Database> {
  const name = `test_${randomUUID().replaceAll("-", "").slice(0, 12)}`;
  await queryOnce(serverUrl, `CREATE DATABASE ${name}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const drop = async (): Promise<void> => {
    await queryOnce(serverUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  };
  return {
    url: url.href,
    query: (text, values) => queryOnce(url.href, text, values),
    drop,
    [Symbol.asyncDispose]: drop,
  };
}

/** A server of the test's own, running: `await using postgres = await privatePostgres()`, or call `remove` in `afterAll`. */
export async function privatePostgres(
  settings: Readonly<Record<string, string>> = {},
): Promise<PostgresServer & AsyncDisposable> {
  const postgres = await providePostgres({
    dataDir: newFolder("postgres"),
    say: () => undefined,
    settings: { ...THROW_AWAY, ...settings },
  });
  await postgres.start();
  return disposable(postgres);
}

/** Connects, runs one statement, disconnects. */
export async function queryOnce<Row>(url: string, text: string, values: readonly unknown[] = []): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  // A killed server fails the query, and then is reported once more as an event.
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(text, [...values])).rows as Row[];
  } finally {
    await client.end();
  }
}
