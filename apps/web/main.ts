/** Ingest, query and the console page as one process on one port. */
import { systemClock as clock } from "#lib/clock.ts";
import { printable, readKeys, readSettings } from "#lib/config.ts";
import { Contact } from "#lib/contact.ts";
import { createServer, listenTask } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { main, runAll } from "#lib/run.ts";
import { Ingest } from "../ingest/ingest.ts";
import { registerIngest } from "../ingest/server.ts";
import { Query } from "../query/query.ts";
import { registerQuery } from "../query/server.ts";
import { webSettings } from "./config.ts";
import { registerConsole } from "./console.ts";
import { bothReady } from "./ready.ts";

await main("web", async (signal, log) => {
  const settings = readSettings(webSettings);
  log.info("settings read", printable(settings));
  const metrics = createMetrics("ingest", "query");
  const contact = new Contact({ brokers: settings.KAFKA_BROKERS, log, clock });
  const ingest = new Ingest(settings, { log, clock, contact, metrics });
  const query = new Query(settings, { log, clock, contact, metrics });
  const server = await createServer({
    log,
    metrics,
    clock,
    access: readKeys(settings),
    open: settings.SPILLWAY_OPEN,
    connectionsMax: settings.SPILLWAY_CONNECTIONS_MAX,
    bodiesBytesMax: settings.SPILLWAY_IN_FLIGHT_BYTES,
    ready: () => bothReady({ ingest: ingest.ready(), query: query.ready() }),
    title: "Spillway",
  });
  registerIngest(server, ingest, clock, metrics);
  await registerQuery(server, { query, log, clock, metrics });
  registerConsole(server);
  const listen = listenTask(server, { host: settings.HOST, port: settings.PORT });
  await runAll([ingest, query, listen], signal, log);
});
