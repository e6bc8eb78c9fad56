/** The node that the demo talks to: one that runs, or `npm start` started here for as long as the demo takes. */
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Child, endProcess, spawnGuarded } from "../process.ts";
import { readable } from "../readable.ts";
import { readinessOf } from "../readiness.ts";
import type { Say } from "../server.ts";
import { addressFile, USUAL_DATA } from "../start-options.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** The first start fetches Kafka. */
const START_LIMIT_MS = 600_000;
const READY_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 90_000;
const LOOK_MS = 250;

export interface Node {
  readonly url: string;
  /** Stops what was started here. */
  stop(): Promise<void>;
}

/** Where `npm start` serves, unless PORT is set. */
const usualAddress = (port: string | undefined): string => `http://127.0.0.1:${port || 3000}`;

/** Where it may run: by `port` if that is set, else where the one on this data says that it does, else as usual. */
export function candidates(port: string | undefined, data: string): string[] {
  const noted = addressFile(data);
  return port || !existsSync(noted) ? [usualAddress(port)] : [readFileSync(noted, "utf8").trim(), usualAddress(port)];
}

/**
 * @param url undefined: that of `npm start`, and one is started if none answers
 * @throws Error when nothing is ready in time, or when nothing answers at a given address
 */
export async function findNode(url: string | undefined, say: Say, signal: AbortSignal): Promise<Node> {
  const { PORT } = process.env;
  for (const found of url === undefined ? candidates(PORT, USUAL_DATA) : [url.replace(/\/+$/, "")]) {
    if ((await readinessOf(found)) === "silent") continue;
    await ready(found, READY_LIMIT_MS, () => undefined, say, signal);
    return { url: found, stop: async () => undefined };
  }
  if (url !== undefined) throw new Error(`nothing answers at ${url}: is npm start running there?`);
  const address = usualAddress(PORT);
  say(`nothing answers at ${address}: starting Spillway for this demo (npm start). One elsewhere is named with --url.`);
  const starting = { told: true };
  const child = await spawnGuarded({
    file: process.execPath,
    args: ["infra/start.ts"],
    cwd: ROOT,
    output: (line) => {
      if (starting.told) say(`  ${process.stdout.isTTY ? readable(line) : line}`);
    },
  });
  const stop = async (): Promise<void> => {
    say("stopping Spillway");
    await endProcess(child, "SIGTERM", STOP_LIMIT_MS);
  };
  try {
    await ready(
      address,
      START_LIMIT_MS,
      () => endOf(child),
      () => undefined,
      signal,
    );
  } catch (error) {
    await stop();
    throw error;
  }
  starting.told = false;
  return { url: address, stop };
}

const endOf = (child: Child): string | undefined => child.ended && `npm start ended with ${child.ended}; see above`;

/** @param failed says why it never will be ready */
async function ready(
  url: string,
  limitMs: number,
  failed: () => string | undefined,
  say: Say,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  let told: string | undefined;
  for (;;) {
    const state = await readinessOf(url);
    if (state === "ready") return;
    const what = state === "silent" ? "no answer" : state.missing;
    if (what !== told) say(`waiting: ${what}`);
    told = what;
    const why = failed();
    if (why !== undefined) throw new Error(why);
    if (performance.now() > deadline) throw new Error(`${url} is not ready after ${limitMs / 1_000} s: ${what}`);
    await delay(LOOK_MS, undefined, { signal });
  }
}
