/** Applies schemas/store/*.sql in order, once each, safely from every role at once and behind a transaction pooler. */
import { readdirSync, readFileSync } from "node:fs";
import type { Pool, TransactionLimits } from "#lib/postgres/pool.ts";
import { withDatabaseRemedy } from "#lib/remedies.ts";

const FOLDER = new URL("../../schemas/store/", import.meta.url);
/** Whoever makes something in the schema holds this one. Any constant will do that nobody else uses; "spil" in ASCII. */
export const LOCK = 0x7370696c;
const NO_RIGHT = "42501";
const LIMITS: TransactionLimits = { lockTimeoutMs: 60_000, statementTimeoutMs: 120_000, idleTimeoutMs: 60_000 };

/** Brings the store up to date and returns the names of the files applied now. @throws what the database gives */
export async function migrate(pool: Pool): Promise<string[]> {
  try {
    return await bringUpToDate(pool);
  } catch (error) {
    if (error instanceof Error && (error as { code?: unknown }).code === NO_RIGHT)
      error.message = withDatabaseRemedy(error.message);
    throw error;
  }
}

async function bringUpToDate(pool: Pool): Promise<string[]> {
  const files = readdirSync(FOLDER)
    .filter((name) => name.endsWith(".sql"))
    .sort();
  // The common case only asks, and needs no right to create anything. A newer build may have applied more.
  const done = await applied(pool);
  if (files.every((name) => done.includes(name))) return [];
  return pool.transaction(LIMITS, async (transaction) => {
    await transaction.query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
    await transaction.query("CREATE SCHEMA IF NOT EXISTS spillway");
    await transaction.query(
      "CREATE TABLE IF NOT EXISTS spillway.migration (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
    );
    const rows = await transaction.query<{ name: string }>("SELECT name FROM spillway.migration");
    const missing = files.filter((name) => !rows.some((row) => row.name === name));
    for (const name of missing) {
      await transaction.query(readFileSync(new URL(name, FOLDER), "utf8"));
      await transaction.query("INSERT INTO spillway.migration (name) VALUES ($1)", [name]);
    }
    return missing;
  });
}

async function applied(pool: Pool): Promise<string[]> {
  const [row] = await pool.query<{ there: boolean }>(
    "SELECT to_regclass('spillway.migration') IS NOT NULL AS there",
    [],
    LIMITS.statementTimeoutMs,
  );
  if (row?.there !== true) return [];
  const rows = await pool.query<{ name: string }>("SELECT name FROM spillway.migration", [], LIMITS.statementTimeoutMs);
  return rows.map(({ name }) => name);
}
