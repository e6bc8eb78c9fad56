/** The application: a table of its own, and an event for every change of it. It knows PostgreSQL, and nothing of Spillway's servers. */
import { readFileSync } from "node:fs";
import type { Client } from "pg";

const sql = (name: string): string => readFileSync(new URL(name, import.meta.url), "utf8");
const TABLE = sql("table.sql");
const CHANGE = sql("change.sql");
const EVENT = sql("event.sql");
const BACKLOG = sql("backlog.sql");

/** Makes its table, if it is not there. */
export async function prepare(db: Client): Promise<void> {
  await db.query(TABLE);
}

/**
 * Moves an app to a group: the change and the event are one transaction. An error on the way ends this program, hence the connection,
 * hence the transaction.
 * @returns the event's id
 */
export async function move(db: Client, app: string, grp: string, end: "COMMIT" | "ROLLBACK"): Promise<string> {
  await db.query("BEGIN");
  await db.query(CHANGE, [app, grp]);
  const { rows } = await db.query<{ id: string }>(EVENT, [app, grp]);
  await db.query(end);
  return rows[0]?.id ?? "";
}

/** The group that an app is in, and how many of its events wait for the relay. */
export async function look(db: Client, app: string): Promise<{ readonly grp: string; readonly waiting: number }> {
  const { rows } = await db.query<{ grp: string; waiting: number }>(BACKLOG, [app]);
  if (rows[0] === undefined) throw new Error(`app_group has no row of ${app}`);
  return rows[0];
}
