import { once } from "node:events";
import { type AddressInfo, connect, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { afterEach, expect, test } from "vitest";
import { createServer, type Server } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { Answers } from "../../../apps/query/answers.ts";
import { ClientOrder } from "../../../apps/query/places.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { silentLog } from "../../support/records.ts";
import { until } from "../../support/until.ts";

const order = new ClientOrder("1", { epoch: 1, partitions: new Map([[1, 1]]) });
const event = `{"text":"${"é".repeat(500_000)}"}`;
/** Eight events of 1 MB: of 128 MiB, 16 such pages leave no room for another. */
const page = {
  events: Array<string>(8).fill(event),
  next: { epoch: 1, offset: 7n },
  hasMore: true,
  savedThrough: null,
};
const body = `{"events":[${page.events.join(",")}],"next":"${order.cursor(page.next)}","hasMore":true}`;

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) await server.close();
});

async function given() {
  const clock = fakeClock();
  const ready = () => ({ ready: true, missing: [] });
  const server = await createServer({
    log: silentLog,
    metrics: createMetrics(),
    access: null,
    ready,
    title: "T",
    clock,
  });
  servers.push(server);
  const answers = new Answers(clock);
  let printed = 0;
  const arrived = { count: 0, go: Promise.resolve() };
  server.get("/page", async (_request, reply) => {
    arrived.count++;
    await arrived.go;
    const bytes = answers.print(page, order, reply);
    printed++;
    return bytes;
  });
  await server.listen({ host: "127.0.0.1", port: 0 });
  const { port } = server.server.address() as AddressInfo;
  /** A reader that has asked, and reads nothing yet. */
  const reader = async (): Promise<Socket> => {
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    sockets.push(socket);
    await once(socket, "connect");
    socket.pause().write("GET /page HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    return socket;
  };
  const readers = async (count: number): Promise<Socket[]> => {
    const before = printed;
    const asked: Socket[] = [];
    for (let n = 1; n <= count; n++) {
      asked.push(await reader());
      await until("the page was printed", () => printed === before + n);
    }
    return asked;
  };
  const read = async (socket: Socket): Promise<string> => String(await buffer(socket));
  return { clock, server, reader, readers, read, arrived, url: `http://127.0.0.1:${port}/page` };
}

test("pages that nobody takes fill their room: others are told to come again, until somebody reads", async () => {
  const { readers, reader, read, url } = await given();
  const [first] = (await readers(16)) as [Socket];
  const refused = await fetch(url);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await refused.json()).toMatchObject({ code: "overloaded" });
  expect(await read(first)).toContain(body);
  expect(await read(await reader())).toContain(body);
});

test("a reader that has not taken its page for 10 s loses its connection when another one needs the room", async () => {
  const { clock, readers, url } = await given();
  const [first, second] = (await readers(16)) as [Socket, Socket];
  await clock.advance(9_999);
  expect((await fetch(url)).status).toBe(503);
  await clock.advance(1);
  const answer = await fetch(url);
  expect([answer.status, await answer.text()]).toEqual([200, body]);
  await once(first.resume(), "close");
  expect(first.bytesRead).toBeLessThan(Buffer.byteLength(body));
  expect(second.destroyed).toBe(false);
});

test("a page for a reader that has gone meanwhile takes no room", async () => {
  const { server, reader, arrived, url } = await given();
  const gate = Promise.withResolvers<void>();
  arrived.go = gate.promise;
  for (let n = 1; n <= 20; n++) {
    const gone = once(server.server, "connection").then(([socket]) => once(socket as Socket, "close"));
    const socket = await reader();
    await until("it was asked", () => arrived.count === n);
    socket.destroy();
    await gone;
  }
  gate.resolve();
  const answer = await fetch(url);
  expect([answer.status, await answer.text()]).toEqual([200, body]);
});
