import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { Type } from "typebox";
import { afterEach, expect, test } from "vitest";
import { createServer, rawBody, type Server } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { type FakeClock, fakeClock } from "../support/fake-clock.ts";
import { silentLog } from "../support/records.ts";

const MIB = 1024 * 1024;
const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) await server.close();
});

/** A node that has room for two bodies of 4 MiB and little more, and answers with the length and the first and last byte. */
async function given(clock: FakeClock = fakeClock()) {
  const ready = () => ({ ready: true, missing: [] });
  const server = await createServer({
    log: silentLog,
    metrics: createMetrics(),
    access: null,
    ready,
    title: "T",
    clock,
    bodiesBytesMax: 8.5 * MIB,
  });
  servers.push(server);
  const schema = { consumes: ["application/json"], body: rawBody(Type.Unknown()) };
  server.post("/api/v1/events", { schema }, ({ body }) => ({ bytes: body.length, ends: [body.at(0), body.at(-1)] }));
  await server.listen({ host: "127.0.0.1", port: 0 });
  const { port } = server.server.address() as AddressInfo;
  const open = async (...lines: string[]): Promise<Socket> => {
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    sockets.push(socket);
    await once(socket, "connect");
    socket.write(
      ["POST /api/v1/events HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", ...lines, "\r\n"].join(
        "\r\n",
      ),
    );
    return socket;
  };
  return { server, open };
}

/** What comes next on the connection, as text. */
const answer = async (socket: Socket): Promise<string> => String((await once(socket, "data"))[0]);
const chunk = (bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);
const LAST = "0\r\n\r\n";

/** All of a body but its last byte: the node holds it. */
async function unfinished({ server, open }: Awaited<ReturnType<typeof given>>, bytes = 4 * MIB): Promise<Socket> {
  const arrived = once(server.server, "request");
  const socket = await open(`content-length: ${bytes}`);
  const [request] = (await arrived) as [IncomingMessage];
  let came = 0;
  const held = new Promise<void>((resolve) =>
    request.on("data", (part: Buffer) => {
      came += part.length;
      if (came === bytes - 1) resolve();
    }),
  );
  socket.write(Buffer.alloc(bytes - 1, "a"));
  await held;
  return socket;
}

test("a body arrives byte for byte, however it is cut, and however often one connection sends", async () => {
  const { open } = await given();
  const whole = Buffer.alloc(1_000_003, "b").fill("a", 0, 1).fill("c", 1_000_002);
  const told = await open(`content-length: ${whole.length}`);
  told.write(whole);
  expect(await answer(told)).toMatch(/ 200 .*{"bytes":1000003,"ends":\[97,99\]}$/s);
  const cut = await open("transfer-encoding: chunked");
  for (let at = 0; at < whole.length; at += 1_000) cut.write(chunk(whole.subarray(at, at + 1_000)));
  cut.write(LAST);
  expect(await answer(cut)).toMatch(/ 200 .*{"bytes":1000003,"ends":\[97,99\]}$/s);
  cut.write(
    "POST /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\nab",
  );
  expect(await answer(cut)).toMatch(/ 200 .*{"bytes":2,"ends":\[97,98\]}$/s);
});

test("more than 4 MiB in chunks is refused as soon as it is more", async () => {
  const { open } = await given();
  const socket = await open("transfer-encoding: chunked");
  socket.write(chunk(Buffer.alloc(4 * MIB + 1)));
  expect(await answer(socket)).toMatch(/ 413 .*body-too-large/s);
});

test("a body that has no room is refused before it is read, and its connection goes on", async () => {
  const node = await given();
  const { open } = node;
  await unfinished(node);
  const last = await unfinished(node);
  const refused = await open("content-length: 1000000");
  expect(await answer(refused)).toMatch(/ 503 .*retry-after: 1\r.*"code":"overloaded".*"stored":"no"/s);
  const done = answer(last);
  last.write("z");
  expect(await done).toMatch(/ 200 .*{"bytes":4194304,"ends":\[97,122\]}$/s);
  refused.write(Buffer.alloc(1_000_000));
  refused.write(
    "POST /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\nab",
  );
  expect(await answer(refused)).toContain('{"bytes":2,');
});

test("a body that outgrows the room is dropped, read to its end, and answered then", async () => {
  const node = await given();
  const { open } = node;
  const arrived = once(node.server.server, "request");
  const growing = await open("transfer-encoding: chunked");
  growing.write(chunk(Buffer.alloc(10, "a")));
  const [request] = (await arrived) as [IncomingMessage];
  await unfinished(node);
  const other = await unfinished(node, 3.5 * MIB);
  const read = new Promise((resolve) => request.on("data", resolve));
  growing.write(chunk(Buffer.alloc(1 * MIB, "a")));
  await read;
  const meanwhile = await open("content-length: 2");
  meanwhile.write("ab");
  expect(await answer(meanwhile)).toContain('{"bytes":2,');
  expect(growing.bytesRead).toBe(0);
  growing.write(LAST);
  expect(await answer(growing)).toMatch(/ 503 .*retry-after: 1\r.*"code":"overloaded".*"stored":"no"/s);
  const done = answer(other);
  other.write("z");
  expect(await done).toContain('{"bytes":3670016,');
});

test("a body in tiny chunks takes the room that they cost", async () => {
  const { open } = await given();
  const socket = await open("transfer-encoding: chunked");
  socket.write(chunk(Buffer.alloc(1)).toString("latin1").repeat(20_000));
  socket.write(LAST);
  expect(await answer(socket)).toMatch(/ 503 .*"code":"overloaded"/s);
});

test("a body that is cut gives its room back", async () => {
  const node = await given();
  for (let n = 0; n < 3; n++) {
    const gone = once(node.server.server, "connection").then(([socket]) => once(socket as Socket, "close"));
    (await unfinished(node)).destroy();
    await gone;
  }
  await unfinished(node);
  const last = await unfinished(node);
  last.write("z");
  expect(await answer(last)).toContain('{"bytes":4194304,');
});

test("bodies that come too slowly give way to others, and are told so", async () => {
  const clock = fakeClock();
  const node = await given(clock);
  const { open } = node;
  const first = await unfinished(node);
  await clock.advance(1);
  const second = await unfinished(node);
  await clock.advance(9_999);
  const told = text(first);
  const next = await open("content-length: 1000000");
  next.write(Buffer.alloc(1_000_000));
  expect(await answer(next)).toContain('{"bytes":1000000,');
  expect(await told).toMatch(/ 503 .*connection: close.*"code":"overloaded".*"stored":"no"/s);
  second.write("z");
  expect(await answer(second)).toContain('{"bytes":4194304,');
});
