/** Installs the event buffer into a database, takes it away, tells how it is. */
import { LOCK } from "#lib/postgres/migrate.ts";
import { type Pool, RollBack, type Transaction, type TransactionLimits } from "#lib/postgres/pool.ts";
import { FILES, installSql, type Roles, uninstallSql } from "./script.ts";

/** A writer's long transaction holds the table; a person at a terminal sees this wait end. */
const LIMITS: TransactionLimits = { lockTimeoutMs: 30_000, statementTimeoutMs: 120_000, idleTimeoutMs: 60_000 };
const CLIENTS_SHOWN = 10;

interface Backlog {
  readonly waiting: string;
  readonly oldest: string | null;
  readonly aside: string;
}

interface ClientBacklog extends Backlog {
  readonly client: string;
}

export interface Blocker {
  readonly pid: number | null;
  readonly gid: string | null;
  readonly age: string | null;
  readonly state: string | null;
  readonly application: string | null;
  readonly waiting: string;
}

export interface Status {
  readonly missing: readonly string[];
  readonly total: Backlog;
  readonly clients: readonly ClientBacklog[];
  readonly blockers: readonly Blocker[];
}

/** The files that a database lacks. @throws Error where the buffer cannot be at all */
async function missingFiles(query: Transaction["query"]): Promise<string[]> {
  const [server] = await query<{ version: string; number: number; encoding: string; there: boolean }>(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
       current_setting('server_encoding') AS encoding, to_regclass('spillway.event_buffer_migration') IS NOT NULL AS there`,
  );
  if (server === undefined) throw new Error("The server told nothing of itself");
  if (server.number < 130_000)
    throw new Error(`This is PostgreSQL ${server.version}; the event buffer needs 13 or newer.`);
  if (server.encoding !== "UTF8")
    throw new Error(
      `The database's encoding is ${server.encoding}, and events are UTF-8: the event buffer needs one made with ENCODING 'UTF8'.`,
    );
  if (!server.there) return [...FILES];
  const rows = await query<{ name: string }>("SELECT name FROM spillway.event_buffer_migration");
  return FILES.filter((file) => !rows.some(({ name }) => name === file));
}

/** All or nothing; a second time it applies only what is new. @returns the files applied now */
export async function install(pool: Pool, roles: Roles): Promise<readonly string[]> {
  return pool.transaction(LIMITS, async ({ query }) => {
    await query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
    const files = await missingFiles(query);
    const sql = installSql(files, roles);
    if (sql !== "") await query(sql);
    return files;
  });
}

/** @returns false: it is not there @throws Error while rows wait or were set aside: nothing else holds those events */
export async function uninstall(pool: Pool): Promise<boolean> {
  return pool.transaction(LIMITS, async ({ query }) => {
    await query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
    const [found] = await query<{ there: boolean }>(
      "SELECT to_regclass('spillway.event_buffer_migration') IS NOT NULL AS there",
    );
    if (found?.there !== true) return false;
    // Waits for every transaction that has written and not yet ended: its rows would be missed by the count.
    await query("LOCK TABLE spillway.event_buffer IN ACCESS EXCLUSIVE MODE");
    const [total] = await query<{ waiting: string; aside: string }>(
      "SELECT waiting, set_aside AS aside FROM spillway.backlog_total",
    );
    if (total === undefined || total.waiting !== "0" || total.aside !== "0") throw new RollBack(refusal(total));
    await query(uninstallSql());
    return true;
  });
}

function refusal(total: { readonly waiting: string; readonly aside: string } | undefined): string {
  return (
    `${total?.waiting} waiting and ${total?.aside} set-aside rows would be lost with it. Let the relay finish; ` +
    "emit anew what was set aside, or delete it: DELETE FROM spillway.event_buffer WHERE set_aside IS NOT NULL"
  );
}

/** @returns null: the event buffer is not there */
export async function status(pool: Pool): Promise<Status | null> {
  return pool.transaction(LIMITS, async ({ query }) => {
    const missing = await missingFiles(query);
    if (missing.length === FILES.length) return null;
    const [total] = await query<{ waiting: string; oldest: string | null; aside: string }>(
      "SELECT waiting, date_trunc('second', oldest_age)::text AS oldest, set_aside AS aside FROM spillway.backlog_total",
    );
    const clients = await query<{ client: string; waiting: string; oldest: string | null; aside: string }>(
      `SELECT client_id AS client, waiting, date_trunc('second', clock_timestamp() - oldest_written_at)::text AS oldest,
         set_aside AS aside
       FROM spillway.backlog ORDER BY spillway.backlog.waiting DESC, spillway.backlog.set_aside DESC, 1 LIMIT $1`,
      [CLIENTS_SHOWN],
    );
    const blockers = await query<Blocker & Record<string, unknown>>(
      `SELECT pid, gid, date_trunc('second', age)::text AS age, state, application_name AS application, waiting
       FROM spillway.blocking()`,
    );
    return { missing, total: total ?? { waiting: "0", oldest: null, aside: "0" }, clients, blockers };
  });
}
