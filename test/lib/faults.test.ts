import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import { text } from "node:stream/consumers";
import { Type } from "typebox";
import { afterEach, expect, test } from "vitest";
import { createServer, rawBody, type Server } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { silentLog } from "../support/records.ts";

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

/** A node that stores an event when the test lets it, and a connection to it. */
async function given(prepare: (server: Server) => void = () => undefined) {
  const ready = () => ({ ready: true, missing: [] });
  const server = await createServer({ log: silentLog, metrics: createMetrics(), access: null, ready, title: "T" });
  servers.push(server);
  const entered = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const schema = { consumes: ["application/json"], body: rawBody(Type.Unknown()) };
  server.post("/api/v1/events", { schema }, async (_request, reply) => {
    entered.resolve();
    await opened.promise;
    return reply.code(201).send({ stored: true });
  });
  prepare(server);
  await server.listen({ host: "127.0.0.1", port: 0 });
  const socket = connect((server.server.address() as AddressInfo).port, "127.0.0.1");
  await once(socket, "connect");
  return { server, socket, entered: entered.promise, open: opened.resolve };
}

const head = (length: number): string =>
  `POST /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`;

test("what is no HTTP behind an event that is being stored is never taken for that event's answer", async () => {
  const { server, socket, entered, open } = await given();
  const answered = text(socket);
  socket.write(`${head(2)}{}`);
  await entered;
  const broken = once(server.server, "clientError");
  socket.write("NONSENSE\r\n\r\n");
  await broken;
  open();
  expect(await answered).not.toContain(" 400 ");
});

test("a request that does not come to its end in time is told so", async () => {
  const { socket } = await given((server) => {
    server.server.requestTimeout = 1;
    server.server.headersTimeout = 1;
    Object.assign(server.server, { connectionsCheckingInterval: 1 });
  });
  const answered = text(socket);
  socket.write(`${head(10)}{`);
  expect(await answered).toMatch(/^HTTP\/1.1 408 .*"code":"request-timeout"/s);
});
