/** The settings of ingest and query together. */
import { port } from "#lib/config.ts";
import { ingestSettings } from "../ingest/config.ts";
import { querySettings } from "../query/config.ts";

export const webSettings = {
  ...ingestSettings,
  ...querySettings,
  PORT: port(3000),
};
