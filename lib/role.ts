/** A role as a process: what all of them need comes first, then what this one is, behind a server that tells whether it can work. */
import { systemClock as clock } from "./clock.ts";
import {
  type Declarations,
  type httpSettings,
  type port,
  printable,
  readKeys,
  readSettings,
  type Settings,
} from "./config.ts";
import type { Surroundings } from "./connect.ts";
import { Contact } from "./contact.ts";
import { requireDatabaseTls } from "./database-settings.ts";
import { createServer, listenTask, type Server, type ServerOptions } from "./http.ts";
import { readKafkaAccess } from "./kafka-access.ts";
import type { logSettings } from "./log-settings.ts";
import { createMetrics, type Metrics, type Role as RoleName } from "./metrics.ts";
import { main, runAll, type Task } from "./run.ts";

type Common = Declarations & typeof logSettings & typeof httpSettings & { readonly PORT: ReturnType<typeof port> };

interface RoleSurroundings extends Surroundings {
  readonly metrics: Metrics;
}

export interface Role<D extends Common> {
  readonly name: string;
  /** Of its API document. */
  readonly title: string;
  readonly settings: D;
  /** Whose metrics it has. */
  readonly metricsOf: readonly RoleName[];
  readonly make: (settings: Settings<D>, surroundings: RoleSurroundings) => Made;
}

/** What a role is made of. */
interface Made extends Pick<ServerOptions, "ready" | "bodiesBytesMax"> {
  /** They are stopped in reverse order, after the server. */
  readonly tasks: readonly Task[];
  /** Adds its routes. */
  readonly register?: (server: Server) => void | Promise<void>;
}

/** Runs until it is told to stop; then the process ends, as main() says. Settings that are refused end it at once. */
export function runRole<D extends Common>(role: Role<D>): Promise<void> {
  return main(role.name, async (signal, log) => {
    const read = readSettings(role.settings);
    const settings: Settings<Common> = read;
    log.info("settings read", printable(settings));
    const metrics = createMetrics(...role.metricsOf);
    const kafkaAccess = readKafkaAccess(settings);
    if ("DATABASE_URL" in settings) requireDatabaseTls(String(settings["DATABASE_URL"]));
    const contact = new Contact({ brokers: kafkaAccess.brokers, log, clock });
    const { tasks, register, ...made } = role.make(read, { log, clock, contact, metrics, kafkaAccess });
    const server = await createServer({
      log,
      metrics,
      clock,
      access: readKeys(settings),
      open: settings.SPILLWAY_OPEN,
      connectionsMax: settings.SPILLWAY_CONNECTIONS_MAX,
      title: role.title,
      ...made,
    });
    await register?.(server);
    await runAll([...tasks, listenTask(server, { host: settings.HOST, port: settings.PORT })], signal, log);
  });
}
