/** Frames over server-sent events, read with fetch: what is not read stays with the server, and the header takes the token. */
import { PassingError } from "./errors.ts";
import { ANSWER_MS, type Http, Limit } from "./http.ts";

/** A frame has at most 256 KiB, or one event. */
const LINE_CHARACTERS_MAX = 4 * 1024 * 1024;
/** A node that lives sends a cursor at least every minute. */
export const SILENCE_MS = 75_000;

/** The data of one connection's messages, until it ends. @throws PassingError, RefusedError; the reason of `signal` */
export async function* overEventStream(
  http: Http,
  path: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<string, void, undefined> {
  const limit = new Limit(http.clock, signal);
  const { url } = http;
  try {
    const response = await http.open({ path, signal, limitMs: ANSWER_MS }, limit, "text/event-stream");
    const type = response.headers.get("content-type") ?? "";
    if (!type.startsWith("text/event-stream") || response.body === null)
      throw new PassingError(`${url} answered ${type || "nothing"} instead of an event stream`);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const parser = new EventStreamParser();
    for (;;) {
      limit.within(SILENCE_MS, `${url} sent nothing`);
      const { done, value } = await reader.read();
      // While the frames are being used nothing is missed: the next byte is not asked for before.
      limit.relax();
      if (done) return;
      yield* parser.take(decoder.decode(value, { stream: true }));
    }
  } finally {
    limit.end();
  }
}

/** Text in pieces of any cut → the data of whole messages. What an end cuts off is no message. */
export class EventStreamParser {
  #rest = "";
  #data: string[] = [];

  /** @throws PassingError for a line without an end in sight */
  *take(text: string): Generator<string, void, undefined> {
    // A CR at the end may be half of a CRLF.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > LINE_CHARACTERS_MAX)
      throw new PassingError(`a line of the event stream is longer than ${LINE_CHARACTERS_MAX} characters`);
    for (const line of lines) {
      if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      if (line !== "" || this.#data.length === 0) continue;
      yield this.#data.join("\n");
      this.#data = [];
    }
  }
}
