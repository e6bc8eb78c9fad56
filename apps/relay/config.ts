/** The relay's settings. */
import { httpSettings, integer, port, processSettings } from "#lib/config.ts";
import { databaseSettings } from "#lib/database-settings.ts";
import { logSettings } from "#lib/log-settings.ts";
import { retentionSettings } from "#lib/retention-settings.ts";

export const relaySettings = {
  ...processSettings,
  ...logSettings,
  ...retentionSettings,
  /** The application's own. */
  ...databaseSettings,
  ...httpSettings,
  PORT: port(3004),
  SPILLWAY_BUFFER_KEEP_MS: integer("Rows stay in the event buffer for so long after they were published.", {
    default: 3_600_000,
    minimum: 0,
    maximum: 30 * 24 * 3_600_000,
  }),
};
