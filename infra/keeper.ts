/** Brings something back that ended without being told to, with growing pauses between the tries. */
import { setTimeout as delay } from "node:timers/promises";
import type { Say } from "./server.ts";

const PAUSE_FIRST_MS = 250;
const PAUSE_MAX_MS = 10_000;
/** Who lived this long is healthy again: the next pause is the first. */
const HEALTHY_MS = 30_000;

export interface Keeper {
  /** To be called when it ended without being told to. */
  died(how: string): void;
  /** From now on its end is wanted. Resolves when no start is under way any more. */
  dismiss(): Promise<void>;
}

/** When to try no more, and whom to tell. */
export interface Patience {
  /** Ends in a row, each before it lived for 30 s. */
  readonly endsMax: number;
  givenUp(): void;
}

/**
 * @param start must resolve once it runs; a rejection counts as another end
 * @param patience without it, it is brought back for ever
 */
export function createKeeper(name: string, start: () => Promise<void>, say: Say, patience?: Patience): Keeper {
  const dismissed = new AbortController();
  let ends = 0;
  let startedAt = performance.now();
  let starting: Promise<void> = Promise.resolve();

  /** Why it could not be started, if that matters any more. */
  const tried = async (): Promise<string | undefined> => {
    startedAt = performance.now();
    try {
      await start();
      return undefined;
    } catch (error) {
      if (dismissed.signal.aborted) return undefined;
      return error instanceof Error ? error.message : String(error);
    }
  };
  const bringBack = async (how: string): Promise<void> => {
    if (performance.now() - startedAt > HEALTHY_MS) ends = 0;
    for (let reason: string | undefined = how; reason !== undefined; ) {
      const pauseMs = Math.min(PAUSE_FIRST_MS * 2 ** ends, PAUSE_MAX_MS);
      ends += 1;
      if (patience && ends >= patience.endsMax) {
        say(`${name} is gone (${reason})`);
        return patience.givenUp();
      }
      say(`${name} is gone (${reason}); starting it again in ${pauseMs / 1000} s`);
      await delay(pauseMs, undefined, { signal: dismissed.signal });
      reason = await tried();
    }
  };
  /** The pause before a start was cut short: there will be none. */
  const ifDismissed = (error: unknown): void => {
    if (!dismissed.signal.aborted) throw error;
  };
  return {
    died: (how) => {
      if (!dismissed.signal.aborted) starting = starting.then(() => bringBack(how)).catch(ifDismissed);
    },
    dismiss: async () => {
      dismissed.abort();
      await starting;
    },
  };
}
