/** Query by itself: rows and tail in, pages and live frames out. */
import { runRole } from "#lib/role.ts";
import { querySettings } from "./config.ts";
import { Query } from "./query.ts";
import { registerQuery } from "./server.ts";

await runRole({
  name: "query",
  title: "Spillway query",
  metricsOf: ["query"],
  settings: querySettings,
  make: (settings, surroundings) => {
    const query = new Query(settings, surroundings);
    return {
      tasks: [query],
      ready: () => query.ready(),
      register: (server) => registerQuery(server, { query, ...surroundings }),
    };
  },
});
