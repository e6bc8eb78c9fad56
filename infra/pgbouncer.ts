/** PgBouncer as a process on this machine, before a PostgreSQL, in transaction mode. For tests and benches. */
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { nativeServer } from "./native.ts";
import { freePorts } from "./ports.ts";
import { Missing, type Server } from "./server.ts";

/** It refuses to run as root: then it runs as this user, "nobody". */
const NOBODY = 65534;
const ADMIN = "admin";

export interface PgBouncerOptions {
  /** A folder of its own; those above it must let others pass through. */
  readonly dataDir: string;
  /** The server behind it, with user and any database: clients reach every database of it, all as that user. */
  readonly upstream: string;
  /** Server connections for each database. */
  readonly poolSize: number;
  /** Its own settings on top of the defaults here, such as `{ query_wait_timeout: "2" }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface PgBouncer extends Server {
  /** The upstream's database through it. */
  readonly url: string;
  /** One command to its console, such as PAUSE (resolves once nothing runs), RESUME, RECONNECT, SHOW POOLS. */
  admin<Row>(command: string): Promise<Row[]>;
}

/** Its program: PGBOUNCER, or where it is installed, also where a user's PATH has no system programs. Undefined: it is not. */
export function findPgBouncer(): string | undefined {
  const given = process.env["PGBOUNCER"];
  if (given) return given;
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, "pgbouncer")).find((file) => existsSync(file));
}

/** Not yet started, on a free port. `stop` cuts its clients; `pid` takes SIGSTOP and SIGCONT. @throws Missing */
export async function nativePgBouncer(options: PgBouncerOptions): Promise<PgBouncer> {
  const { dataDir, upstream, poolSize, settings = {} } = options;
  const file = findPgBouncer();
  if (file === undefined)
    throw new Missing("PgBouncer is not installed: apt-get install pgbouncer, brew install pgbouncer");
  mkdirSync(dataDir, { recursive: true });
  // "Nobody" reads it.
  chmodSync(dataDir, 0o755);
  const [port = 0] = await freePorts(1);
  const ini = join(dataDir, "pgbouncer.ini");
  writeFileSync(ini, iniOf(new URL(upstream), poolSize, { listen_port: String(port), ...settings }));
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
  return Object.defineProperties(server as PgBouncer, {
    url: { value: url.href },
    admin: { value: (command: string) => onConsole(port, command) },
  });
}

/** All clients are let in, and all are one user upstream. `settings` of the same name win. */
function iniOf(
  { hostname, port, username }: URL,
  poolSize: number,
  settings: Readonly<Record<string, string>>,
): string {
  const all: Readonly<Record<string, string>> = {
    listen_addr: "127.0.0.1",
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
  const databases = `* = host=${hostname} port=${port} user=${username} pool_size=${poolSize}`;
  return ["[databases]", databases, "[pgbouncer]", ...lines, ""].join("\n");
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
