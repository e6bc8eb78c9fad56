/** The relay by itself: an application's committed rows in, records out. */
import { systemClock as clock } from "#lib/clock.ts";
import { printable, readKeys, readSettings } from "#lib/config.ts";
import { Contact } from "#lib/contact.ts";
import { createServer, listenTask } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { main, runAll } from "#lib/run.ts";
import { relaySettings } from "./config.ts";
import { RelayRole } from "./role.ts";

await main("relay", async (signal, log) => {
  const settings = readSettings(relaySettings);
  log.info("settings read", printable(settings));
  const metrics = createMetrics("relay");
  const contact = new Contact({ brokers: settings.KAFKA_BROKERS, log, clock });
  const relay = new RelayRole(settings, { log, clock, contact, metrics });
  const server = await createServer({
    log,
    metrics,
    clock,
    access: readKeys(settings),
    open: settings.SPILLWAY_OPEN,
    connectionsMax: settings.SPILLWAY_CONNECTIONS_MAX,
    ready: () => relay.ready(),
    title: "Spillway relay",
  });
  await runAll([relay, listenTask(server, { host: settings.HOST, port: settings.PORT })], signal, log);
});
