/** The sink by itself: records in, rows out. */
import { runRole } from "#lib/role.ts";
import { keepYoungSmall } from "#lib/run.ts";
import { sinkSettings } from "./config.ts";
import { Sink } from "./sink.ts";

keepYoungSmall();

await runRole({
  name: "sink",
  title: "Spillway sink",
  metricsOf: ["sink"],
  settings: sinkSettings,
  make: (settings, surroundings) => {
    const sink = new Sink(settings, surroundings);
    return { tasks: [sink], ready: () => sink.ready() };
  },
});
