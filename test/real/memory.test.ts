/**
 * What callers hold of a node's memory. Each figure is the growth of a real role's resident memory over what it had before
 * the attack; beside each bound stands what was measured, without the bounds and with them.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sharedBrokers, uniqueTopic } from "../support/kafka.ts";
import { type App, startApp } from "../support/process.ts";
import { until } from "../support/until.ts";
import { Given } from "./query/given.ts";

const MIB = 1024 * 1024;
const BODY_BYTES = 4 * MIB;

/** The node's resident memory in MiB, as its own metrics tell. */
async function residentMiB({ url }: App): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)?.[1]) / MIB;
}

/** The most it comes to, once 30 answers in a row (between any two the node served every socket) brought no more. */
async function settledMiB(app: App): Promise<number> {
  let [most, still] = [0, 0];
  await until(`the memory of ${app.url} stood still`, async () => {
    const now = await residentMiB(app);
    still = now > most + 1 ? 0 : still + 1;
    most = Math.max(most, now);
    return still === 30;
  });
  return most;
}

/** Sockets that are gone after the test. */
class Crowd implements Disposable {
  readonly sockets: Socket[] = [];

  async open({ port }: App): Promise<Socket> {
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    this.sockets.push(socket);
    await once(socket, "connect");
    return socket;
  }

  [Symbol.dispose](): void {
    for (const socket of this.sockets) socket.destroy();
  }
}

describe("an ingest node", () => {
  const head = (length: string): string =>
    `POST /api/v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n${length}\r\n\r\n`;
  const almost = Buffer.alloc(BODY_BYTES - 1, " ");
  test.each([
    ["of a length told beforehand", head(`content-length: ${BODY_BYTES}`), almost, 100],
    ["in chunks", head("transfer-encoding: chunked"), chunked(almost, 64 * 1024), 100],
    ["in chunks of one byte", head("transfer-encoding: chunked"), chunked(almost.subarray(0, 250_000), 1), 10],
  ])("holds no more than its bound of bodies that stop before their end, %s", async (_what, first, rest, times) => {
    await using node = await startApp("apps/ingest/main.ts", {
      KAFKA_BROKERS: sharedBrokers(),
      SPILLWAY_TOPIC: uniqueTopic(),
      SPILLWAY_IN_FLIGHT_BYTES: String(16 * MIB),
    });
    await node.ready();
    const before = await settledMiB(node);
    using crowd = new Crowd();
    await Promise.all(
      Array.from({ length: times }, async () => {
        const socket = await crowd.open(node);
        socket.resume().write(first);
        // Called when the kernel has it, or the node has ended the connection.
        await new Promise<void>((resolve) => socket.write(rest, () => resolve()));
      }),
    );
    const grown = (await settledMiB(node)) - before;
    // 397, 399 and about 1,000; with them 61 to 82, 87 to 133 and 16.
    expect(grown).toBeLessThan(200);
  });
});

function chunked(bytes: Buffer, chunkBytes: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const part = bytes.subarray(at, at + chunkBytes);
    parts.push(Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n"));
  }
  return Buffer.concat(parts);
}

describe("a query node", () => {
  let given: Given;
  beforeAll(async () => {
    given = await Given.create();
    for (let n = 0; n < 40; n++)
      await given.append(given.event("large", { data: JSON.stringify("x".repeat(250_000)) }));
  });
  afterAll(async () => {
    await given[Symbol.asyncDispose]();
  });
  const ask = "GET /api/v1/events?clientId=large&limit=1000 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

  test("holds no more than its bound of pages for one connection that asks and asks, and never reads", async () => {
    await using node = await given.node();
    await node.ready();
    const before = await settledMiB(node);
    using crowd = new Crowd();
    (await crowd.open(node)).pause().write(ask.repeat(500));
    const grown = (await settledMiB(node)) - before;
    // 759 to 1,137; with them 158.
    expect(grown).toBeLessThan(450);
  });

  test.each(["unsaved", "saved"])("holds no more than its bound of pages that nobody reads, %s", async (side) => {
    await using node = await given.node();
    await node.ready();
    const last = given.placed.at(-1);
    if (side === "saved" && last) await given.save(last.partition, last.offset + 1n);
    const before = await settledMiB(node);
    using crowd = new Crowd();
    for (let n = 0; n < 100; n++) (await crowd.open(node)).pause().write(ask);
    const grown = (await settledMiB(node)) - before;
    // 978 and 976; with them 164 and 349, of which two thirds are rows that four connections bring.
    expect(grown).toBeLessThan(600);
  });
});
