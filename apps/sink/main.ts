/** The sink by itself: records in, rows out. */
import { systemClock as clock } from "#lib/clock.ts";
import { printable, readKeys, readSettings } from "#lib/config.ts";
import { createServer, listenTask } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { main, runAll } from "#lib/run.ts";
import { sinkSettings } from "./config.ts";
import { Sink } from "./sink.ts";

await main("sink", async (signal, log) => {
  const settings = readSettings(sinkSettings);
  log.info("settings read", printable(settings));
  const metrics = createMetrics();
  const sink = new Sink(settings, { log, clock, metrics });
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
