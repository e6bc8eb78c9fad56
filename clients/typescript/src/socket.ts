/**
 * Frames over the platform's WebSocket, which takes whatever the server sends, as fast as it comes. So it has a bound here:
 * with more than that waiting it is closed, what waits is handed out, and then it is opened again at the last cursor.
 */
import { PassingError, RefusedError } from "./errors.ts";
import { SILENCE_MS } from "./event-stream.ts";
import { ANSWER_MS, type Http, Limit } from "./http.ts";

/** Frames that came and were not taken. One is at most 256 KiB, or one event. */
const WAITING_CHARACTERS_MAX = 4 * 1024 * 1024;
/** Of those that stand for a problem, 4000 and its status, these change by coming again. */
const PASSING_CODES = new Set([4408, 4429]);

/** The messages of one connection, until it ends. @throws PassingError, RefusedError; the reason of `signal` */
export async function* overWebSocket(
  http: Http,
  path: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<string, void, undefined> {
  const limit = new Limit(http.clock, signal);
  const inbox = new Inbox(http, path, limit.signal);
  try {
    limit.within(ANSWER_MS, "no connection");
    await inbox.opened;
    for (;;) {
      limit.within(SILENCE_MS, `${http.url} sent nothing`);
      const text = await inbox.next();
      limit.relax();
      if (text === undefined) return;
      yield text;
    }
  } finally {
    inbox.close();
    limit.end();
  }
}

class Inbox {
  readonly #socket: WebSocket;
  readonly #opened = Promise.withResolvers<void>();
  readonly #url: string;
  readonly #signal: AbortSignal;
  readonly #texts: string[] = [];
  #characters = 0;
  #ended: { readonly why: Error | undefined } | undefined;
  #wake: () => void = () => undefined;
  readonly #abort = (): void => this.#end(this.#signal.reason);

  constructor({ url, token }: Http, path: string, signal: AbortSignal) {
    this.#url = url;
    this.#signal = signal;
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}${path}`);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      // Only a first message goes everywhere: a browser's WebSocket has no headers.
      if (token !== undefined) socket.send(JSON.stringify({ op: "authenticate", token }));
      this.#opened.resolve();
    });
    socket.addEventListener("message", ({ data }) => this.#put(String(data)));
    socket.addEventListener("close", ({ code, reason }) => this.#end(this.#why(code, reason)));
    signal.addEventListener("abort", this.#abort);
    if (signal.aborted) this.#abort();
  }

  /** Resolves once it is open, or has ended. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** Undefined: it ended, and may be opened again. @throws PassingError, RefusedError; the reason of its signal */
  async next(): Promise<string | undefined> {
    while (this.#texts.length === 0 && this.#ended === undefined)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    const text = this.#texts.shift();
    this.#characters -= text?.length ?? 0;
    if (text === undefined && this.#ended?.why) throw this.#ended.why;
    return text;
  }

  close(): void {
    this.#signal.removeEventListener("abort", this.#abort);
    this.#end(undefined);
  }

  #put(text: string): void {
    this.#texts.push(text);
    this.#characters += text.length;
    // A platform hands nothing on once its socket is being closed: what is here is without a gap.
    if (this.#characters > WAITING_CHARACTERS_MAX) this.#end(undefined);
    this.#wake();
  }

  #end(why: Error | undefined): void {
    this.#ended ??= { why };
    this.#opened.resolve();
    this.#socket.close();
    this.#wake();
  }

  #why(code: number, reason: string): Error {
    const said = `${this.#url} closed with ${code} ${reason}`;
    if (code < 4400 || code > 4499 || PASSING_CODES.has(code)) return new PassingError(said);
    const problem = {
      status: code - 4000,
      code: reason,
      title: "Refused",
      detail: `the socket was closed with ${code}`,
    };
    return new RefusedError(problem);
  }
}
