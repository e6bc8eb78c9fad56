/** The real PgBouncer before a PostgreSQL of a test's own, in transaction mode, on a free port. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { nativeServer } from "../../infra/native.ts";
import { freePorts } from "../../infra/ports.ts";
import type { Server } from "../../infra/server.ts";
import { newFolder } from "./folder.ts";
import { disposable } from "./kafka.ts";

/** It refuses to run as root: then it runs as this user, "nobody". */
const NOBODY = 65534;
const ADMIN = "admin";

/** Its program, also where a user's PATH has no system programs. Undefined: not installed. */
function pgBouncerProgram(): string | undefined {
  const given = process.env["PGBOUNCER"];
  if (given !== undefined) return given;
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, "pgbouncer")).find((file) => existsSync(file));
}

/**
 * Whether tests can have it: `describe.skipIf(!hasPgBouncer())`. Says so where not.
 * @throws where CI runs: there it is to be installed
 */
export function hasPgBouncer(): boolean {
  if (pgBouncerProgram() !== undefined) return true;
  const told = "PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer), so nothing behind it";
  if (process.env["CI"]) throw new Error(`${told} can be tested`);
  console.log(`SKIPPED: ${told} was tested`);
  return false;
}

export interface PgBouncerOptions {
  /** The server behind it, with user and any database: clients reach every database of it, all as that user. */
  readonly upstream: string;
  /** Server connections for each database. */
  readonly poolSize: number;
  /** Its own settings on top of the defaults here, such as `{ query_wait_timeout: "2" }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface PgBouncer extends Server, AsyncDisposable {
  /** The upstream's database through it. */
  readonly url: string;
  /** One command to its console, such as PAUSE (resolves once nothing runs), RESUME, RECONNECT, SHOW POOLS. */
  admin<Row>(command: string): Promise<Row[]>;
}

/**
 * Running: `await using pooler = await startPgBouncer({ upstream: postgres.url, poolSize: 5 })`, or call `remove` in
 * `afterAll`. `stop` cuts its clients, `kill` and `start` as with other servers; `pid` takes SIGSTOP and SIGCONT.
 */
export async function startPgBouncer({ upstream, poolSize, settings = {} }: PgBouncerOptions): Promise<PgBouncer> {
  const file = pgBouncerProgram();
  if (file === undefined) throw new Error("PgBouncer is not installed: apt-get install pgbouncer");
  const [port = 0] = await freePorts(1);
  const dataDir = newFolder("pgbouncer");
  const ini = join(dataDir, "pgbouncer.ini");
  writeFileSync(ini, iniOf(new URL(upstream), { listen_port: String(port), pool_size: String(poolSize) }, settings));
  const url = new URL(upstream);
  [url.hostname, url.port] = ["127.0.0.1", String(port)];
  const root = process.getuid?.() === 0;
  const server = nativeServer({
    what: `PgBouncer: ${file}; port ${port}`,
    dataDir,
    logFile: join(dataDir, "pgbouncer.log"),
    startLimitMs: 20_000,
    // From 1.23 on it would wait for its clients to leave.
    stopLimitMs: 1_000,
    stopSignal: "SIGTERM",
    prepare: () => Promise.resolve(),
    command: () => ({
      file,
      args: [ini],
      cwd: dataDir,
      ...(root ? { uid: NOBODY, gid: NOBODY } : {}),
      output: join(dataDir, "pgbouncer.log"),
    }),
    ready: () => onConsole(port, "SHOW VERSION").then(Boolean, () => false),
  });
  await server.start();
  const described = Object.defineProperties(server as PgBouncer, {
    url: { value: url.href },
    admin: { value: (command: string) => onConsole(port, command) },
  });
  return disposable(described);
}

/** All clients are let in, and all are one user upstream. `settings` of the same name win. */
function iniOf(
  { hostname, port, username }: URL,
  { listen_port, pool_size }: Readonly<Record<"listen_port" | "pool_size", string>>,
  settings: Readonly<Record<string, string>>,
): string {
  const all: Readonly<Record<string, string>> = {
    listen_addr: "127.0.0.1",
    listen_port,
    unix_socket_dir: "",
    auth_type: "any",
    admin_users: ADMIN,
    pool_mode: "transaction",
    max_client_conn: "2000",
    // Else 15 s after a restart of the server: longer than tests like to wait.
    server_login_retry: "1",
    ...settings,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
  return [
    "[databases]",
    `* = host=${hostname} port=${port} user=${username} pool_size=${pool_size}`,
    "[pgbouncer]",
    ...lines,
    "",
  ].join("\n");
}

/** On a connection of its own to the console. */
async function onConsole(port: number, command: string): Promise<unknown[]> {
  const client = new pg.Client({ host: "127.0.0.1", port, user: ADMIN, database: "pgbouncer" });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(command)).rows;
  } finally {
    await client.end();
  }
}
