/** PostgreSQL 18 as a process on this machine, from the programs that npm installed. */
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isRunning } from "./alive.ts";
import { nativeServer } from "./native.ts";
import { keptPorts } from "./ports.ts";
import { findPostgres, type PostgresPlace } from "./postgres-binaries.ts";
import { runToEnd } from "./process.ts";
import type { PostgresOptions, PostgresServer } from "./server.ts";

const USER = "spillway";
const LEFTOVER_LIMIT_MS = 10_000;
const LOOK_MS = 50;

/**
 * Not yet started. Loopback only, user and database `spillway`, no password asked.
 * @throws Missing when its programs are not installed
 */
export async function nativePostgres(options: PostgresOptions): Promise<PostgresServer> {
  const place = findPostgres(options.dataDir, options.say);
  const { dataDir, who } = place;
  mkdirSync(dataDir, { recursive: true, mode: 0o755 });
  const [port = 0] = await keptPorts(join(dataDir, "ports.json"), 1);
  const data = join(dataDir, "data");
  const logFile = join(dataDir, "postgres.log");
  const settings: Record<string, string> = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: "",
    max_connections: "100",
    ...options.settings,
  };
  const server = nativeServer({
    what: `PostgreSQL 18: programs from npm; data in ${dataDir}; port ${port}`,
    dataDir,
    logFile,
    startLimitMs: 60_000,
    stopLimitMs: 20_000,
    // "Fast": ends sessions, writes a checkpoint. SIGQUIT, when the parent is gone, ends the sessions' processes too.
    stopSignal: "SIGINT",
    prepare: async (signal) => {
      if (!existsSync(data)) await initialise(place, data, settings, signal);
      await clearLeftover(join(data, "postmaster.pid"), signal);
    },
    command: () => ({
      file: place.postgres,
      args: ["-D", data, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
      cwd: dataDir,
      ...who,
      lastWord: "SIGQUIT",
      output: logFile,
    }),
    ready: async (pid) => {
      const [owner, , , , , , , status] = pidFile(join(data, "postmaster.pid"));
      return Number(owner) === pid && status?.trim() === "ready";
    },
    // Processes of a killed server end by themselves within moments, but hold its shared memory until then.
    tryAgain: (log) => log.split("\n").slice(-3).join("\n").includes("pre-existing shared memory block"),
    onDeath: options.onDeath,
  });
  return Object.defineProperties(server as PostgresServer, {
    url: { value: `postgres://${USER}@127.0.0.1:${port}/${USER}`, enumerable: true },
    deletion: { value: `rm -rf '${dataDir}'`, enumerable: true },
  });
}

/** Made aside and then renamed: an interrupted initialisation leaves nothing that looks complete. */
async function initialise(
  place: PostgresPlace,
  data: string,
  settings: PostgresOptions["settings"],
  signal: AbortSignal,
): Promise<void> {
  const { initdb, postgres, who, dataDir } = place;
  const fresh = `${data}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { mode: 0o700 });
  if (who.uid !== undefined && who.gid !== undefined) chownSync(fresh, who.uid, who.gid);
  const run = (file: string, args: readonly string[], input = ""): Promise<void> =>
    runToEnd({ file, args, ...who, cwd: dataDir, input }, signal);
  const haste = settings?.["fsync"] === "off" ? ["--no-sync"] : [];
  await run(initdb, [
    "-D",
    fresh,
    "-U",
    USER,
    "-A",
    "trust",
    "-E",
    "UTF8",
    "--locale=C",
    "--no-instructions",
    ...haste,
  ]);
  await run(postgres, ["--single", "-D", fresh, "postgres"], `CREATE DATABASE ${USER};\n`);
  renameSync(fresh, data);
}

function pidFile(file: string): string[] {
  return existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
}

/**
 * A killed server leaves its postmaster.pid, and Postgres refuses to start when that number has gone to another process
 * meanwhile. So the file goes unless a Postgres really runs under it; one that is just ending is waited for.
 */
async function clearLeftover(file: string, signal: AbortSignal): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += LOOK_MS) {
    const pid = Number(pidFile(file)[0] ?? 0);
    if (pid === 0 || !isRunning(pid) || !isPostgres(pid)) break;
    if (waitedMs > LEFTOVER_LIMIT_MS) {
      throw new Error(
        `PostgreSQL: process ${pid} already works on this data (${file}): stop it, or use another folder.`,
      );
    }
    await delay(LOOK_MS, undefined, { signal });
  }
  rmSync(file, { force: true });
}

function isPostgres(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("postgres");
  } catch {
    return process.platform !== "linux";
  }
}
