/**
 * `npm start`: Kafka, PostgreSQL and Spillway's processes on this machine, until Ctrl-C. Data stays in `.spillway/`.
 * What is killed meanwhile, by whomever, comes back on its data.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { aborted, unlessAborted } from "#lib/abort.ts";
import { withoutSecrets } from "#lib/setting-forms.ts";
import { requireBelonging } from "./belonging.ts";
import { createKeeper, type Keeper } from "./keeper.ts";
import { holds } from "./lock.ts";
import { freePorts, holdPort, isFree } from "./ports.ts";
import { readable } from "./readable.ts";
import { createRole, type Role } from "./role.ts";
import type { Say, Server, ServerOptions } from "./server.ts";
import { provideKafka, providePostgres } from "./stack.ts";
import { addressFile, checkedPort, claimData, readOptions, type StartOptions, USAGE } from "./start-options.ts";

const SINK_PORT = 3003;
const READY_LIMIT_MS = 120_000;
const LOOK_MS = 100;
const LOOK_AT_DATA_MS = 500;
/** A sink that was killed keeps its partitions so long; with one sink on one machine nobody else could want them. */
const SESSION_TIMEOUT_MS = "10000";
/** What a role warns of where only one broker runs. The summary says it once, in other words. */
const ONE_BROKER = /"warning":"replication is 1:/;
/** Who is stopped before it was ready has nothing to drain. */
const HASTE_MS = 1_000;
/** Ctrl-C under npm arrives twice: from the terminal, and from npm. Only a later one means haste. */
const SAME_SIGNAL_MS = 1_000;

const say: Say = (line) => void process.stdout.write(`${line}\n`);

interface Kept<S extends Server> {
  readonly name: string;
  readonly server: S;
  readonly keeper: Keeper;
}

/** Provides a server that comes back when it is killed. */
async function kept<S extends Server>(
  name: string,
  data: string,
  provide: (options: ServerOptions) => Promise<S>,
): Promise<Kept<S>> {
  const dataDir = join(data, name.toLowerCase());
  const server = await provide({ dataDir, say, onDeath: (how) => keeper.died(how) });
  const keeper = createKeeper(
    name,
    async () => {
      await server.start();
      say(`${name} is back${server.pid === undefined ? "" : `, process ${server.pid}`}`);
    },
    say,
  );
  return { name, server, keeper };
}

/** @throws AbortError when `signal` aborts meanwhile */
async function allReady(roles: readonly Role[], signal: AbortSignal): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += LOOK_MS) {
    const missing: string[] = [];
    for (const role of roles) {
      const what = await role.missing();
      if (what !== undefined) missing.push(`${role.name}: ${what}`);
    }
    if (missing.length === 0) return;
    if (waitedMs >= READY_LIMIT_MS)
      throw new Error(`not ready after ${READY_LIMIT_MS / 1000} s: ${missing.join("; ")}`);
    if (waitedMs > 0 && waitedMs % 10_000 === 0) say(`still waiting for ${missing.join("; ")}`);
    await delay(LOOK_MS, undefined, { signal });
  }
}

/** Ends with what to type first. */
function summary(roles: readonly Role[], servers: readonly Kept<Server>[], port: number): string {
  const event = JSON.stringify({ clientId: "me", type: "greeting", data: { text: "hello" } });
  const withKeys = Boolean(process.env["SPILLWAY_KEYS"]);
  const token = withKeys ? " -H 'authorization: Bearer TOKEN'" : "";
  return [
    "",
    `Spillway is ready: http://127.0.0.1:${port}`,
    `  ${roles.map((role) => `${role.name}: port ${role.port}, process ${role.pid}`).join("; ")}`,
    `  ${servers.map(({ name, server }) => `${name}: process ${server.pid ?? "not of this machine"}`).join("; ")}`,
    ...(process.env["KAFKA_BROKERS"] ? [] : ["  One broker: what is not saved yet lies on this disk alone."]),
    ...(roles.length > 1 ? [] : ["  No sink: nothing is saved, and everything is read all the same."]),
    `  Try, in another terminal${withKeys ? ", TOKEN being one that npm run keys has shown" : ""}:`,
    `    curl http://127.0.0.1:${port}/api/v1/events${token} -H 'content-type: application/json' -d '${event}'`,
    `    curl${token} 'http://127.0.0.1:${port}/api/v1/events?clientId=me'`,
    "  Ctrl-C drains and stops everything. LOG_LEVEL=info npm start tells more of what happens.",
    "",
  ].join("\n");
}

/** Nothing that is started here takes it before the web process does. @returns what lets go of it */
async function hold(port: number): Promise<() => Promise<void>> {
  const release = await holdPort(port);
  if (release) return release;
  throw new Error(
    `port ${port} is taken by another program: end that, or choose another port: PORT=${port + 100} npm start`,
  );
}

interface Wanted extends StartOptions {
  readonly port: number;
  readonly signal: AbortSignal;
  /** Gets what is to be stopped, in that order, as soon as it may run. */
  readonly toStop: Stop[];
  /** Stops everything, with this as the reason. */
  readonly fail: (error: Error) => void;
}

/** Resolves to what went wrong, if anything did. @param limitMs for a stop in haste, by force after that */
type Stop = (limitMs: number | undefined) => Promise<string | undefined>;

