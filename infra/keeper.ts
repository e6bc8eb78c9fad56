/** Brings something back that ended without being told to, with growing pauses between the tries. */
import { setTimeout as delay } from "node:timers/promises";
import type { Say } from "./server.ts";

const PAUSE_FIRST_MS = 250;
const PAUSE_MAX_MS = 10_000;
/** Who lived this long is healthy again: the next pause is the first. */
const HEALTHY_MS = 30_000;

export interface Keeper {
  /** Tries in a row that did not live for 30 s. */
  readonly deaths: number;
  /** To be called when it ended without being told to. */
  died(how: string): void;
  /** From now on its end is wanted. Resolves when no start is under way any more. */
  dismiss(): Promise<void>;
}

/** @param start must resolve once it runs; a rejection counts as another death */
export function createKeeper(name: string, start: () => Promise<void>, say: Say): Keeper {
  const dismissed = new AbortController();
  let deaths = 0;
  let startedAt = performance.now();
  let starting: Promise<void> = Promise.resolve();

  const bringBack = async (how: string): Promise<void> => {
    if (performance.now() - startedAt > HEALTHY_MS) deaths = 0;
    for (let reason = how; ; ) {
      const pauseMs = Math.min(PAUSE_FIRST_MS * 2 ** deaths, PAUSE_MAX_MS);
      deaths += 1;
      say(`${name} is gone (${reason}); starting it again in ${pauseMs / 1000} s`);
      await delay(pauseMs, undefined, { signal: dismissed.signal });
      startedAt = performance.now();
      try {
        return await start();
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
      }
    }
  };
  /** The pause before a start was cut short: there will be none. */
  const ifDismissed = (error: unknown): void => {
    if (!dismissed.signal.aborted) throw error;
  };
  return {
    get deaths() {
      return deaths;
    },
    died: (how) => {
      if (!dismissed.signal.aborted) starting = starting.then(() => bringBack(how)).catch(ifDismissed);
    },
    dismiss: async () => {
      dismissed.abort();
      await starting;
    },
  };
}
