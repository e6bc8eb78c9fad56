/** One of Spillway's processes as a child of `npm start`: kept running, its log passed on. */
import { fileURLToPath } from "node:url";
import { createKeeper } from "./keeper.ts";
import { type Child, endProcess, spawnGuarded } from "./process.ts";
import { readable } from "./readable.ts";
import type { Say } from "./server.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** A role drains within 25 s by its own rule. */
const STOP_LIMIT_MS = 28_000;
const ANSWER_LIMIT_MS = 3_000;
const DEATHS_MAX = 5;

export interface RoleOptions {
  /** `web`; its program is `apps/web/main.ts`. */
  readonly name: string;
  readonly port: number;
  /** On top of this process' own environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly say: Say;
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

export function createRole({ name, port, env, say }: RoleOptions): Role {
  let child: Child | undefined;
  const start = async (): Promise<void> => {
    const started = await spawnGuarded({
      file: process.execPath,
      args: [`apps/${name}/main.ts`],
      cwd: ROOT,
      env: { ...process.env, ...env, PORT: String(port) },
      output: (line) => say(process.stdout.isTTY ? readable(line) : line),
    });
    child = started;
    void started.exited.then(() => keeper.died(started.ended ?? "ended"));
  };
  const keeper = createKeeper(name, start, say);
  return {
    name,
    port,
    get pid() {
      return child?.ended === undefined ? child?.pid : undefined;
    },
    start,
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
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
    if (answer.ok) return undefined;
    const state = (await answer.json()) as { missing?: readonly string[] };
    return state.missing?.join(", ") ?? `status ${answer.status}`;
  } catch {
    return `no answer on port ${port} yet`;
  }
}
