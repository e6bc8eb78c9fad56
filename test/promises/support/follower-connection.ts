/** What carries a follower's frames. */
import { get, type IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import type { Node } from "./producer.ts";

export interface Connection {
  readonly opened: Promise<void>;
  readonly open: boolean;
  terminate(): void;
  pause(): void;
  resume(): void;
}

interface Parts {
  readonly headers: Readonly<Record<string, string>>;
  /** @param id of a server-sent event */
  frame(text: string, id?: string): unknown;
  closed(code: number): void;
}

interface Wish {
  /** Left out: of a socket that is shared. */
  readonly clientId?: string;
  readonly after: string | undefined;
}

function addressOf(node: Node, { clientId, after }: Wish): URL {
  const url = new URL("/api/v1/events/live", node.url);
  if (clientId !== undefined) url.searchParams.set("clientId", clientId);
  if (after !== undefined) url.searchParams.set("after", after);
  return url;
}

/** @returns also a way to say something */
export function openSocket(node: Node, wish: Wish, parts: Parts): Connection & { say(message: object): void } {
  const address = addressOf(node, wish).href.replace("http", "ws");
  const socket = new WebSocket(address, { headers: parts.headers });
  socket.on("message", (data: Buffer) => void parts.frame(data.toString("utf8")));
  socket.on("close", parts.closed);
  const opened = new Promise<void>((resolve, reject) => {
    socket.on("open", resolve);
    // Also of a socket that was open; the close code tells the rest then.
    socket.on("error", reject);
  });
  return {
    opened,
    get open() {
      return socket.readyState === WebSocket.OPEN;
    },
    say: (message) => socket.send(JSON.stringify(message)),
    terminate: () => socket.terminate(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
  };
}

/** A stream of server-sent events, which resumes by `Last-Event-ID`. */
export function openStream(node: Node, { after, ...whom }: Wish, parts: Parts): Connection {
  const headers = {
    ...parts.headers,
    accept: "text/event-stream",
    ...(after !== undefined && { "last-event-id": after }),
  };
  const state = { open: false };
  const request = get(addressOf(node, { ...whom, after: undefined }), { headers, agent: false });
  let answer: IncomingMessage | null = null;
  const opened = new Promise<void>((resolve, reject) => {
    request.on("response", (given) => {
      answer = given;
      if (given.statusCode !== 200) {
        given.resume();
        reject(new Error(`live answered ${given.statusCode}`));
        return;
      }
      state.open = true;
      let text = "";
      given.setEncoding("utf8").on("data", (piece: string) => {
        const blocks = (text + piece).split("\n\n");
        text = blocks.pop() ?? "";
        for (const block of blocks) take(block, parts);
      });
      given.on("error", () => undefined);
      given.on("close", () => {
        state.open = false;
        parts.closed(given.complete ? 1012 : 1006);
      });
      resolve();
    });
    request.on("error", reject);
  });
  return {
    opened,
    get open() {
      return state.open;
    },
    terminate: () => request.destroy(),
    pause: () => void answer?.pause(),
    resume: () => void answer?.resume(),
  };
}

/** One event of a stream; `retry` and comments are none. */
function take(block: string, { frame }: Parts): void {
  // Only these end a line: what a regular expression takes for one, as U+2028, may stand in the data.
  const fields = new Map(
    block.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]),
  );
  const data = fields.get("data");
  if (data === undefined) return;
  const name = fields.get("event");
  if (!data.startsWith(`{"type":"${name}"`))
    throw new Error(`an event ${name} with another frame: ${data.slice(0, 200)}`);
  frame(data, fields.get("id"));
}
