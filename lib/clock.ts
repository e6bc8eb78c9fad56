/** Time, timers, randomness and ids. Everywhere else they are arguments, so that a test can move them. */
import { setTimeout as delay } from "node:timers/promises";
import { v7 } from "uuid";

export interface Clock {
  /** Wall clock, ms since 1970. */
  now(): number;
  /** Monotonic, ms since an arbitrary start; for durations. */
  elapsed(): number;
  /** Resolves after `ms`, or at once when `signal` aborts; never rejects, so that loops end by their own condition. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `run` once after `ms` unless the returned function is called first. The timer keeps no process alive. */
  after(ms: number, run: () => void): () => void;
  /** Uniform in [0, 1). */
  random(): number;
  /** A new UUIDv7: unique, and ascending within this process. */
  newId(): string;
}

export const systemClock: Clock = {
  now: Date.now,
  elapsed: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, signal ? { signal } : {}).catch(() => undefined),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
  random: Math.random,
  newId: () => v7(),
};
