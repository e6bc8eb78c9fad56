/** The sink's settings. */
import { httpSettings, integer, port, processSettings } from "#lib/config.ts";
import { databaseSettings } from "#lib/database-settings.ts";
import { logSettings } from "#lib/log-settings.ts";
import { retentionSettings } from "#lib/retention-settings.ts";
import { MARGIN_MS_MIN } from "./retention.ts";

export const sinkSettings = {
  ...processSettings,
  ...logSettings,
  ...retentionSettings,
  ...databaseSettings,
  ...httpSettings,
  PORT: port(3003),
  SPILLWAY_SESSION_TIMEOUT_MS: integer("A sink that the group has not heard of for so long loses its partitions.", {
    default: 45_000,
    minimum: 6_000,
    maximum: 300_000,
  }),
  SPILLWAY_LOG_MARGIN_MS: integer(
    "The log keeps a record for so long after it was saved; less, down to 10 minutes, while it fills up.",
    // Marks of the checkpoint are kept for three days.
    { default: 24 * 3_600_000, minimum: MARGIN_MS_MIN, maximum: 48 * 3_600_000 },
  ),
  SPILLWAY_SINK_WAITING_BYTES: integer("Records fetched and not yet saved, in one sink; beyond it fetching pauses.", {
    default: 16 * 1024 * 1024,
    minimum: 1024 * 1024,
    maximum: 1024 * 1024 * 1024,
  }),
};
