/** The sink by itself: records in, rows out. */
import { setFlagsFromString } from "node:v8";
import { systemClock as clock } from "#lib/clock.ts";
import { printable, readKeys, readSettings } from "#lib/config.ts";
import { Contact } from "#lib/contact.ts";
import { createServer, listenTask } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { main, runAll } from "#lib/run.ts";
import { sinkSettings } from "./config.ts";
import { Sink } from "./sink.ts";

/**
 * A record lives just long enough to outlast young garbage, and V8 by itself lets such garbage grow to several times what is
 * in use before it collects it: 560 MiB resident while 400,000 events were drained, 270 MiB with these two, at the same speed
 * (Node 24.21). They say when to collect and set no limit, which would end a sink that has large events in hand.
 */
setFlagsFromString("--semi-space-growth-factor=1");
setFlagsFromString("--heap-growing-percent=50");

await main("sink", async (signal, log) => {
  const settings = readSettings(sinkSettings);
  log.info("settings read", printable(settings));
  const metrics = createMetrics("sink");
  const contact = new Contact({ brokers: settings.KAFKA_BROKERS, log, clock });
  const sink = new Sink(settings, { log, clock, contact, metrics });
  const server = await createServer({
    log,
    metrics,
    clock,
    access: readKeys(settings),
    open: settings.SPILLWAY_OPEN,
    connectionsMax: settings.SPILLWAY_CONNECTIONS_MAX,
    ready: () => sink.ready(),
    title: "Spillway sink",
  });
  await runAll([sink, listenTask(server, { host: settings.HOST, port: settings.PORT })], signal, log);
});
