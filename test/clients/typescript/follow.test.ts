import { once } from "node:events";
import type { ServerResponse } from "node:http";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { WebSocket } from "ws";
import { EventStreamParser } from "../../../clients/typescript/src/event-stream.ts";
import {
  type ClientOptions,
  type Event,
  type Frame,
  RefusedError,
  SpillwayClient,
} from "../../../clients/typescript/src/index.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { until } from "../../support/until.ts";
import { FakeSpillway, json, refuse } from "./fake-spillway.ts";

const cursor = (n: number): string => `c${String(n).padStart(6, "0")}`;
const shown = (n: number, text = ""): Event => {
  const at = "2026-01-01T00:00:00.000Z";
  return { id: String(n), clientId: "c", type: "t", occurredAt: at, receivedAt: at, data: text, cursor: cursor(n) };
};
const events = (...numbers: number[]) => ({ type: "events", clientId: "c", events: numbers.map((n) => shown(n)) });
const caughtUp = (n: number) => ({ type: "caughtUp", clientId: "c", cursor: cursor(n) });
const problem = (status: number, code: string) => ({
  type: "problem",
  clientId: "c",
  problem: { status, code, detail: "D" },
});

/** One connection, whatever carries it. */
interface Line {
  readonly query: URLSearchParams;
  /** The token, in the way of this transport. */
  readonly token: () => string | undefined;
  send(frame: object): void;
  /** Some of a frame, then nothing more: the connection is lost. */
  breakOff(frame: object): void;
  end(): void;
  /** Bytes that the client has not taken, as far as this side knows. */
  readonly waiting: () => number;
}

let fake: FakeSpillway;
let lines: Line[];
let onLine: (line: Line, at: number) => void;
const opened = async (count: number): Promise<Line> => {
  await until(`connection ${count}`, () => lines.length >= count);
  return lines[count - 1] as Line;
};

beforeEach(async () => {
  fake = await FakeSpillway.start();
  lines = [];
  onLine = () => undefined;
  const add = (line: Line): void => {
    lines.push(line);
    onLine(line, lines.length);
  };
  fake.answer = ({ query, headers }, response) => add(stream(response, query, headers.authorization));
  fake.serve = (socket, query) => add(socketLine(socket, query));
});
afterEach(() => fake[Symbol.asyncDispose]());

function stream(response: ServerResponse, query: URLSearchParams, authorization: string | undefined): Line {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" }).flushHeaders();
  const text = (frame: object): string =>
    `: comment\nevent: ${(frame as Frame).type}\nid: x\ndata: ${JSON.stringify(frame)}\n\n`;
  return {
    query,
    token: () => authorization?.replace("Bearer ", ""),
    send: (frame) => void response.write(text(frame)),
    breakOff: (frame) => void response.write(text(frame).slice(0, -3), () => response.socket?.destroy()),
    end: () => void response.end(),
    waiting: () => response.writableLength + (response.socket?.writableLength ?? 0),
  };
}

function socketLine(socket: WebSocket, query: URLSearchParams): Line {
  let token: string | undefined;
  socket.on("message", (data: Buffer) => {
    token = (JSON.parse(data.toString("utf8")) as { token: string }).token;
  });
  return {
    query,
    token: () => token,
    send: (frame) => socket.send(JSON.stringify(frame)),
    breakOff: (frame) => socket.send(JSON.stringify(frame).slice(0, -3), { fin: false }, () => socket.terminate()),
    end: () => socket.close(1012, "restart"),
    waiting: () => socket.bufferedAmount,
  };
}

