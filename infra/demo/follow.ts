/** Follows one client for as long as the demo takes, and compares what comes. */
import { RefusedError, type SpillwayClient } from "../../clients/typescript/src/index.ts";
import type { Comparison } from "./compare.ts";

export interface FollowFigures {
  /** With events in them. */
  frames: number;
  /** Connections that were lost, and times when a node could not go on. */
  interruptions: number;
}

export class Follower {
  readonly figures: FollowFigures = { frames: 0, interruptions: 0 };
  readonly #client: SpillwayClient;
  readonly #clientId: string;
  readonly #comparison: Comparison;
  readonly #stop = new AbortController();
  readonly #after: string;
  /** What was last in the way, for the person who waits. */
  #trouble = "nothing was in the way";
  /** It was refused for good. */
  #over = false;
  #changed = Promise.withResolvers<void>();

  /** @param after the cursor before this run's first event */
  constructor(client: SpillwayClient, clientId: string, after: string, comparison: Comparison) {
    this.#client = client;
    this.#clientId = clientId;
    this.#after = after;
    this.#comparison = comparison;
  }

  /** Follows until `close`. Never rejects. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    try {
      for await (const frame of this.#client.frames(this.#clientId, { after: this.#after, signal })) {
        if (frame.type === "interrupted") {
          this.figures.interruptions += 1;
          this.#trouble = frame.cause.message;
        }
        if (frame.type !== "events") continue;
        this.figures.frames += 1;
        for (const event of frame.events) this.#comparison.take(event);
        this.#changed.resolve();
      }
    } catch (error) {
      if (error instanceof RefusedError) this.#trouble = error.message;
    }
    this.#over = true;
    this.#changed.resolve();
  }

  /** Resolves when every event has come, or after `limitMs`. @returns what is in the way, if they did not */
  async complete(limitMs: number): Promise<string | undefined> {
    const limit = AbortSignal.timeout(limitMs);
    limit.addEventListener("abort", () => this.#changed.resolve(), { once: true });
    while (!(this.#comparison.complete || this.#over || limit.aborted)) {
      await this.#changed.promise;
      this.#changed = Promise.withResolvers();
    }
    if (this.#comparison.complete) return undefined;
    return this.#over ? this.#trouble : `not all came within ${limitMs / 1_000} s (${this.#trouble})`;
  }

  close(): void {
    this.#stop.abort();
  }
}
