/** The query role's settings. */
import { databaseSettings, httpSettings, integer, logSettings, port, processSettings } from "#lib/config.ts";

export const querySettings = {
  ...processSettings,
  ...logSettings,
  ...databaseSettings,
  ...httpSettings,
  PORT: port(3002),
  SPILLWAY_TAIL_BYTES: integer("Memory for unsaved events on one query node; beyond it the node is behind.", {
    default: 256 * 1024 * 1024,
    minimum: 1024 * 1024,
    maximum: 64 * 1024 * 1024 * 1024,
  }),
  SPILLWAY_QUERY_CONNECTIONS_MAX: integer(
    "Database connections of one query node; one is for look-ups, the others are for pages.",
    {
      default: 4,
      // Of a single one, nobody could tell whether a statement waits for the database or for another statement.
      minimum: 2,
      maximum: 100,
    },
  ),
  SPILLWAY_READS_MAX: integer("Page reads that one query node works on at once; more get 503.", {
    default: 2_000,
    minimum: 1,
    maximum: 100_000,
  }),
  SPILLWAY_HEARTBEAT_MS: integer("Live followers get a cursor to resume from this often.", {
    default: 15_000,
    minimum: 100,
    maximum: 60_000,
  }),
};
