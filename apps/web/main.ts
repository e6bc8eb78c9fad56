/** Ingest, query and the console page as one process on one port. */
import { runRole } from "#lib/role.ts";
import { Ingest } from "../ingest/ingest.ts";
import { registerIngest } from "../ingest/server.ts";
import { Query } from "../query/query.ts";
import { registerQuery } from "../query/server.ts";
import { webSettings } from "./config.ts";
import { registerConsole } from "./console.ts";
import { bothReady } from "./ready.ts";

await runRole({
  name: "web",
  title: "Spillway",
  settings: webSettings,
  metricsOf: ["ingest", "query"],
  make: (settings, surroundings) => {
    const { clock, metrics } = surroundings;
    const ingest = new Ingest(settings, surroundings);
    const query = new Query(settings, surroundings);
    return {
      tasks: [ingest, query],
      ready: () => bothReady({ ingest: ingest.ready(), query: query.ready() }),
      bodiesBytesMax: settings.SPILLWAY_IN_FLIGHT_BYTES,
      register: async (server) => {
        registerIngest(server, ingest, clock, metrics);
        await registerQuery(server, { query, ...surroundings });
        registerConsole(server);
      },
    };
  },
});
