import { once } from "node:events";
import { connect, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { answersMetadata } from "../../infra/kafka-metadata.ts";
import { createProxy, DELAYED_BYTES_MAX } from "../../infra/proxy.ts";
import { sharedBrokers } from "../support/kafka.ts";
import { until } from "../support/until.ts";

/** A server that sends back what it gets, and counts it. */
let got = 0;
const echo = createServer((socket) => {
  socket.on("error", () => undefined);
  socket.on("data", (chunk) => {
    got += chunk.length;
    socket.write(chunk);
  });
});
let target = { host: "127.0.0.1", port: 0 };

beforeAll(async () => {
  await once(echo.listen(0, "127.0.0.1"), "listening");
  target = { host: "127.0.0.1", port: (echo.address() as { port: number }).port };
});
afterAll(() => {
  echo.close();
});

async function open(port: number) {
  const socket = connect(port, "127.0.0.1");
  const state = { text: "", closed: false };
  socket.on("data", (chunk) => {
    state.text += chunk;
  });
  socket.on("error", () => undefined);
  socket.on("close", () => {
    state.closed = true;
  });
  await once(socket, "connect");
  return { socket, state };
}

describe("the proxy", () => {
  it("hands on both ways and counts", async () => {
    await using proxy = await createProxy(target);
    const { socket, state } = await open(proxy.port);
    socket.write("hello");
    await until("the echo", () => state.text === "hello");
    expect(proxy.counts).toMatchObject({ connections: 1, open: 1, requestBytes: 5, replyBytes: 5 });
  });

  it("keeps order and content under delay and throttle", async () => {
    await using proxy = await createProxy(target);
    proxy.delayMs = 5;
    proxy.rateBytes = 1_000_000;
    const { socket, state } = await open(proxy.port);
    const sent = Array.from({ length: 2_000 }, (_, i) => `${i},`).join("");
    for (let i = 0; i < sent.length; i += 100) socket.write(sent.slice(i, i + 100));
    await until("the whole echo", () => state.text.length === sent.length);
    expect(state.text).toBe(sent);
  });

  it("takes on while what came before is on its way, up to its bound: a longer way is as wide", async () => {
    await using proxy = await createProxy(target);
    // Nothing of it arrives within this test.
    proxy.delayMs = 3_600_000;
    const before = got;
    const { socket } = await open(proxy.port);
    socket.write(Buffer.alloc(DELAYED_BYTES_MAX));
    await until("all is on its way", () => proxy.counts.waitingBytes === DELAYED_BYTES_MAX);
    socket.write(Buffer.alloc(4 * DELAYED_BYTES_MAX));
    await until("it is full", () => proxy.counts.waitingBytes > DELAYED_BYTES_MAX);
    // Turns enough to take all of it: each takes a chunk of 64 KiB.
    for (let turn = 0; turn < 1_000; turn++) await new Promise((next) => setImmediate(next));
    expect(proxy.counts.waitingBytes).toBeLessThan(1.1 * DELAYED_BYTES_MAX);
    expect(got).toBe(before);
  });

  it("hands on all that came before an end", async () => {
    const leaving = createServer((socket) => void socket.end("farewell ".repeat(50_000)));
    await once(leaving.listen(0, "127.0.0.1"), "listening");
    await using proxy = await createProxy({ host: "127.0.0.1", port: (leaving.address() as { port: number }).port });
    proxy.delayMs = 20;
    const { state } = await open(proxy.port);
    await until("the end came", () => state.closed);
    expect(state.text).toBe("farewell ".repeat(50_000));
    leaving.close();
  });

  it("lets requests arrive and swallows the replies, and ends that connection when it heals", async () => {
    await using proxy = await createProxy(target);
    const { socket, state } = await open(proxy.port);
    socket.write("one");
    await until("the first echo", () => state.text === "one");
    proxy.mode = "swallowReplies";
    const before = got;
    socket.write("two");
    await until("the server got it", () => got === before + 3);
    proxy.mode = "pass";
    await until("the connection ended", () => state.closed);
    expect(state.text).toBe("one");
  });

  it("swallows without an error", async () => {
    await using proxy = await createProxy(target);
    proxy.mode = "swallow";
    const before = got;
    const { socket, state } = await open(proxy.port);
    await new Promise<void>((written) => void socket.write("lost", () => written()));
    await until("the proxy took the connection", () => proxy.counts.open === 1);
    expect([got, state.closed]).toEqual([before, false]);
  });

  it("cuts what there is, refuses what comes, and recovers", async () => {
    await using proxy = await createProxy(target);
    const { state } = await open(proxy.port);
    proxy.mode = "refuse";
    await until("the connection ended", () => state.closed);
    const refused = await open(proxy.port);
    await until("the new one ended too", () => refused.state.closed);
    proxy.mode = "pass";
    const healed = await open(proxy.port);
    healed.socket.write("again");
    await until("the echo", () => healed.state.text === "again");
  });

  it("stands before a broker", async () => {
    const [host = "", port] = sharedBrokers().split(":");
    await using proxy = await createProxy({ host, port: Number(port) });
    expect(await answersMetadata("127.0.0.1", proxy.port)).toBe(true);
    proxy.mode = "swallowReplies";
    expect(await answersMetadata("127.0.0.1", proxy.port)).toBe(false);
  });
});