async function stopServers(servers: readonly Kept<Server>[], limitMs: number | undefined): Promise<string | undefined> {
  const ends = await Promise.allSettled(
    servers.map(async ({ server, keeper }) => {
      const dismissed = keeper.dismiss();
      // A start that is under way is cut short by it, or the keeper would wait for its end.
      await server.stop(limitMs);
      await dismissed;
    }),
  );
  return ends.flatMap((end) => (end.status === "rejected" ? [String(end.reason)] : [])).join("\n") || undefined;
}

/** They drain together. */
async function stopRoles(roles: readonly Role[], limitMs: number | undefined): Promise<string | undefined> {
  const ends = await Promise.all(roles.map((role) => role.stop(limitMs)));
  return limitMs === undefined ? ends.filter(Boolean).join(", ") || undefined : undefined;
}

async function up({ data, withSink, port, signal, toStop, fail }: Wanted): Promise<void> {
  const release = await hold(port);
  writeFileSync(addressFile(data), `http://127.0.0.1:${port}`);
  const kafka = await kept("Kafka", data, provideKafka);
  const postgres = await kept("PostgreSQL", data, providePostgres);
  toStop.unshift((limitMs) => stopServers([kafka, postgres], limitMs));
  await Promise.all([kafka.server.start(), postgres.server.start()]);
  signal.throwIfAborted();
  const env = { KAFKA_BROKERS: kafka.server.brokers, DATABASE_URL: postgres.server.url };
  // One of its own is there to be copied; another's password is the caller's.
  const shown = process.env["DATABASE_URL"] ? withoutSecrets(env.DATABASE_URL) : env.DATABASE_URL;
  say(`Kafka and PostgreSQL answer:\n  KAFKA_BROKERS=${env.KAFKA_BROKERS}\n  DATABASE_URL=${shown}`);
  await requireBelonging(kafka.server, postgres.server);
  const expected = process.env["KAFKA_BROKERS"] ? undefined : ONE_BROKER;
  const pass: Say = (line) => {
    if (!expected?.test(line)) say(process.stdout.isTTY ? readable(line) : line);
  };
  const quiet = { ...env, LOG_LEVEL: process.env["LOG_LEVEL"] || "warn" };
  const roles = [createRole({ name: "web", port, env: quiet, say, pass, givenUp: fail })];
  if (withSink) {
    const [other = 0] = (await isFree(SINK_PORT)) ? [SINK_PORT] : await freePorts(1);
    const session = process.env["SPILLWAY_SESSION_TIMEOUT_MS"] || SESSION_TIMEOUT_MS;
    const sinkEnv = { ...quiet, SPILLWAY_SESSION_TIMEOUT_MS: session };
    roles.push(createRole({ name: "sink", port: other, env: sinkEnv, say, pass, givenUp: fail }));
  }
  await release();
  signal.throwIfAborted();
  // Before the servers go.
  toStop.unshift((limitMs) => stopRoles(roles, limitMs));
  for (const role of roles) {
    signal.throwIfAborted();
    await role.start();
  }
  await allReady(roles, signal);
  say(summary(roles, [kafka, postgres], port));
}

/** Resolves when the folder of the data was removed, which no start can mend; never where no data lies in it. */
async function removed(lock: string): Promise<void> {
  const allGiven = process.env["KAFKA_BROKERS"] && process.env["DATABASE_URL"];
  while (allGiven || holds(lock)) await delay(LOOK_AT_DATA_MS);
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options.help) return say(USAGE);
  const { data } = options;
  const port = checkedPort(process.env, options.withSink);
  const { lock, unlock } = claimData(data);
  const release = (): void => {
    if (holds(lock)) rmSync(addressFile(data), { force: true });
    unlock();
  };
  const stop = new AbortController();
  const toStop: Stop[] = [];
  let firstAt = 0;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (stop.signal.aborted && performance.now() - firstAt > SAME_SIGNAL_MS) process.exit(1);
      if (stop.signal.aborted) return;
      firstAt = performance.now();
      // Nothing runs yet but what prepares it; that ends with this process.
      if (toStop.length === 0) {
        release();
        process.exit(0);
      }
      say("\nstopping: the processes drain, then Kafka and PostgreSQL stop");
      stop.abort();
    });
  }
  const faults: unknown[] = [];
  const fail = (error: Error): void => {
    faults.push(error);
    stop.abort();
  };
  void removed(lock).then(() => {
    if (stop.signal.aborted) return;
    say(`\nthe folder ${data} was removed: stopping`);
    fail(new Error(`The data is gone: ${data} was removed while Spillway ran. npm start begins with an empty one.`));
  });
  let ready = false;
  try {
    await unlessAborted(stop.signal, up({ ...options, port, signal: stop.signal, toStop, fail }));
    ready = true;
    await aborted(stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) faults.push(error);
  }
  const limitMs = ready || faults.length > 0 ? undefined : HASTE_MS;
  for (const step of toStop) {
    const fault = await step(limitMs).catch((error: unknown) => error);
    if (fault !== undefined) faults.push(fault);
  }
  release();
  for (const fault of faults) console.error(fault instanceof Error ? fault.message : fault);
  if (faults.length === 0) say("stopped");
  process.exit(faults.length === 0 ? 0 : 1);
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