describe.each(["sse", "websocket"] as const)("over %s", (transport) => {
  const clientOf = (options: Partial<ClientOptions> = {}): SpillwayClient =>
    new SpillwayClient({ url: fake.url, ...options });

  test("connections that end or break off are gone on from: no gap, no repeat", async () => {
    onLine = (line, at) => {
      if (at === 1) line.send(caughtUp(7));
      const last = Number((line.query.get("after") ?? cursor(7)).slice(1));
      line.send(events(last + 1, last + 2));
      // What comes last differs: each of these is a place to go on from.
      if (at % 3 !== 1) line.send(at % 3 === 0 ? caughtUp(last + 2) : events());
      if (at % 2 === 1) line.breakOff(events(last + 3));
      else line.end();
    };
    const got: number[] = [];
    for await (const { id } of clientOf().follow("c", { transport })) {
      got.push(Number(id));
      if (got.length === 10) break;
    }
    expect(got).toEqual([8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
    expect(lines.map(({ query }) => query.toString())).toEqual([
      "clientId=c",
      ...[9, 11, 13, 15].map((n) => `clientId=c&after=${cursor(n)}`),
    ]);
  });

  test("the cursors of caughtUp and fellBehind are places to go on from", async () => {
    onLine = (line, at) => {
      line.send({ ...caughtUp(at * 2), type: at === 1 ? "caughtUp" : "fellBehind" });
      line.end();
    };
    const got: Frame[] = [];
    for await (const frame of clientOf().frames("c", { after: "0", transport })) {
      got.push(frame);
      if (lines.length === 3) break;
    }
    expect(got.map(({ type }) => type).slice(0, 4)).toEqual(["caughtUp", "interrupted", "fellBehind", "interrupted"]);
    expect(got[0]).toMatchObject({ cursor: cursor(2) });
    expect(lines.map(({ query }) => query.get("after"))).toEqual(["0", cursor(2), cursor(4)]);
  });

  test("types and the token are shown", async () => {
    const following = clientOf({ token: "secret" }).follow("c", { types: ["t", "u+v"], transport });
    const first = following.next();
    const line = await opened(1);
    await until("the token", () => line.token());
    expect(line.token()).toBe("secret");
    expect(line.query.getAll("type")).toEqual(["t", "u+v"]);
    line.send(events(1));
    expect(await first).toMatchObject({ value: { id: "1" } });
    await following.return();
  });

  test("a passing problem is told and waited out, another ends it", async () => {
    onLine = (line) => {
      line.send(problem(503, "store-unreachable"));
      line.send(events(1));
      line.send({ type: "of-a-later-version", clientId: "c" });
      line.send(problem(410, "cursor-gone"));
    };
    const got: Frame[] = [];
    const following = async (): Promise<void> => {
      for await (const frame of clientOf().frames("c", { after: "0", transport })) got.push(frame);
    };
    const error = await following().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RefusedError);
    expect((error as RefusedError).problem.code).toBe("cursor-gone");
    expect(got.map(({ type }) => type)).toEqual(["interrupted", "events"]);
    expect(got[0]).toMatchObject({ cause: { message: "store-unreachable: D" } });
    expect(lines.length).toBe(1);
  });

  test("a signal ends it, while it waits for a frame, a connection or the next attempt", async () => {
    const stop = new AbortController();
    const following = clientOf().follow("c", { signal: stop.signal, transport });
    const next = following.next();
    await opened(1);
    stop.abort(new Error("enough"));
    await expect(next).rejects.toThrow("enough");
    await expect(clientOf().follow("c", { signal: stop.signal, transport }).next()).rejects.toThrow("enough");
    const away = new AbortController();
    const client = clientOf({ url: "http://127.0.0.1:1", onRetry: () => away.abort(new Error("while it pauses")) });
    await expect(client.follow("c", { signal: away.signal, transport }).next()).rejects.toThrow("while it pauses");
  });

  test("who leaves the loop closes the connection", async () => {
    onLine = (line) => line.send(events(1));
    let closed: Promise<unknown> | undefined;
    const serve = fake.serve;
    const answer = fake.answer;
    fake.serve = (socket, query) => {
      closed = once(socket, "close");
      serve(socket, query);
    };
    fake.answer = (got, response) => {
      closed = once(response, "close");
      return answer(got, response);
    };
    for await (const { id } of clientOf().follow("c", { transport })) if (id === "1") break;
    await closed;
  });

  test("a connection that says nothing for 75 s is left for another; a slow consumer is no silence", async () => {
    const clock = fakeClock();
    const retries: string[] = [];
    const client = new SpillwayClient({ url: fake.url, onRetry: ({ message }) => retries.push(message) }, clock);
    const following = client.follow("c", { after: "0", transport });
    const first = following.next();
    (await opened(1)).send(events(1));
    expect(await first).toMatchObject({ value: { id: "1" } });
    await clock.advance(transport === "sse" ? 600_000 : 60_000);
    const second = following.next();
    lines[0]?.send(events(2));
    expect(await second).toMatchObject({ value: { id: "2" } });
    const third = following.next();
    await clock.advance(75_000);
    await until("the end of the silence", () => retries.length === 1);
    expect(retries[0]).toContain("sent nothing within 75 s");
    await clock.advance(1_000);
    const line = await opened(2);
    expect(line.query.get("after")).toBe(cursor(2));
    line.send(events(3));
    expect(await third).toMatchObject({ value: { id: "3" } });
    expect(lines.length).toBe(2);
    await following.return();
  });

  test("a slow consumer is not buffered without bound, and gets everything in order", async () => {
    const FRAMES = 400;
    const text = "x".repeat(100_000);
    const sent = { most: 0 };
    onLine = (line) => {
      for (let n = Number((line.query.get("after") ?? "c0").slice(1)) + 1; n <= FRAMES; n++)
        line.send({ ...events(), events: [shown(n, text)] });
    };
    const got: number[] = [];
    for await (const { id } of clientOf().follow("c", { after: cursor(0), transport })) {
      got.push(Number(id));
      if (got.length === 1) {
        // 40 MB: over SSE most of it stays where it was written; over WebSocket the client lets go.
        const settled = (): boolean => (transport === "sse" ? fake.got.length === 1 : lines[0]?.waiting() === 0);
        await until("the first connection is as full as it gets", settled);
        sent.most = FRAMES * text.length - (lines[0]?.waiting() ?? 0);
      }
      if (got.length === FRAMES) break;
    }
    expect(got).toEqual(Array.from({ length: FRAMES }, (_, n) => n + 1));
    // The kernel's buffers on the loopback take about 4 MB.
    if (transport === "sse") expect(sent.most).toBeLessThan(12_000_000);
    if (transport === "sse") expect(lines.length).toBe(1);
    // 4 Mi characters waited, and the second connection began behind them.
    else expect(lines[1]?.query.get("after")).toMatch(/^c00004[2-4]$/);
  });

  test("the node that ends it is left for the next one", async () => {
    await using other = await FakeSpillway.start();
    other.answer = fake.answer;
    other.serve = fake.serve;
    onLine = (line, at) => {
      line.send(events(at));
      line.end();
    };
    const got: string[] = [];
    for await (const { id } of clientOf({ url: [fake.url, other.url] }).follow("c", { after: "0", transport })) {
      got.push(id);
      if (got.length === 4) break;
    }
    expect(got).toEqual(["1", "2", "3", "4"]);
    if (transport === "sse") expect([fake.got.length, other.got.length]).toEqual([2, 2]);
  });
});

test("a socket that is open and has nothing to say yet is no connection that does not come", async () => {
  const clock = fakeClock();
  const following = new SpillwayClient({ url: fake.url, token: "secret" }, clock).follow("c", {
    transport: "websocket",
  });
  const first = following.next();
  const line = await opened(1);
  await until("the token", () => line.token());
  await clock.advance(60_000);
  line.send(events(1));
  expect(await first).toMatchObject({ value: { id: "1" } });
  await following.return();
});

test("an address that is no event stream is no reason to stop, and a refusal is", async () => {
  const client = new SpillwayClient({ url: fake.url });
  fake.next(refuse(503, { code: "shutting-down" }), (_got, response) => json(response, 200, {}));
  fake.next(refuse(403, { code: "forbidden" }));
  const got: string[] = [];
  const following = async (): Promise<void> => {
    for await (const frame of client.frames("c")) if (frame.type === "interrupted") got.push(frame.cause.message);
  };
  await expect(following()).rejects.toMatchObject({ problem: { code: "forbidden" } });
  expect(got[0]).toContain("answered 503 shutting-down");
  expect(got[1]).toContain("answered application/json instead of an event stream");
});

test.each([
  [4403, "forbidden"],
  [4400, "invalid-parameter"],
])("a socket that is closed with %i is not opened again, one closed with 4408 or 1013 is", async (code, reason) => {
  let connections = 0;
  fake.serve = (socket) => {
    connections += 1;
    const [now, why] = (
      [
        [4408, "silent"],
        [1013, "later"],
      ] as const
    )[connections - 1] ?? [code, reason];
    socket.close(now, why);
  };
  const following = new SpillwayClient({ url: fake.url }).follow("c", { transport: "websocket" });
  await expect(following.next()).rejects.toMatchObject({ problem: { status: code - 4000, code: reason } });
  expect(connections).toBe(3);
});

test("an event stream means the same however it is cut and its lines end", () => {
  const data = fc.array(
    fc.string({ unit: "grapheme" }).map((text) => text.replace(/[\r\n]/g, "")),
    { minLength: 1 },
  );
  const messages = fc.array(
    fc.record({ data, end: fc.constantFrom("\n", "\r\n", "\r"), space: fc.constantFrom("", " ") }),
  );
  fc.assert(
    fc.property(messages, fc.infiniteStream(fc.integer({ min: 1, max: 9 })), (sent, cuts) => {
      const text = sent
        .map(({ data: parts, end, space }) =>
          [": note", "event: events", ...parts.map((part) => `data:${space}${part}`), "id: 1", "retry: 5", "", ""].join(
            end,
          ),
        )
        .join("");
      const parser = new EventStreamParser();
      const got: string[] = [];
      // The last CR may be half of a CRLF: only what follows tells.
      for (let at = 0; at < text.length + 1; ) {
        const cut = at + (cuts.next().value as number);
        got.push(...parser.take(`${text}:`.slice(at, cut)));
        at = cut;
      }
      const meant = sent.map(({ data: parts, space }) =>
        parts.map((part) => (space === "" && part.startsWith(" ") ? part.slice(1) : part)).join("\n"),
      );
      expect(got).toEqual(meant);
    }),
  );
});
