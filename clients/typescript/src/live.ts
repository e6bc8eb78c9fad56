/** A client's events as they come, over as many connections as it takes. */
import { isPassing, lost, PassingError, type Problem, RefusedError } from "./errors.ts";
import { overEventStream } from "./event-stream.ts";
import type { Http } from "./http.ts";
import { overWebSocket } from "./socket.ts";
import type { Event, FollowOptions, Frame } from "./types.ts";

/** As they are sent. */
type SentFrame =
  | { readonly type: "events"; readonly events: readonly Event[] }
  | { readonly type: "caughtUp" | "fellBehind"; readonly cursor: string }
  | { readonly type: "problem"; readonly problem: Problem };

/** What the server says, and what befell the connection. Ends only by its signal, or a refusal. @throws RefusedError */
export async function* frames(
  http: Http,
  clientId: string,
  options: FollowOptions,
): AsyncGenerator<Frame, void, undefined> {
  const { signal, types = [], transport = "sse" } = options;
  let { after } = options;
  for (let failures = 1; ; failures++) {
    const { url } = http;
    let why = new PassingError(`${url} ended the connection`);
    try {
      for await (const frame of connection(http, pathOf(clientId, after, types), transport, signal)) {
        if (frame.type !== "interrupted") failures = 1;
        after = cursorOf(frame) ?? after;
        yield frame;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof RefusedError) throw error;
      why = error instanceof PassingError ? error : lost(url, error);
    }
    http.leave(url);
    yield { type: "interrupted", cause: why };
    await http.pause(http.pauseMs(failures, why), why, signal);
    signal?.throwIfAborted();
  }
}

/** The frames of one connection, until it ends. @throws RefusedError, PassingError */
async function* connection(
  http: Http,
  path: string,
  transport: "sse" | "websocket",
  signal: AbortSignal | undefined,
): AsyncGenerator<Frame, void, undefined> {
  const texts = transport === "sse" ? overEventStream(http, path, signal) : overWebSocket(http, path, signal);
  for await (const text of texts) {
    const frame = frameOf(JSON.parse(text) as SentFrame);
    if (frame !== undefined) yield frame;
  }
}

/** The events of those frames, one by one. */
export async function* follow(
  http: Http,
  clientId: string,
  options: FollowOptions,
): AsyncGenerator<Event, void, undefined> {
  for await (const frame of frames(http, clientId, options)) if (frame.type === "events") yield* frame.events;
}

function pathOf(clientId: string, after: string | undefined, types: readonly string[]): string {
  const query = new URLSearchParams({ clientId });
  if (after !== undefined) query.set("after", after);
  for (const type of types) query.append("type", type);
  return `/api/v1/events/live?${query}`;
}

/** Undefined: of a kind that a later version has. @throws RefusedError for what will not pass */
function frameOf(sent: SentFrame): Frame | undefined {
  switch (sent.type) {
    case "events":
    case "caughtUp":
    case "fellBehind":
      return sent;
    case "problem":
      if (!isPassing(sent.problem.status)) throw new RefusedError(sent.problem);
      return { type: "interrupted", cause: new PassingError(`${sent.problem.code}: ${sent.problem.detail}`, sent) };
    default:
      sent satisfies never;
      return undefined;
  }
}

const cursorOf = (frame: Frame): string | undefined => {
  if (frame.type === "interrupted") return undefined;
  return frame.type === "events" ? frame.events.at(-1)?.cursor : frame.cursor;
};
