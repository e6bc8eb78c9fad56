/** Follows one client over a WebSocket. A lost connection is opened again at the last cursor. */
import { setTimeout as delay } from "node:timers/promises";
import WebSocket from "ws";
import { authorization } from "./client.ts";
import type { Comparison, Shown } from "./compare.ts";

export interface FollowFigures {
  frames: number;
  /** Made one after the other: one, unless it was lost. */
  connections: number;
}

const RETRY_MS = 300;
/** The node sends a cursor at least every minute. */
const SILENCE_MS = 75_000;

type Frame =
  | { readonly type: "events"; readonly events: readonly Shown[] }
  | { readonly type: "caughtUp" | "fellBehind"; readonly cursor: string }
  | { readonly type: "problem"; readonly problem: { readonly detail: string } };

/** The node, and the token of a key where it has keys. */
export interface Target {
  readonly url: string;
  readonly token: string | undefined;
}

export class Follower {
  readonly figures: FollowFigures = { frames: 0, connections: 0 };
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #clientId: string;
  readonly #comparison: Comparison;
  readonly #stop = new AbortController();
  #cursor: string;
  /** Why the last connection ended, for the person who waits. */
  #ended = "never connected";
  #changed = Promise.withResolvers<void>();

  /** @param after the cursor before this run's first event */
  constructor({ url, token }: Target, clientId: string, after: string, comparison: Comparison) {
    this.#url = url.replace(/^http/, "ws");
    this.#headers = authorization(token);
    this.#clientId = clientId;
    this.#cursor = after;
    this.#comparison = comparison;
  }

  /** Follows until `close`. Never rejects. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.figures.connections += 1;
      await this.#connection();
      await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Resolves when every event has come, or after `limitMs`. @returns what is in the way, if they did not */
  async complete(limitMs: number): Promise<string | undefined> {
    const limit = AbortSignal.timeout(limitMs);
    limit.addEventListener("abort", () => this.#changed.resolve(), { once: true });
    while (!this.#comparison.complete && !limit.aborted) {
      await this.#changed.promise;
      this.#changed = Promise.withResolvers();
    }
    return this.#comparison.complete ? undefined : `not all came within ${limitMs / 1_000} s (${this.#ended})`;
  }

  close(): void {
    this.#stop.abort();
  }

  #connection(): Promise<void> {
    const query = new URLSearchParams({ clientId: this.#clientId, after: this.#cursor });
    const socket = new WebSocket(`${this.#url}/api/v1/events/live?${query}`, {
      perMessageDeflate: false,
      headers: this.#headers,
    });
    const silence = setTimeout(() => socket.terminate(), SILENCE_MS);
    const end = (): void => socket.close();
    this.#stop.signal.addEventListener("abort", end, { once: true });
    return new Promise((resolve) => {
      socket.on("message", (data: Buffer) => {
        silence.refresh();
        this.#frame(JSON.parse(data.toString("utf8")) as Frame);
      });
      socket.on("error", (error) => {
        this.#ended = error.message;
      });
      socket.on("close", (code, reason) => {
        clearTimeout(silence);
        this.#stop.signal.removeEventListener("abort", end);
        if (code !== 1006) this.#ended = `closed with ${code} ${reason}`;
        resolve();
      });
    });
  }

  #frame(frame: Frame): void {
    this.figures.frames += 1;
    if (frame.type === "events") {
      for (const event of frame.events) this.#comparison.take(event);
      this.#cursor = frame.events.at(-1)?.cursor ?? this.#cursor;
      this.#changed.resolve();
    } else if (frame.type === "problem") this.#ended = frame.problem.detail;
    else this.#cursor = frame.cursor;
  }
}
