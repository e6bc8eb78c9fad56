import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { json, text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import { type KeyRing, parseKeys, tokenHash } from "#lib/access.ts";
import { type Clock, systemClock } from "#lib/clock.ts";
import { encodeCursor, type Position } from "#lib/cursor.ts";
import type { Event } from "#lib/event.ts";
import { createServer, type Server } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { LogFull } from "#lib/retention-guard.ts";
import { LINE_BYTES_MAX } from "../../../apps/ingest/lines.ts";
import { registerIngest } from "../../../apps/ingest/server.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { silentLog } from "../../support/records.ts";
import { until } from "../../support/until.ts";

const servers: Server[] = [];
const requests: ClientRequest[] = [];
const sockets = new Map<Server, Set<Socket>>();
afterEach(async () => {
  for (const one of requests.splice(0)) one.destroy();
  for (const server of servers.splice(0)) await server.close();
});

/** A log by hand: what was appended, and what is to happen to the next append. */
class FakeLog {
  readonly appended: Event[] = [];
  /** Sizes of the appends. */
  readonly batches: number[] = [];
  next: (events: readonly Event[]) => Promise<void> = () => Promise.resolve();

  async publish(events: readonly Event[]): Promise<readonly Position[]> {
    this.batches.push(events.length);
    await this.next(events);
    const from = this.appended.length;
    this.appended.push(...events);
    return events.map((_, at) => ({ epoch: 1, partition: 3, offset: BigInt(from + at) }));
  }

  get ids(): string[] {
    return this.appended.map(({ id }) => id);
  }
}

interface Given {
  readonly clock?: Clock;
  readonly access?: KeyRing;
  readonly bodiesBytesMax?: number;
  readonly before?: (server: Server) => void;
}

async function given({ clock = systemClock, access, bodiesBytesMax, before }: Given = {}) {
  const log = new FakeLog();
  const ready = () => ({ ready: true, missing: [] });
  const server = await createServer({
    log: silentLog,
    metrics: createMetrics(),
    access: access ?? null,
    ready,
    title: "T",
    clock,
    ...(bodiesBytesMax && { bodiesBytesMax }),
  });
  servers.push(server);
  registerIngest(server, log, clock, createMetrics());
  const connected = new Set<Socket>();
  sockets.set(server, connected);
  server.server.on("connection", (socket: Socket) => connected.add(socket));
  before?.(server);
  await server.listen({ host: "127.0.0.1", port: 0 });
  const { port } = server.server.address() as AddressInfo;
  /** A stream that was begun. */
  const open = (headers: Readonly<Record<string, string>> = {}) => {
    const sent = request({
      port,
      host: "127.0.0.1",
      method: "POST",
      path: "/api/v1/events",
      headers: { "content-type": "application/x-ndjson", ...headers },
    });
    sent.on("error", () => undefined);
    requests.push(sent);
    sent.flushHeaders();
    const answer = once(sent, "response").then(([response]) => response as IncomingMessage);
    answer.catch(() => undefined);
    return { sent, answer };
  };
  const post = async (body: string | Buffer, headers: Readonly<Record<string, string>> = {}) => {
    const { sent, answer } = open(headers);
    sent.end(body);
    const response = await answer;
    return { status: response.statusCode, type: response.headers["content-type"], text: await text(response) };
  };
  return { server, log, open, post };
}

const BY_LINE = { accept: "application/x-ndjson" };
const line = (id: string, more: object = {}): string =>
  `${JSON.stringify({ clientId: "a", type: "t", id, ...more })}\n`;
const cursor = (offset: number): string => encodeCursor({ epoch: 1, partition: 3, offset: BigInt(offset) });
const receipt = (number: number, id: string, offset: number) => ({ line: number, id, cursor: cursor(offset) });

/** Objects of an answer line by line, as they come. */
async function* objects(response: IncomingMessage): AsyncGenerator<Record<string, unknown>> {
  let rest = "";
  for await (const chunk of response) {
    const lines = `${rest}${String(chunk)}`.split("\n");
    rest = lines.pop() ?? "";
    for (const one of lines) yield JSON.parse(one) as Record<string, unknown>;
  }
  expect(rest).toBe("");
}

const all = async <T>(from: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = [];
  for await (const one of from) list.push(one);
  return list;
};

describe("a stream that is read to its end", () => {
  const body = `${line("1")}\n \t\r\nnonsense\n${line("2", { x: 1 }).trim()}\r\n[]\n${line("3").trim()}`;

  test("is answered with counts, and what is wrong with which line; the last line needs no end", async () => {
    const { log, post } = await given();
    const { status, type, text: told } = await post(body, { "content-type": "application/x-ndjson; charset=utf-8" });
    expect([status, type]).toEqual([200, "application/json"]);
    expect(JSON.parse(told)).toEqual({
      accepted: 2,
      rejected: 3,
      problems: [
        { line: 4, code: "malformed-json", field: "", detail: expect.any(String) },
        { line: 5, code: "invalid-event", field: "/x", detail: expect.any(String) },
        { line: 6, code: "invalid-event", field: "", detail: expect.stringContaining("an array") },
      ],
    });
    expect(log.ids).toEqual(["1", "3"]);
  });

  test("is answered line by line to whoever accepts that", async () => {
    const { post } = await given();
    const { status, type, text: told } = await post(body, BY_LINE);
    expect([status, type]).toEqual([200, "application/x-ndjson"]);
    const refused = (number: number, code: string, field: string) => ({
      line: number,
      problem: expect.objectContaining({ status: 400, code, field, type: `urn:spillway:problem:${code}` }),
    });
    expect(
      told
        .trim()
        .split("\n")
        .map((one) => JSON.parse(one) as unknown),
    ).toEqual([
      receipt(1, "1", 0),
      refused(4, "malformed-json", ""),
      refused(5, "invalid-event", "/x"),
      refused(6, "invalid-event", ""),
      receipt(7, "3", 1),
    ]);
  });

  test("lists the first 1,000 faults, and counts all", async () => {
    const { post } = await given();
    const { text: told } = await post("x\n".repeat(1_500) + line("1"));
    const { accepted, rejected, problems } = JSON.parse(told) as { accepted: 1; rejected: 0; problems: object[] };
    expect([accepted, rejected, problems.length]).toEqual([1, 1_500, 1_000]);
  });

  test("may hold nothing at all", async () => {
    const { post } = await given();
    expect(await post("")).toMatchObject({ status: 200, text: '{"accepted":0,"rejected":0,"problems":[]}' });
    expect(await post("\n\n", BY_LINE)).toMatchObject({ status: 200, text: "" });
  });

  test("a line that is too long is refused by itself", async () => {
    const { log, post } = await given();
    const { text: told } = await post(`${line("1")}"${"x".repeat(LINE_BYTES_MAX)}"\n${line("2")}`);
    expect(JSON.parse(told)).toMatchObject({
      accepted: 2,
      rejected: 1,
      problems: [{ line: 2, code: "body-too-large" }],
    });
    expect(log.ids).toEqual(["1", "2"]);
  });

  test("events of a stream are appended in its order, many at a time, and never behind one that is not acknowledged yet", async () => {
    const { log, post } = await given();
    let open = 0;
    log.next = async () => {
      expect(++open).toBe(1);
      await systemClock.turn();
      open--;
    };
    const ids = Array.from({ length: 20_000 }, (_, n) => `id-${n}`);
    const { text: told } = await post(ids.map((id) => line(id)).join(""));
    expect(JSON.parse(told)).toEqual({ accepted: 20_000, rejected: 0, problems: [] });
    expect(log.ids).toEqual(ids);
    expect(Math.max(...log.batches)).toBe(1_000);
    expect(log.batches.length).toBeLessThan(80);
  });
});

test("each line is answered before the next is sent, while the stream stays open", async () => {
  const { open } = await given();
  const { sent, answer } = open(BY_LINE);
  const told = objects(await answer);
  for (let n = 0; n < 5; n++) {
    sent.write(line(`${n}`));
    expect((await told.next()).value).toEqual(receipt(n + 1, `${n}`, n));
  }
  sent.end("x");
  expect((await told.next()).value).toMatchObject({ line: 6, problem: { code: "malformed-json" } });
  expect((await told.next()).done).toBe(true);
});

test("a key's clients are checked line by line, and a key that may not append is refused before anything is read", async () => {
  const record = { name: "k", clients: [{ exact: "a" }] };
  const keys = parseKeys(
    JSON.stringify([
      { ...record, sha256: tokenHash("writes"), verbs: ["append"] },
      { ...record, name: "r", sha256: tokenHash("reads"), verbs: ["read"] },
    ]),
  );
  const { log, post, open } = await given({ access: keys });
  const body = line("1") + line("2", { clientId: "b" }) + line("3");
  const told = JSON.parse((await post(body, { authorization: "Bearer writes" })).text) as object;
  expect(told).toMatchObject({
    accepted: 2,
    rejected: 1,
    problems: [{ line: 2, code: "forbidden", field: "/clientId" }],
  });
  expect(log.ids).toEqual(["1", "3"]);
  for (const [token, status] of [
    ["reads", 403],
    ["nobody", 401],
  ] as const) {
    const response = await open({ authorization: `Bearer ${token}` }).answer;
    expect(response.statusCode).toBe(status);
  }
});

describe("a stream that ends early", () => {
  const away = (stored: "no" | "unknown") => new NotAcknowledged("log-unreachable", stored, "the log is away");

  test("tells which lines are left, with their ids, and stores nothing behind them", async () => {
    const { log, open } = await given();
    const { sent, answer } = open();
    sent.write(line("1"));
    await until("the first line was appended", () => log.appended.length === 1);
    const gate = Promise.withResolvers<void>();
    log.next = () => gate.promise;
    sent.write(`x\n${line("3")}${JSON.stringify({ clientId: "a", type: "t" })}\n`);
    await until("the next lines are under way", () => log.batches.length === 2);
    sent.write(line("5"));
    gate.reject(away("unknown"));
    const response = await answer;
    expect([response.statusCode, response.headers["retry-after"], response.headers.connection]).toEqual([
      503,
      "5",
      "close",
    ]);
    const told = (await json(response)) as { lines: number[]; ids: string[] };
    expect(told).toMatchObject({
      code: "log-unreachable",
      stored: "unknown",
      accepted: 1,
      rejected: 1,
      problems: [{ line: 2, code: "malformed-json" }],
      line: 3,
    });
    expect(told.lines.slice(0, 2)).toEqual([3, 4]);
    expect(told.ids.slice(0, 2)).toEqual(["3", expect.stringMatching(/^[0-9a-f-]{36}$/)]);
    expect(log.ids).toEqual(["1"]);
  });

  test("answers each line that it read, and then says so", async () => {
    const { log, open } = await given();
    const { sent, answer } = open(BY_LINE);
    const told = objects(await answer);
    sent.write(line("1"));
    expect((await told.next()).value).toEqual(receipt(1, "1", 0));
    log.next = () => Promise.reject(away("unknown"));
    sent.write(`${line("2")}x\n`);
    expect(await all(told)).toEqual([
      {
        line: 2,
        id: "2",
        problem: expect.objectContaining({ status: 503, code: "log-unreachable", stored: "unknown" }),
      },
      { line: 3, problem: expect.objectContaining({ code: "malformed-json" }) },
      { problem: expect.objectContaining({ code: "log-unreachable", stored: "unknown", line: 2 }) },
    ]);
  });

  test("waits while too much is in flight, for 5 s, and not at all while the log is full", async () => {
    const clock = fakeClock();
    const { log, open } = await given({ clock });
    const { sent, answer } = open(BY_LINE);
    const told = objects(await answer);
    let crowd = true;
    log.next = () => (crowd ? Promise.reject(new NotAcknowledged("overloaded", "no", "a crowd")) : Promise.resolve());
    sent.write(line("1"));
    await until("it was tried", () => log.batches.length > 0);
    await clock.advance(4_000);
    crowd = false;
    await clock.advance(1_000);
    expect((await told.next()).value).toEqual(receipt(1, "1", 0));
    crowd = true;
    const tried = log.batches.length;
    sent.write(line("2"));
    await until("it was tried", () => log.batches.length > tried);
    await clock.advance(5_100);
    expect((await told.next()).value).toMatchObject({
      line: 2,
      id: "2",
      problem: { code: "overloaded", stored: "no" },
    });
    const other = open();
    log.next = () => Promise.reject(new LogFull("it is full", 60));
    other.sent.write(line("3"));
    const response = await other.answer;
    expect([response.statusCode, response.headers["retry-after"]]).toEqual([503, "60"]);
    expect(await json(response)).toMatchObject({ code: "overloaded", stored: "no", line: 1, lines: [1], ids: ["3"] });
  });

  test("when the node shuts down: what has come is appended and told", async () => {
    const { server, log, open } = await given();
    const { sent, answer } = open(BY_LINE);
    const summed = open();
    const told = objects(await answer);
    sent.write(`${line("1")}{"unfinished`);
    summed.sent.write(line("2"));
    expect((await told.next()).value).toMatchObject({ line: 1, id: "1" });
    await until("the other one too", () => log.appended.length === 2);
    const closed = server.close();
    expect((await told.next()).value).toEqual({
      problem: expect.objectContaining({ code: "shutting-down", stored: "no", line: 2 }),
    });
    const response = await summed.answer;
    expect([response.statusCode, await json(response)]).toEqual([
      503,
      expect.objectContaining({ code: "shutting-down", accepted: 1, line: 2, lines: [], ids: [] }),
    ]);
    sent.end();
    summed.sent.end();
    await closed;
  });

  test("when nothing comes for too long", async () => {
    const { open } = await given({ before: ({ server }) => server.setTimeout(50) });
    const { sent, answer } = open(BY_LINE);
    const told = objects(await answer);
    sent.write(`${line("1")}{"unfinished`);
    expect((await told.next()).value).toEqual(receipt(1, "1", 0));
    expect((await told.next()).value).toEqual({
      problem: expect.objectContaining({ status: 408, code: "request-timeout", stored: "no", line: 2 }),
    });
    const response = await open().answer;
    expect([response.statusCode, await json(response)]).toEqual([
      408,
      expect.objectContaining({ code: "request-timeout", accepted: 0, line: 1 }),
    ]);
  });
});

test("a stream that goes on is not cut by the time that other requests have", async () => {
  let overdue = 0;
  const { server: node, open } = await given({
    before: ({ server }) => {
      Object.assign(server, { connectionsCheckingInterval: 1 });
      server.on("clientError", ({ code }: Error & { code?: string }) => {
        overdue += code === "ERR_HTTP_REQUEST_TIMEOUT" ? 1 : 0;
      });
    },
  });
  const { sent, answer } = open(BY_LINE);
  const told = objects(await answer);
  Object.assign(node.server, { requestTimeout: 1, headersTimeout: 1 });
  let lines = 0;
  const more = async (): Promise<void> => {
    sent.write(line(`${lines}`));
    expect((await told.next()).value).toEqual(receipt(lines + 1, `${lines}`, lines));
    lines++;
  };
  await until("it took longer than others may", async () => {
    await more();
    return overdue === 1;
  });
  await more();
  sent.end();
  expect((await told.next()).done).toBe(true);
});

test("a stream that breaks keeps what was read whole, and nothing of the line that broke off", async () => {
  let came = 0;
  const { log, open } = await given({
    before: ({ server }) => {
      server.on("request", (incoming: IncomingMessage) =>
        incoming.on("data", (chunk: Buffer) => (came += chunk.length)),
      );
    },
  });
  const { sent, answer } = open(BY_LINE);
  const told = objects(await answer);
  const gate = Promise.withResolvers<void>();
  log.next = () => gate.promise;
  sent.write(line("1"));
  await until("it is under way", () => log.batches.length === 1);
  const rest = `${line("2")}${line("3").trim()}`;
  const before = came;
  sent.write(rest);
  await until("the rest has come", () => came === before + rest.length);
  sent.destroy();
  await expect(told.next()).rejects.toThrow();
  gate.resolve();
  await until("both were appended", () => log.appended.length === 2);
  expect(log.batches).toEqual([1, 1]);
});

describe("memory", () => {
  test("a stream is not read while the log does not take it", async () => {
    const { server, log, open } = await given();
    const gate = Promise.withResolvers<void>();
    log.next = () => gate.promise;
    const { sent, answer } = open();
    const much = line("x").repeat(200_000);
    sent.end(much);
    await until("it is under way", () => log.batches.length === 1);
    const [socket] = sockets.get(server) ?? [];
    await until("nothing more is read", () => socket?.isPaused() === true);
    // A batch under way, one judged, and what is read ahead.
    expect(socket?.bytesRead).toBeLessThan(3 * 1024 * 1024);
    expect(server.spillway.bodies.bytes).toBeGreaterThan(0);
    expect(server.spillway.bodies.bytes).toBeLessThan(3 * 1024 * 1024);
    gate.resolve();
    expect(await json(await answer)).toMatchObject({ accepted: 200_000 });
    expect(server.spillway.bodies.bytes).toBe(0);
  });

  test("a stream is not read while its answers are not", async () => {
    const { server, log, open } = await given();
    const { sent, answer } = open(BY_LINE);
    const response = await answer;
    response.pause();
    const ids = Array.from({ length: 120_000 }, (_, n) => `id-${n}`);
    sent.end(ids.map((id) => line(id)).join(""));
    const [socket] = sockets.get(server) ?? [];
    await until("nothing more is read", () => socket?.isPaused() === true && socket.writableLength > 0);
    expect(log.appended.length).toBeLessThan(ids.length);
    const told = await all(objects(response));
    expect(told.map((one) => one["id"])).toEqual(ids);
    expect(server.spillway.bodies.bytes).toBe(0);
  });

  test("a stream that stands still gives its room to others after 10 s, and is told so", async () => {
    const clock = fakeClock();
    const { server, open, post } = await given({ clock, bodiesBytesMax: 1_000_000 });
    const { sent, answer } = open();
    sent.write(`${line("1")}"${"x".repeat(900_000)}`);
    await until("it holds room", () => server.spillway.bodies.bytes > 900_000);
    const other = `"${"y".repeat(500_000)}"`;
    expect(await post(other)).toMatchObject({ status: 503 });
    await clock.advance(10_000);
    expect(await post(other)).toMatchObject({ status: 200 });
    const response = await answer;
    expect([response.statusCode, await json(response)]).toEqual([
      503,
      expect.objectContaining({ code: "overloaded", stored: "no", accepted: 1, line: 2 }),
    ]);
  });
});
