/** What must run around the application: Spillway as `npm start` runs it, a database for the application, a relay. */
import { fileURLToPath } from "node:url";
import pg from "pg";
import { freePorts } from "../../infra/ports.ts";
import { endProcess, runToEnd, spawnGuarded } from "../../infra/process.ts";
import { readable } from "../../infra/readable.ts";
import { createRole, type Role } from "../../infra/role.ts";
import type { Say } from "../../infra/server.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** npm start gives its processes 28 s, then its servers 20 s. */
const STOP_LIMIT_MS = 90_000;
/** The application's database, on the server that Spillway's own is on. */
const DATABASE = "app_groups";

export interface Addresses {
  /** Spillway's HTTP address. */
  readonly url: string;
  readonly brokers: string;
  /** Spillway's own database. */
  readonly store: string;
}

/**
 * Runs `npm start` until `stack` is disposed of.
 * @param args flags of npm start @throws Error when it ends before it is ready; it has said why
 */
export async function startSpillway(
  args: readonly string[],
  stack: AsyncDisposableStack,
  say: Say,
): Promise<Addresses> {
  const { promise, resolve, reject } = Promise.withResolvers<Addresses>();
  const told: Record<string, string> = {};
  let ready = false;
  const output = (line: string): void => {
    if (ready) return;
    const [, name, value] = /^\s*(KAFKA_BROKERS=|DATABASE_URL=|Spillway is ready: )(\S+)$/.exec(line) ?? [];
    if (name !== undefined && value !== undefined) told[name] = value;
    const { "Spillway is ready: ": url, "KAFKA_BROKERS=": brokers, "DATABASE_URL=": store } = told;
    if (line !== "") say(`  ${process.stdout.isTTY ? readable(line) : line}`);
    if (url === undefined || brokers === undefined || store === undefined) return;
    ready = true;
    resolve({ url, brokers, store });
  };
  const child = await spawnGuarded({
    file: process.execPath,
    args: ["infra/start.ts", ...args],
    cwd: ROOT,
    // Whoever has set up keys would have to give one to this example too.
    env: { ...process.env, SPILLWAY_KEYS: "" },
    output,
  });
  stack.defer(async () => {
    await endProcess(child, "SIGTERM", STOP_LIMIT_MS);
    if (ready && child.ended !== "exit code 0") throw new Error(`npm start ended with ${child.ended}`);
  });
  void child.exited.then(() => reject(new Error(`npm start ended with ${child.ended}; see above`)));
  return promise;
}

/**
 * Makes the application's database, unless it is there, and installs the event buffer in it.
 * @returns its address
 */
export async function prepareDatabase(store: string, signal: AbortSignal): Promise<string> {
  const url = new URL(store);
  url.pathname = `/${DATABASE}`;
  const server = new pg.Client({ connectionString: store });
  await server.connect();
  try {
    const { rowCount } = await server.query("SELECT FROM pg_database WHERE datname = $1", [DATABASE]);
    if (rowCount === 0) await server.query(`CREATE DATABASE ${DATABASE}`);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${why}. Make the database ${DATABASE} on ${url.host} for ${url.username}, then run this again.`, {
      cause,
    });
  } finally {
    await server.end();
  }
  const env = { ...process.env, DATABASE_URL: url.href };
  await runToEnd({ file: process.execPath, args: ["infra/buffer/main.ts", "install"], cwd: ROOT, env }, signal);
  return url.href;
}

/** Runs a relay from the application's database to Spillway's log, until `stack` is disposed of. */
export async function startRelay(
  { brokers }: Addresses,
  database: string,
  stack: AsyncDisposableStack,
  fate: { readonly say: Say; readonly fail: (error: Error) => void },
): Promise<Role> {
  const [port = 0] = await freePorts(1);
  const relay = createRole({
    name: "relay",
    port,
    env: {
      KAFKA_BROKERS: brokers,
      DATABASE_URL: database,
      SPILLWAY_KEYS: "",
      LOG_LEVEL: process.env["LOG_LEVEL"] || "error",
    },
    say: fate.say,
    pass: fate.say,
    givenUp: fate.fail,
  });
  stack.defer(async () => {
    const fault = await relay.stop();
    if (fault !== undefined) throw new Error(fault);
  });
  await relay.start();
  return relay;
}
