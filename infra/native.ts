/** The life of a server that runs as a process on this machine; Kafka and Postgres differ in the recipe only. */
import { rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { type Child, type Command, endProcess, logTail, spawnGuarded } from "./process.ts";
import type { Server } from "./server.ts";

const LOOK_MS = 30;
/** A server that is only starting has acknowledged nothing yet: it is not waited for longer. */
const HASTE_MS = 1_000;

export interface Recipe {
  readonly what: string;
  /** What holds all its files; `remove` deletes it. */
  readonly dataDir: string;
  readonly logFile: string;
  readonly startLimitMs: number;
  readonly stopLimitMs: number;
  readonly stopSignal: NodeJS.Signals;
  /** Makes the data ready to be started on: first initialisation, leftovers of a crash. */
  prepare(signal: AbortSignal): Promise<void>;
  command(): Command;
  /** Whether it answers now. */
  ready(pid: number): Promise<boolean>;
  /** Whether a start that ended with this log is worth another try within `startLimitMs`. */
  tryAgain?(log: string): boolean;
  readonly onDeath?: ((how: string) => void) | undefined;
}

/**
 * A server from its recipe, not yet started. One verb at a time: the caller awaits each before the next. But a start may be
 * cut short by any verb that ends the server: it rejects then.
 */
export function nativeServer(recipe: Recipe): Server {
  let child: Child | undefined;
  /** Those that were told to end. */
  const dismissed = new WeakSet<Child>();
  /** The start that is under way. */
  let starting: { readonly cut: AbortController; readonly over: Promise<unknown> } | undefined;

  const end = async (signal: NodeJS.Signals, limitMs = recipe.stopLimitMs): Promise<void> => {
    starting?.cut.abort(new Error(`${recipe.what}: it was stopped while it started`));
    await starting?.over;
    if (!child) return;
    dismissed.add(child);
    await endProcess(child, signal, limitMs);
    child = undefined;
  };
  const start = async (): Promise<void> => {
    if (child?.ended === undefined && child) return;
    const cut = new AbortController();
    const launched = launch(cut.signal);
    starting = { cut, over: launched.catch(() => undefined) };
    try {
      await launched;
    } finally {
      starting = undefined;
    }
  };
  const launch = async (signal: AbortSignal): Promise<void> => {
    await recipe.prepare(signal);
    const started = await startUntilReady(recipe, signal);
    child = started;
    void started.exited.then(() => {
      if (!dismissed.has(started)) recipe.onDeath?.(started.ended ?? "ended");
    });
  };
  const server: Server = {
    what: recipe.what,
    get pid() {
      return child?.ended === undefined ? child?.pid : undefined;
    },
    start,
    stop: (limitMs) => end(recipe.stopSignal, limitMs),
    restart: async () => {
      await server.stop();
      await server.start();
    },
    kill: () => end("SIGKILL"),
    remove: async () => {
      await end("SIGKILL");
      rmSync(recipe.dataDir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
  return server;
}

async function startUntilReady(recipe: Recipe, signal: AbortSignal): Promise<Child> {
  const deadline = performance.now() + recipe.startLimitMs;
  for (;;) {
    signal.throwIfAborted();
    const child = await spawnGuarded(recipe.command());
    const cut = (): void => void endProcess(child, recipe.stopSignal, HASTE_MS);
    signal.addEventListener("abort", cut);
    if (signal.aborted) cut();
    while (child.ended === undefined && performance.now() < deadline) {
      if (await recipe.ready(child.pid)) return child;
      await delay(LOOK_MS);
    }
    const ended = child.ended;
    // Nobody's patience matters any more to who was cut short: it ends within HASTE_MS.
    if (signal.aborted) await child.exited;
    else await endProcess(child, "SIGKILL", recipe.stopLimitMs);
    signal.throwIfAborted();
    const log = logTail(recipe.logFile);
    if (ended !== undefined && recipe.tryAgain?.(log) && performance.now() < deadline) {
      await delay(LOOK_MS);
      continue;
    }
    const how = ended === undefined ? `gave no answer within ${recipe.startLimitMs / 1000} s` : `ended with ${ended}`;
    throw new Error(`${recipe.what}: the server ${how}. The end of ${recipe.logFile}:\n${log}`);
  }
}
