/** The real PgBouncer before a PostgreSQL of a test's own, where it is installed. */
import type pg from "pg";
import { findPgBouncer, nativePgBouncer, type PgBouncer, type PgBouncerOptions } from "../../infra/pgbouncer.ts";
import { newFolder } from "./folder.ts";
import { disposable } from "./kafka.ts";

/**
 * Whether tests can have it: `describe.skipIf(!hasPgBouncer())`. Says so where not.
 * @throws where CI runs: there it is to be installed
 */
export function hasPgBouncer(): boolean {
  if (findPgBouncer() !== undefined) return true;
  const told = "PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer), so nothing behind it";
  if (process.env["CI"]) throw new Error(`${told} can be tested`);
  console.log(`SKIPPED: ${told} was tested`);
  return false;
}

/** Running: `await using pooler = await startPgBouncer({ upstream: postgres.url, poolSize: 5 })`, or call `remove` in `afterAll`. */
export async function startPgBouncer(options: Omit<PgBouncerOptions, "dataDir">): Promise<PgBouncer & AsyncDisposable> {
  const pooler = await nativePgBouncer({ dataDir: newFolder("pgbouncer"), ...options });
  await pooler.start();
  return disposable(pooler);
}

/**
 * What the clients before this one have left on the server connection that it has in its transaction: none of it is theirs any
 * more. But five settings, which PgBouncer itself sets for each client.
 */
export async function leftBehind(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ what: string }>(`
    SELECT 'setting ' || name || ' = ' || setting AS what FROM pg_settings
     WHERE source = 'session'
       AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')
    UNION ALL SELECT 'temporary ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
    UNION ALL SELECT 'channel ' || channel FROM pg_listening_channels() AS channel
    UNION ALL SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    UNION ALL SELECT 'statement ' || name FROM pg_prepared_statements
    UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE is_holdable`);
  return rows.map(({ what }) => what);
}
