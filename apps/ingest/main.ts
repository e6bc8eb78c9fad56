/** Ingest by itself: HTTP in, acknowledged records out. */
import { systemClock as clock } from "#lib/clock.ts";
import { printable, readKeys, readSettings } from "#lib/config.ts";
import { Contact } from "#lib/contact.ts";
import { createServer, listenTask } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { main, runAll } from "#lib/run.ts";
import { ingestSettings } from "./config.ts";
import { Ingest } from "./ingest.ts";
import { registerIngest } from "./server.ts";

await main("ingest", async (signal, log) => {
  const settings = readSettings(ingestSettings);
  log.info("settings read", printable(settings));
  const metrics = createMetrics("ingest");
  const contact = new Contact({ brokers: settings.KAFKA_BROKERS, log, clock });
  const ingest = new Ingest(settings, { log, clock, contact, metrics });
  const server = await createServer({
    log,
    metrics,
    clock,
    access: readKeys(settings),
    open: settings.SPILLWAY_OPEN,
    connectionsMax: settings.SPILLWAY_CONNECTIONS_MAX,
    bodiesBytesMax: settings.SPILLWAY_IN_FLIGHT_BYTES,
    ready: () => ingest.ready(),
    title: "Spillway ingest",
  });
  registerIngest(server, ingest, clock, metrics);
  await runAll([ingest, listenTask(server, { host: settings.HOST, port: settings.PORT })], signal, log);
});
