/** The relay by itself: an application's committed rows in, records out. */
import { runRole } from "#lib/role.ts";
import { relaySettings } from "./config.ts";
import { RelayRole } from "./role.ts";

await runRole({
  name: "relay",
  title: "Spillway relay",
  metricsOf: ["relay"],
  settings: relaySettings,
  make: (settings, surroundings) => {
    const relay = new RelayRole(settings, surroundings);
    return { tasks: [relay], ready: () => relay.ready() };
  },
});
