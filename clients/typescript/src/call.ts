/** One call of `post`, from its events to its end. Its events are sent together, all or none. */
import type { Clock } from "./clock.ts";
import { type EventProblem, type Problem, RefusedError, UnavailableError } from "./errors.ts";
import type { Acknowledged, NewEvent } from "./types.ts";

const encoder = new TextEncoder();

export class Call {
  readonly ids: readonly string[];
  readonly promise: Promise<Acknowledged[]>;
  /** It was refused together with others, and nobody said which of them was meant. */
  alone = false;
  /** UTF-8 of `text`; 0 before `print` and after the end. */
  bytes = 0;
  /** The events with commas between them. */
  text = "";
  #attempts = 0;
  /** Whether an attempt may have stored any of it, and whether one before the last may. */
  #stored: "no" | "unknown" = "no";
  #storedBefore: "no" | "unknown" = "no";
  readonly #events: readonly NewEvent[];
  readonly #settle: PromiseWithResolvers<Acknowledged[]> = Promise.withResolvers();
  readonly #signal: AbortSignal | undefined;
  readonly #abort = (): void => this.fail(this.#signal?.reason);
  #cancel: (() => void) | null = null;
  #onEnd: (() => void) | null = null;

  constructor(events: readonly NewEvent[], clock: Clock, signal: AbortSignal | undefined) {
    this.#events = events;
    this.ids = events.map(({ id }) => id ?? clock.newId());
    this.promise = this.#settle.promise;
    this.#signal = signal;
  }

  get size(): number {
    return this.ids.length;
  }

  /** Ends by itself from now on: after `ms`, or with its signal. @param onEnd called once, at its end of any kind */
  watch(clock: Clock, ms: number, cause: () => unknown, onEnd: () => void): void {
    this.#onEnd = onEnd;
    this.#cancel = clock.after(ms, () => {
      const more = { cause: cause() ?? "no answer yet", stored: this.#stored, ids: this.ids };
      this.fail(new UnavailableError(`not acknowledged within ${ms / 1_000} s`, more));
    });
    this.#signal?.addEventListener("abort", this.#abort);
  }

  /** Writes its events as they will be sent, every time. @throws TypeError for what JSON cannot hold */
  print(): void {
    this.text = this.#events.map((event, at) => JSON.stringify({ ...event, id: this.ids[at] })).join(",");
    this.bytes = encoder.encode(this.text).length;
  }

  /** It is being sent. */
  attempt(): void {
    this.#attempts += 1;
    this.#storedBefore = this.#stored;
    this.#stored = "unknown";
  }

  /** The last attempt stored nothing, it was said. */
  storedNothing(): void {
    this.#stored = this.#storedBefore;
  }

  /** @returns false when the receipts are not those of its events */
  acknowledge(receipts: readonly { readonly id?: unknown; readonly cursor?: unknown }[]): boolean {
    const attempts = this.#attempts;
    const got = receipts.map(({ id, cursor }) => ({ id: String(id), cursor: String(cursor), attempts }));
    if (got.length !== this.size || got.some(({ id }, at) => id !== this.ids[at])) return false;
    this.#end();
    this.#settle.resolve(got);
    return true;
  }

  /** @param problems those of its own events, if any */
  refuse(problem: Problem, problems: readonly EventProblem[]): void {
    this.fail(new RefusedError(problem, problems));
  }

  fail(error: unknown): void {
    this.#end();
    this.#settle.reject(error);
  }

  #end(): void {
    this.#cancel?.();
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#onEnd?.();
    this.#onEnd = null;
    this.text = "";
    this.bytes = 0;
  }
}
