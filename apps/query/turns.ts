/** Takes turns: whoever has something to send gets one short turn after the other, and nobody two while others wait. */
import type { Clock } from "#lib/clock.ts";

/** Somebody with work in small steps. */
export interface Runner {
  /** One step, which never throws. @returns whether there is more to do at once */
  run(): boolean;
}

/** Steps before the event loop has its turn too: 2 ms of frames. */
const STEPS_MAX = 128;

export class Turns {
  readonly #clock: Pick<Clock, "turn">;
  readonly #queue = new Set<Runner>();
  #serving = false;

  constructor(clock: Pick<Clock, "turn">) {
    this.#clock = clock;
  }

  /** Has something to do. Again before its turn changes nothing. */
  add(runner: Runner): void {
    this.#queue.add(runner);
    if (!this.#serving) void this.#serve();
  }

  async #serve(): Promise<void> {
    this.#serving = true;
    let steps = 0;
    // Who is added meanwhile, or again, comes last.
    for (const runner of this.#queue) {
      this.#queue.delete(runner);
      if (runner.run()) this.#queue.add(runner);
      if (++steps % STEPS_MAX === 0) await this.#clock.turn();
    }
    this.#serving = false;
  }
}
