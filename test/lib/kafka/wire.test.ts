import { once } from "node:events";
import { expect, test } from "vitest";
import { Wire } from "#lib/kafka/wire.ts";
import { freePorts } from "../../../infra/ports.ts";

test("a socket to a broker that is away collects nothing, however often the library lets go of it", async () => {
  const [port = 0] = await freePorts(1);
  const wire = new Wire([`127.0.0.1:${port}`]);
  const socket = wire.open({ host: "127.0.0.1", port, ssl: undefined as never, onConnect: () => undefined });
  await once(socket, "error");
  const before = socket.listenerCount("connect");
  for (let time = 0; time < 20; time++) socket.unref();
  expect(socket.listenerCount("connect")).toBe(before);
  wire.close();
});
