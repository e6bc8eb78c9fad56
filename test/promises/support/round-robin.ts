/** What stands before query nodes where they run: each request, and each WebSocket, goes to the next of them. */
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import type { Node } from "./producer.ts";

export interface RoundRobin extends Node, AsyncDisposable {
  /** From the next request on. */
  nodes: readonly Node[];
}

/** On a free port of 127.0.0.1: `await using proxy = await roundRobin(nodes)`. A node that does not answer is 502. */
export async function roundRobin(nodes: readonly Node[]): Promise<RoundRobin> {
  let turn = 0;
  const next = (): URL => {
    const node = proxy.nodes[turn++ % proxy.nodes.length];
    if (node === undefined) throw new Error("the proxy has no node");
    return new URL(node.url);
  };
  const server = createServer((incoming: IncomingMessage, response: ServerResponse) => {
    const { method, headers, url = "/" } = incoming;
    const onward = request(new URL(url, next()), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    incoming.pipe(onward);
  });
  const sockets = new Set<Socket>();
  server.on("upgrade", ({ method, url, rawHeaders }: IncomingMessage, client: Socket, head: Buffer) => {
    const { hostname, port } = next();
    const lines = rawHeaders.map((text, n) => (n % 2 === 0 ? `\r\n${text}: ` : text)).join("");
    const node = connect(Number(port), hostname, () => {
      node.write(`${method} ${url} HTTP/1.1${lines}\r\n\r\n`);
      node.write(head);
      node.pipe(client).pipe(node);
    });
    for (const [socket, other] of [
      [client, node],
      [node, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        other.destroy();
        sockets.delete(socket);
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const proxy: RoundRobin = {
    name: "the proxy",
    url: `http://127.0.0.1:${address.port}`,
    nodes,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}
