/** The setting of the roles that keep the log within its bounds. */
import { integer } from "#lib/config.ts";

export const retentionSettings = {
  SPILLWAY_LOG_BYTES_MAX: integer(
    "Bytes that the log may hold, as one copy: from half of it on saved records are deleted sooner, near it new events get 503. 0: no limit.",
    { default: 0, minimum: 0, maximum: 1e15 },
  ),
};
