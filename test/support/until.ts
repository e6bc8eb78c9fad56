/** The only place in the tests that looks again and again. */
import { setTimeout as delay } from "node:timers/promises";

const LOOK_MS = 20;

/**
 * Resolves to the first value of `probe` that is neither false, null nor undefined. A probe that throws is asked again.
 * @param what what is waited for, for the message when `limitMs` (default 30 s) is over
 */
export async function until<T>(
  what: string,
  probe: () => T | false | null | undefined | Promise<T | false | null | undefined>,
  { limitMs = 30_000 }: { limitMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    let cause: unknown;
    try {
      const value = await probe();
      if (value !== false && value !== null && value !== undefined) return value;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${limitMs / 1000} s: ${what}`, { cause });
    await delay(LOOK_MS);
  }
}
