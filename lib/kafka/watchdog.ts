/** Tells when a group member has fetched nothing for long: its end is kafkajs' to declare, its silence is ours to see. */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";

/** A fetch ends within a second when all is well, and within 15 when its connection is dead. */
const SILENCE_MS = 30_000;

export class Watchdog {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #group: { readonly topic: string; readonly groupId: string };
  #fetchedAt = 0;
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, log: Log, group: { readonly topic: string; readonly groupId: string }) {
    this.#clock = clock;
    this.#log = log;
    this.#group = group;
  }

  /** A fetch has ended. */
  reset(): void {
    this.#fetchedAt = this.#clock.elapsed();
    this.#cancel ??= this.#clock.after(SILENCE_MS, () => this.#look());
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = () => undefined;
  }

  #look(): void {
    const silentMs = this.#clock.elapsed() - this.#fetchedAt;
    if (silentMs >= SILENCE_MS) {
      const { topic, groupId } = this.#group;
      this.#log.warn("no fetch has ended for long", { topic, groupId, silentMs: Math.round(silentMs) });
    }
    this.#cancel = this.#clock.after(SILENCE_MS, () => this.#look());
  }
}
