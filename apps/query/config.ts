/** The query role's settings. */
import { httpSettings, integer, optionalText, port, processSettings } from "#lib/config.ts";
import { databaseSettings } from "#lib/database-settings.ts";
import { logSettings } from "#lib/log-settings.ts";

export const querySettings = {
  ...processSettings,
  ...logSettings,
  ...databaseSettings,
  ...httpSettings,
  PORT: port(3002),
  SPILLWAY_TAIL_BYTES: integer("Memory for unsaved events on one query node; beyond it they go to disk.", {
    default: 32 * 1024 * 1024,
    minimum: 1024 * 1024,
    maximum: 64 * 1024 * 1024 * 1024,
  }),
  SPILLWAY_TAIL_DISK_BYTES: integer(
    "Disk for unsaved events on one query node, before compression; beyond it the node is behind. 0: none.",
    // Two bytes of memory an event: 100 MiB for 16 GiB of events of 300 bytes.
    { default: 16 * 1024 * 1024 * 1024, minimum: 0, maximum: 16 * 1024 * 1024 * 1024 * 1024 },
  ),
  SPILLWAY_TAIL_FOLDER: optionalText("Where they lie, each process in a folder of its own that goes with it.", {
    otherwise: "the system's folder for temporary files",
  }),
  SPILLWAY_QUERY_CONNECTIONS_MAX: integer(
    "Database connections of one query node, 2 to 100; one is for look-ups, the others are for pages.",
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
