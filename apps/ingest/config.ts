/** Ingest's settings. */
import { httpSettings, integer, port, processSettings } from "#lib/config.ts";
import { logSettings } from "#lib/log-settings.ts";
import { retentionSettings } from "#lib/retention-settings.ts";

export const ingestSettings = {
  ...processSettings,
  ...logSettings,
  ...retentionSettings,
  ...httpSettings,
  PORT: port(3001),
  SPILLWAY_IN_FLIGHT_BYTES: integer(
    "Bodies being received, and events accepted and not yet acknowledged, in bytes each; beyond it requests get 503.",
    {
      default: 64 * 1024 * 1024,
      minimum: 8 * 1024 * 1024,
      maximum: 1024 * 1024 * 1024,
    },
  ),
  SPILLWAY_APPEND_TIMEOUT_MS: integer("A request that the log has not acknowledged by then gets 503.", {
    default: 4_500,
    minimum: 500,
    maximum: 25_000,
  }),
};
