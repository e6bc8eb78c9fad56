import { once } from "node:events";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { Wire } from "#lib/kafka/wire.ts";

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address ? address.port : 0;
}

test("a socket to a broker that is away collects nothing, however often the library lets go of it", async () => {
  const port = await closedPort();
  const wire = new Wire([`127.0.0.1:${port}`]);
  const socket = wire.open({ host: "127.0.0.1", port, ssl: undefined as never, onConnect: () => undefined });
  await once(socket, "error");
  const before = socket.listenerCount("connect");
  for (let time = 0; time < 20; time++) socket.unref();
  expect(socket.listenerCount("connect")).toBe(before);
  wire.close();
});
