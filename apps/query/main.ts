/** Query by itself: rows and tail in, pages and live frames out. */
import { systemClock as clock } from "#lib/clock.ts";
import { printable, readKeys, readSettings } from "#lib/config.ts";
import { Contact } from "#lib/contact.ts";
import { createServer, listenTask } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { main, runAll } from "#lib/run.ts";
import { querySettings } from "./config.ts";
import { Query } from "./query.ts";
import { registerQuery } from "./server.ts";

await main("query", async (signal, log) => {
  const settings = readSettings(querySettings);
  log.info("settings read", printable(settings));
  const metrics = createMetrics("query");
  const contact = new Contact({ brokers: settings.KAFKA_BROKERS, log, clock });
  const query = new Query(settings, { log, clock, contact, metrics });
  const server = await createServer({
    log,
    metrics,
    clock,
    access: readKeys(settings),
    open: settings.SPILLWAY_OPEN,
    connectionsMax: settings.SPILLWAY_CONNECTIONS_MAX,
    ready: () => query.ready(),
    title: "Spillway query",
  });
  await registerQuery(server, { query, log, clock, metrics });
  await runAll([query, listenTask(server, { host: settings.HOST, port: settings.PORT })], signal, log);
});
