/** One of Spillway's processes as a child of `npm start`: kept running, its log passed on. */
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createKeeper } from "./keeper.ts";
import { type Child, endProcess, spawnGuarded } from "./process.ts";
import { readinessOf } from "./readiness.ts";
import type { Say } from "./server.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** A role drains within 25 s by its own rule. */
const STOP_LIMIT_MS = 28_000;
const DEATHS_MAX = 5;
const LOOK_MS = 100;

export interface RoleOptions {
  /** `web`; its program is `apps/web/main.ts`. */
  readonly name: string;
  readonly port: number;
  /** On top of this process' own environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly say: Say;
  /** Gets the lines of its log. */
  readonly pass: Say;
}

export interface Role {
  readonly name: string;
  readonly port: number;
  readonly pid: number | undefined;
  start(): Promise<void>;
  /** Undefined when /readyz answers 200; else what is missing. @throws when it ended five times in a row */
  missing(): Promise<string | undefined>;
  /** SIGTERM, SIGKILL after 28 s. Resolves to how it ended if that was not exit code 0. */
  stop(): Promise<string | undefined>;
}

export function createRole({ name, port, env, say, pass }: RoleOptions): Role {
  let child: Child | undefined;
  const spawn = async (): Promise<Child> => {
    const started = await spawnGuarded({
      file: process.execPath,
      args: [`apps/${name}/main.ts`],
      cwd: ROOT,
      env: { ...process.env, ...env, PORT: String(port) },
      output: pass,
    });
    child = started;
    void started.exited.then(() => keeper.died(started.ended ?? "ended"));
    return started;
  };
  /** Ready or gone, whichever comes first. */
  const tellWhenBack = async (started: Child): Promise<void> => {
    while (started.ended === undefined && (await whatIsMissing(port)) !== undefined) await delay(LOOK_MS);
    if (started.ended === undefined) say(`${name} is back, process ${started.pid}`);
  };
  const keeper = createKeeper(name, async () => void tellWhenBack(await spawn()), say);
  return {
    name,
    port,
    get pid() {
      return child?.ended === undefined ? child?.pid : undefined;
    },
    start: async () => void (await spawn()),
    missing: async () => {
      if (keeper.deaths >= DEATHS_MAX)
        throw new Error(`${name} does not stay up: it ended ${DEATHS_MAX} times in a row. Its log above says why.`);
      return whatIsMissing(port);
    },
    stop: async () => {
      await keeper.dismiss();
      if (!child) return undefined;
      await endProcess(child, "SIGTERM", STOP_LIMIT_MS);
      return (await child.exited) === 0 ? undefined : `${name} ended with ${child.ended}`;
    },
  };
}

async function whatIsMissing(port: number): Promise<string | undefined> {
  const state = await readinessOf(`http://127.0.0.1:${port}`);
  if (state === "ready") return undefined;
  return state === "silent" ? `no answer on port ${port} yet` : state.missing;
}
