/** A clock that a test moves. */
import { type Clock, systemClock } from "#lib/clock.ts";

export interface FakeClock extends Clock {
  /** Moves both clocks on and runs what falls due, in order of time. Awaits pending promises between timers. */
  advance(ms: number): Promise<void>;
  /** Somebody sets the wall clock: no time passes. */
  setWall(byMs: number): void;
}

interface Timer {
  readonly atMs: number;
  readonly run: () => void;
}

/** Starts at 1,000,000 ms. `random` answers 0.5. */
export function fakeClock(): FakeClock {
  let nowMs = 1_000_000;
  let wallMs = 0;
  const timers = new Set<Timer>();
  const after = (ms: number, run: () => void): (() => void) => {
    const timer = { atMs: nowMs + ms, run };
    timers.add(timer);
    return () => timers.delete(timer);
  };
  const next = (untilMs: number): Timer | undefined =>
    [...timers].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
  return {
    now: () => nowMs + wallMs,
    elapsed: () => nowMs,
    after,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        after(ms, resolve);
        signal?.addEventListener("abort", () => resolve(), { once: true });
      }),
    turn: () => systemClock.turn(),
    random: () => 0.5,
    newId: systemClock.newId,
    setWall: (byMs) => {
      wallMs += byMs;
    },
    advance: async (ms) => {
      const untilMs = nowMs + ms;
      await settled();
      for (let timer = next(untilMs); timer; timer = next(untilMs)) {
        timers.delete(timer);
        nowMs = timer.atMs;
        timer.run();
        await settled();
      }
      nowMs = untilMs;
    },
  };
}

/** Lets everything run that waits for nothing but its turn. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
