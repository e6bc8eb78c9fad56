/** Those who wait until a partition has been read up to a mark. Each wait ends by its own deadline. */
import type { Clock } from "#lib/clock.ts";

interface Waiter {
  readonly mark: bigint;
  settle(reached: boolean): void;
}

export class Waiters {
  readonly #clock: Clock;
  readonly #waiting = new Map<number, Set<Waiter>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Resolves to true once `reached` is called for the partition with an offset at or above `mark`, to false at the deadline.
   * @param untilMs on the clock's `elapsed`
   */
  wait(partition: number, mark: bigint, untilMs: number): Promise<boolean> {
    const leftMs = untilMs - this.#clock.elapsed();
    if (leftMs <= 0) return Promise.resolve(false);
    return new Promise((resolve) => {
      const here = this.#waiting.get(partition) ?? new Set<Waiter>();
      this.#waiting.set(partition, here);
      const waiter: Waiter = {
        mark,
        settle: (reached) => {
          cancel();
          here.delete(waiter);
          resolve(reached);
        },
      };
      const cancel = this.#clock.after(leftMs, () => waiter.settle(false));
      here.add(waiter);
    });
  }

  /** @param next first offset not yet read */
  reached(partition: number, next: bigint): void {
    for (const waiter of this.#waiting.get(partition) ?? []) if (next >= waiter.mark) waiter.settle(true);
  }
}
