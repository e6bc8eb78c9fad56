/** Ingest by itself: HTTP in, acknowledged records out. */
import { runRole } from "#lib/role.ts";
import { keepYoungSmall } from "#lib/run.ts";
import { ingestSettings } from "./config.ts";
import { Ingest } from "./ingest.ts";
import { registerIngest } from "./server.ts";

keepYoungSmall();

await runRole({
  name: "ingest",
  title: "Spillway ingest",
  metricsOf: ["ingest"],
  settings: ingestSettings,
  make: (settings, surroundings) => {
    const ingest = new Ingest(settings, surroundings);
    return {
      tasks: [ingest],
      ready: () => ingest.ready(),
      bodiesBytesMax: settings.SPILLWAY_IN_FLIGHT_BYTES,
      register: (server) => registerIngest(server, ingest, surroundings.clock, surroundings.metrics),
    };
  },
});
