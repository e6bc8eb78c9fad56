/**
 * Events on their way. One request is under way at a time, and is sent again, with what came meanwhile behind it, until it is
 * answered: so the order of a client's events is that of the calls, whatever is lost and repeated.
 */
import { Call } from "./call.ts";
import { type EventProblem, PassingError, type Problem, RefusedError } from "./errors.ts";
import type { Http } from "./http.ts";
import type { Acknowledged, ClientOptions, NewEvent } from "./types.ts";

/** Of one request, unless a single call has more: Spillway takes 5,000 events and 4 MiB. */
const REQUEST_EVENTS_MAX = 1_000;
const REQUEST_BYTES_MAX = 1024 * 1024;
const BUFFER_BYTES_MAX = 16 * 1024 * 1024;
/** Calls that wait for room in the buffer; whoever awaits its posts has one. */
const WAITING_CALLS_MAX = 10_000;

export class Outbox {
  readonly #http: Http;
  readonly #lingerMs: number;
  readonly #bufferBytesMax: number;
  /** No room for them yet. */
  readonly #waiting = new Set<Call>();
  /** In the order in which they are sent; those under way are the first ones. */
  readonly #queue = new Set<Call>();
  #events = 0;
  #bytes = 0;
  #sending: Promise<void> | null = null;
  /** Ends a wait for company. */
  #full = new AbortController();
  /** Ends everything. */
  readonly #over = new AbortController();
  #closed = false;
  #failure: PassingError | undefined;

  constructor(http: Http, { lingerMs = 0, bufferBytesMax = BUFFER_BYTES_MAX }: ClientOptions) {
    this.#http = http;
    this.#lingerMs = lingerMs;
    this.#bufferBytesMax = bufferBytesMax;
  }

