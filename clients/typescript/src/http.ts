/** Requests to one of the nodes, each bounded in time; and the patience between them. */
import type { Clock } from "./clock.ts";
import { isPassing, lost, PassingError, problemOf, RefusedError, UnavailableError } from "./errors.ts";
import type { ClientOptions } from "./types.ts";

/** Spillway answers within 5 s, with 503 if it must; the rest is for the way there. */
export const ANSWER_MS = 15_000;
const TIMEOUT_MS = 60_000;
const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 10_000;
/** The longest that Spillway asks for. */
const RETRY_AFTER_MS_MAX = 3_600_000;

export interface Request {
  /** From `/api` on. */
  readonly path: string;
  /** Makes it a POST. */
  readonly body?: string;
  readonly signal?: AbortSignal | undefined;
  /** Default ANSWER_MS. */
  readonly limitMs?: number;
}

/** An answer with 2xx, read to its end. */
export interface Answer {
  readonly json: unknown;
  header(name: string): string | null;
}

/** An AbortSignal that follows another, and has an alarm that can be set again and again. */
export class Limit {
  readonly #clock: Clock;
  readonly #outer: AbortSignal | undefined;
  readonly #controller = new AbortController();
  readonly #abort = (): void => this.#controller.abort(this.#outer?.reason);
  #cancel = (): void => undefined;

  constructor(clock: Clock, outer: AbortSignal | undefined) {
    this.#clock = clock;
    this.#outer = outer;
    outer?.addEventListener("abort", this.#abort);
    if (outer?.aborted) this.#abort();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Aborts unless `relax`, `end` or another call of this comes within `ms`. */
  within(ms: number, what: string): void {
    this.#cancel();
    this.#cancel = this.#clock.after(ms, () =>
      this.#controller.abort(new Error(`${what} within ${Math.ceil(ms / 1_000)} s`)),
    );
  }

  relax(): void {
    this.#cancel();
  }

  /** Aborts what is still under way; must be called. */
  end(): void {
    this.#cancel();
    this.#outer?.removeEventListener("abort", this.#abort);
    this.#controller.abort();
  }
}

export class Http {
  readonly clock: Clock;
  readonly token: string | undefined;
  readonly timeoutMs: number;
  readonly #urls: readonly string[];
  readonly #onRetry: (why: Error) => void;
  /** All requests go to one node until it fails. */
  #at: number;

  /** @throws TypeError for an address that is none */
  constructor({ url, token, timeoutMs = TIMEOUT_MS, onRetry = () => undefined }: ClientOptions, clock: Clock) {
    const urls = typeof url === "string" ? [url] : url;
    for (const one of urls)
      if (!/^https?:\/\//.test(one) || !URL.canParse(one))
        throw new TypeError(`${JSON.stringify(one)} is no address of Spillway: write it as http://host:port`);
    if (urls.length === 0) throw new TypeError("url is empty: name at least one address of Spillway");
    this.#urls = urls.map((one) => one.replace(/\/+$/, ""));
    this.#at = Math.floor(clock.random() * urls.length);
    this.#onRetry = onRetry;
    this.clock = clock;
    this.token = token;
    this.timeoutMs = timeoutMs;
  }

  /** The node in use. */
  get url(): string {
    return this.#urls[this.#at] as string;
  }

  /** It failed: the next one is in use from now on. Another request may have found that out before. */
  leave(url: string): void {
    if (url === this.url) this.#at = (this.#at + 1) % this.#urls.length;
  }

  /**
   * One attempt, and its answer's head; the body is read under the same limit, whose end is the caller's to call.
   * @throws PassingError, RefusedError; whatever `limit` was aborted with
   */
  async open(request: Request, limit: Limit, accept: string): Promise<Response> {
    const { path, body, limitMs = ANSWER_MS } = request;
    const { url } = this;
    const headers = {
      accept,
      ...(this.token !== undefined && { authorization: `Bearer ${this.token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
    };
    limit.within(limitMs, "no answer");
    try {
      const method = body === undefined ? "GET" : "POST";
      const { signal } = limit;
      const response = await fetch(`${url}${path}`, { method, headers, signal, ...(body !== undefined && { body }) });
      if (!response.ok) throw failure(response, `${url}${path}`, await response.text(), this.clock);
      return response;
    } catch (error) {
      request.signal?.throwIfAborted();
      if (error instanceof RefusedError) throw error;
      this.leave(url);
      throw error instanceof PassingError ? error : lost(url, error);
    }
  }

  /** One attempt. @throws PassingError, RefusedError; the reason of `signal` when that aborts */
  async ask(request: Request): Promise<Answer> {
    const limit = new Limit(this.clock, request.signal);
    const { url } = this;
    try {
      const response = await this.open(request, limit, "application/json");
      const text = await response.text();
      return { json: JSON.parse(text), header: (name) => response.headers.get(name) };
    } catch (error) {
      request.signal?.throwIfAborted();
      if (error instanceof RefusedError || error instanceof PassingError) throw error;
      this.leave(url);
      throw lost(url, error);
    } finally {
      limit.end();
    }
  }

  /** Attempts until one succeeds. @throws RefusedError; UnavailableError; the reason of `signal` when that aborts */
  async insist(request: Request): Promise<Answer> {
    const untilMs = this.clock.elapsed() + this.timeoutMs;
    for (let failures = 1; ; failures++) {
      const leftMs = untilMs - this.clock.elapsed();
      try {
        return await this.ask({ ...request, limitMs: Math.min(ANSWER_MS, leftMs) });
      } catch (error) {
        if (!(error instanceof PassingError)) throw error;
        const pauseMs = this.pauseMs(failures, error);
        if (this.clock.elapsed() + pauseMs >= untilMs)
          throw new UnavailableError(`given up after ${failures} attempts`, { cause: error });
        await this.pause(pauseMs, error, request.signal);
        request.signal?.throwIfAborted();
      }
    }
  }

  /** How long to wait after so many failures in a row: what the answer asked for, and a jittered backoff on top. */
  pauseMs(failures: number, { retryAfterMs }: PassingError): number {
    const backoffMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** (failures - 1));
    return retryAfterMs + backoffMs * (0.5 + this.clock.random() / 2);
  }

  /** Tells of the failure and waits; `signal` ends the wait. */
  pause(ms: number, why: PassingError, signal: AbortSignal | undefined): Promise<void> {
    // On a stack of its own: what it throws is the application's to hear of, and changes nothing here.
    queueMicrotask(() => this.#onRetry(why));
    return this.clock.sleep(ms, signal);
  }
}

function failure(response: Response, address: string, text: string, clock: Clock): RefusedError | PassingError {
  const { status } = response;
  const problem = problemOf(status, text);
  if (!isPassing(status)) return new RefusedError(problem);
  const retryAfterMs = asked(response.headers.get("retry-after"), clock);
  const message = `${address.split("?")[0]} answered ${status} ${problem.code}: ${problem.detail}`;
  return new PassingError(message, { problem, retryAfterMs });
}

/** The header Retry-After: seconds, or a date. */
function asked(text: string | null, clock: Clock): number {
  if (text === null) return 0;
  const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1_000 : Date.parse(text) - clock.now();
  return Math.min(RETRY_AFTER_MS_MAX, Math.max(0, ms) || 0);
}
