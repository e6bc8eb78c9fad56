/** A real HTTP and WebSocket server that answers as a test says: what the real one does too seldom to wait for. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { text } from "node:stream/consumers";
import { type WebSocket, WebSocketServer } from "ws";
import { until } from "../../support/until.ts";

interface Sent {
  readonly clientId: string;
  readonly id: string;
  readonly type: string;
  readonly data?: unknown;
}

export interface Got {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Of a POST. */
  readonly events: readonly Sent[];
}

type Answer = (got: Got, response: ServerResponse) => void | Promise<void>;
type Serve = (socket: WebSocket, query: URLSearchParams) => void;

export class FakeSpillway implements AsyncDisposable {
  readonly got: Got[] = [];
  readonly url: string;
  /** For requests without an answer of their own. */
  answer: Answer = acknowledge;
  serve: Serve = (socket) => socket.close(1013);
  readonly #answers: Answer[] = [];
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets: Set<Socket>;

  private constructor(server: ReturnType<typeof createServer>, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(): Promise<FakeSpillway> {
    const sockets = new Set<Socket>();
    const server = createServer((request, response) => {
      void text(request).then(async (body) => {
        const url = new URL(request.url ?? "/", "http://fake");
        const events = request.method === "POST" ? (JSON.parse(body) as Sent[]) : [];
        const { method = "", headers } = request;
        const got = { method, path: url.pathname, query: url.searchParams, headers, body, events };
        fake.got.push(got);
        await (fake.#answers.shift() ?? fake.answer)(got, response);
      });
    });
    server.on("connection", (socket) => sockets.add(socket.on("close", () => sockets.delete(socket))));
    const sockets13 = new WebSocketServer({ noServer: true });
    server.on("upgrade", (request, socket, head) =>
      sockets13.handleUpgrade(request, socket, head, (opened) =>
        fake.serve(opened, new URL(request.url ?? "/", "http://fake").searchParams),
      ),
    );
    await once(server.listen(0, "127.0.0.1"), "listening");
    const fake: FakeSpillway = new FakeSpillway(server, sockets);
    return fake;
  }

  /** The next requests are answered so, one each. */
  next(...answers: Answer[]): void {
    this.#answers.push(...answers);
  }

  /** Resolves once so many requests have come. */
  async requests(count: number): Promise<void> {
    await until(`${count} requests`, () => this.got.length >= count);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

/** 201, as Spillway does. */
export function acknowledge({ events }: Got, response: ServerResponse): void {
  json(response, 201, { events: events.map(({ id }) => ({ id, cursor: `cursor-of-${id}` })) });
}

/** No answer, although the request came. */
export function lose(_got: Got, response: ServerResponse): void {
  response.socket?.destroy();
}

export const refuse =
  (status: number, problem: object, headers: Readonly<Record<string, string>> = {}): Answer =>
  (_got, response) =>
    json(response, status, { type: "t", title: "T", status, detail: "D", ...problem }, headers);

export function json(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}

/** An answer that comes when `release` is called. */
export function held(): { answer: Answer; release: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    answer: async (got, response) => {
      await promise;
      acknowledge(got, response);
    },
    release: resolve,
  };
}
