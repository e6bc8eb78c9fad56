/** The SQL that installs the event buffer: what is printed is what is run. */
import { readdirSync, readFileSync } from "node:fs";

const FOLDER = new URL("../../schemas/buffer/", import.meta.url);

export interface Roles {
  /** May read the buffer, stamp its rows and remove recorded ones. */
  readonly relay: readonly string[];
  /** May call `emit` and `emit_many`, and nothing else. */
  readonly writers: readonly string[];
}

/** The numbered files, in order. */
export const FILES: readonly string[] = readdirSync(FOLDER)
  .filter((name) => /^\d{4}_.*\.sql$/.test(name))
  .sort();

const textOf = (name: string): string => readFileSync(new URL(name, FOLDER), "utf8");

/** Takes everything away again. */
export const uninstallSql = (): string => textOf("uninstall.sql");

/** For one transaction. @param files those that the database lacks */
export function installSql(files: readonly string[], roles: Roles): string {
  return [...(files.length === 0 ? [] : [HEAD, ...files.map(applied)]), ...grants(roles)].join("\n");
}

/** Asked before it is made: the right to make a schema is needed only where there is none. */
const HEAD = `DO $$ BEGIN
  IF to_regnamespace('spillway') IS NULL THEN
    CREATE SCHEMA spillway;
  END IF;
END $$;
CREATE TABLE IF NOT EXISTS spillway.event_buffer_migration (
  name text PRIMARY KEY,
  applied_at timestamptz NOT NULL DEFAULT now()
);
`;

const applied = (name: string): string =>
  `${textOf(name)}INSERT INTO spillway.event_buffer_migration (name) VALUES ('${name}');\n`;

function grants({ relay, writers }: Roles): string[] {
  const relayMay = [
    "SELECT, DELETE, UPDATE (recorded, set_aside, set_aside_why) ON spillway.event_buffer",
    "SELECT, INSERT, UPDATE ON spillway.event_buffer_relay",
    "SELECT ON spillway.backlog, spillway.backlog_total, spillway.event_buffer_migration",
    "EXECUTE ON FUNCTION spillway.blocking()",
  ];
  const writersMay = [
    "EXECUTE ON FUNCTION spillway.emit(text, text, jsonb, text, timestamptz), spillway.emit_many(jsonb)",
  ];
  return [
    ...relay.flatMap((role) => grantsTo(role, relayMay)),
    ...writers.flatMap((role) => grantsTo(role, writersMay)),
  ];
}

const grantsTo = (role: string, rights: readonly string[]): string[] =>
  ["USAGE ON SCHEMA spillway", ...rights].map((right) => `GRANT ${right} TO ${identifier(role)};`);

const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;