  /** Resolves once all of it is durable. @throws RefusedError, UnavailableError; the reason of `signal` */
  async post(events: readonly NewEvent[], signal: AbortSignal | undefined): Promise<Acknowledged[]> {
    signal?.throwIfAborted();
    if (this.#closed) throw new Error("this client is closed: make another to post");
    if (events.length === 0) return [];
    if (this.#waiting.size >= WAITING_CALLS_MAX)
      throw new Error(`${WAITING_CALLS_MAX} posts wait for room in the buffer: await some before you post more`);
    const { clock, timeoutMs } = this.#http;
    const call = new Call(events, clock, signal);
    call.watch(
      clock,
      timeoutMs,
      () => this.#failure,
      () => this.#forget(call),
    );
    this.#waiting.add(call);
    this.#admit();
    return call.promise;
  }

  /** Takes no more posts, and resolves once those there are have ended. @param signal gives them up */
  async close(signal: AbortSignal | undefined): Promise<void> {
    this.#closed = true;
    this.#full.abort();
    const giveUp = (): void => {
      for (const call of [...this.#waiting, ...this.#queue]) call.fail(signal?.reason);
    };
    signal?.addEventListener("abort", giveUp);
    if (signal?.aborted) giveUp();
    this.#endIfDone();
    await this.#sending;
    signal?.removeEventListener("abort", giveUp);
  }

  #admit(): void {
    for (const call of this.#waiting) {
      if (this.#bytes >= this.#bufferBytesMax) break;
      this.#waiting.delete(call);
      try {
        call.print();
      } catch (error) {
        call.fail(error);
        continue;
      }
      this.#queue.add(call);
      this.#bytes += call.bytes;
      this.#events += call.size;
    }
    if (this.#events >= REQUEST_EVENTS_MAX || this.#bytes >= REQUEST_BYTES_MAX) this.#full.abort();
    if (this.#queue.size > 0) this.#sending ??= this.#send();
  }

  /** It has ended, in whatever way; its bytes are still counted in it. */
  #forget(call: Call): void {
    this.#waiting.delete(call);
    if (this.#queue.delete(call)) {
      this.#bytes -= call.bytes;
      this.#events -= call.size;
      this.#admit();
    }
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (this.#closed && this.#queue.size + this.#waiting.size === 0) this.#over.abort();
  }

  /** Runs while there is something to send. Never rejects. */
  async #send(): Promise<void> {
    // What is posted in one go leaves in one go.
    await Promise.resolve();
    for (let failures = 0; this.#queue.size > 0; ) {
      if (failures === 0 && this.#lingerMs > 0) await this.#linger();
      const batch = this.#batch();
      if (batch.length === 0) break;
      this.#failure = await this.#attempt(batch);
      failures = this.#failure === undefined ? 0 : failures + 1;
      if (this.#failure && this.#queue.size > 0)
        await this.#http.pause(this.#http.pauseMs(failures, this.#failure), this.#failure, this.#over.signal);
    }
    this.#sending = null;
  }

  async #linger(): Promise<void> {
    this.#full = new AbortController();
    if (this.#closed || this.#events >= REQUEST_EVENTS_MAX || this.#bytes >= REQUEST_BYTES_MAX) return;
    await this.#http.clock.sleep(this.#lingerMs, this.#full.signal);
  }

  /** The next ones, as many as go into one request. */
  #batch(): Call[] {
    const batch: Call[] = [];
    let events = 0;
    let bytes = 0;
    for (const call of this.#queue) {
      events += call.size;
      bytes += call.bytes;
      const tooMuch = events > REQUEST_EVENTS_MAX || bytes > REQUEST_BYTES_MAX || call.alone;
      if (batch.length > 0 && tooMuch) break;
      batch.push(call);
      if (call.alone) break;
    }
    return batch;
  }

  /** @returns the failure, when all of it is to be sent again */
  async #attempt(batch: readonly Call[]): Promise<PassingError | undefined> {
    const body = `[${batch.map(({ text }) => text).join(",")}]`;
    for (const call of batch) call.attempt();
    try {
      const { json } = await this.#http.ask({ path: "/api/v1/events", body, signal: this.#over.signal });
      return acknowledge(batch, json);
    } catch (error) {
      if (error instanceof RefusedError || isNotStored(error)) for (const call of batch) call.storedNothing();
      if (error instanceof RefusedError) refuse(batch, error.problem);
      // Anything else is the end of this client: by then every call has ended.
      return error instanceof PassingError ? error : undefined;
    }
  }
}

/** Whether the answer says that nothing of this attempt was stored. */
const isNotStored = (error: unknown): boolean =>
  error instanceof PassingError && (error.problem?.["stored"] === "no" || error.problem?.status === 429);

function acknowledge(batch: readonly Call[], json: unknown): PassingError | undefined {
  const { events } = (json ?? {}) as { events?: unknown };
  const receipts = Array.isArray(events) ? (events as { id?: unknown; cursor?: unknown }[]) : [];
  let at = 0;
  for (const call of batch) {
    if (!call.acknowledge(receipts.slice(at, at + call.size)))
      return new PassingError("the answer to a POST does not name the events that were sent");
    at += call.size;
  }
  return undefined;
}

/** The calls whose events are named end; the others are sent again without them. */
function refuse(batch: readonly Call[], problem: Problem): void {
  const listed = Array.isArray(problem["problems"]) ? (problem["problems"] as EventProblem[]) : [];
  let from = 0;
  const problems = batch.map(({ size }) => {
    const begin = from;
    from += size;
    return listed
      .filter(({ index }) => index >= begin && index < begin + size)
      .map((one) => ({ ...one, index: one.index - begin }));
  });
  const named = problems.some((own) => own.length > 0);
  // A proxy may find too large together what is not so alone. Anything else that names no event concerns them all.
  const together = !named && batch.length > 1 && (problem.status === 400 || problem.status === 413);
  for (const [at, call] of batch.entries()) {
    const own = problems[at] ?? [];
    if (together) call.alone = true;
    else if (own.length > 0 || !named) call.refuse(problem, own);
  }
}
