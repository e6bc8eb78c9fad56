/** The sink's settings. */
import { databaseSettings, httpSettings, integer, logSettings, port, processSettings } from "#lib/config.ts";

export const sinkSettings = {
  ...processSettings,
  ...logSettings,
  ...databaseSettings,
  ...httpSettings,
  PORT: port(3003),
  SPILLWAY_SESSION_TIMEOUT_MS: integer("A sink that the group has not heard of for so long loses its partitions.", {
    default: 45_000,
    minimum: 6_000,
    maximum: 300_000,
  }),
  SPILLWAY_SINK_WAITING_BYTES: integer("Records fetched and not yet saved, in one sink; beyond it fetching pauses.", {
    default: 16 * 1024 * 1024,
    minimum: 1024 * 1024,
    maximum: 1024 * 1024 * 1024,
  }),
};
