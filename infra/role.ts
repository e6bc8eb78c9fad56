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
const ENDS_MAX = 5;
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
  /** Called when it ended five times in a row: it is not started again. */
  readonly givenUp: (error: Error) => void;
}

export interface Role {
  readonly name: string;
  readonly port: number;
  readonly pid: number | undefined;
  start(): Promise<void>;
  /** Undefined when its own /readyz answers 200; else what is missing. */
  missing(): Promise<string | undefined>;
  /** SIGTERM, SIGKILL after 28 s unless told otherwise. Resolves to how it ended if that was not exit code 0. */
  stop(limitMs?: number): Promise<string | undefined>;
}

export function createRole({ name, port, env, say, pass, givenUp }: RoleOptions): Role {
  let child: Child | undefined;
  let starting: Promise<unknown> = Promise.resolve();
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
    while (started.ended === undefined && (await whatIsMissing(port, started)) !== undefined) await delay(LOOK_MS);
    if (started.ended === undefined) say(`${name} is back, process ${started.pid}`);
  };
  const keeper = createKeeper(name, async () => void tellWhenBack(await spawn()), say, {
    endsMax: ENDS_MAX,
    givenUp: () =>
      givenUp(new Error(`${name} does not stay up: it ended ${ENDS_MAX} times in a row. Its log above says why.`)),
  });
  return {
    name,
    port,
    get pid() {
      return child?.ended === undefined ? child?.pid : undefined;
    },
    start: async () => {
      const spawned = spawn();
      starting = spawned.catch(() => undefined);
      await spawned;
    },
    missing: () => whatIsMissing(port, child),
    stop: async (limitMs = STOP_LIMIT_MS) => {
      await keeper.dismiss();
      await starting;
      if (!child) return undefined;
      await endProcess(child, "SIGTERM", limitMs);
      return (await child.exited) === 0 ? undefined : `${name} ended with ${child.ended}`;
    },
  };
}

async function whatIsMissing(port: number, child: Child | undefined): Promise<string | undefined> {
  if (child === undefined || child.ended !== undefined) return "it does not run";
  const state = await readinessOf(`http://127.0.0.1:${port}`, child.pid);
  if (state === "ready") return undefined;
  return state === "silent" ? `no answer on port ${port} yet` : state.missing;
}
