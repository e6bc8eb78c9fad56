import { spawn } from "node:child_process";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { EventSource } from "eventsource";
import { expect, test } from "vitest";
import { tokenHash } from "#lib/access.ts";
import { BEGINNING, encodeCursor } from "#lib/cursor.ts";
import { until } from "../../support/until.ts";
import { LiveScene } from "./live-scene.ts";

const STREAM = { accept: "text/event-stream" };
const live = (url: string, query: string): string => `${url}/api/v1/events/live?${query}`;

interface Block {
  readonly event?: string;
  readonly id?: string;
  readonly data?: string;
  readonly retry?: string;
}

/** A reader that keeps what it was sent as it came, and may stop reading. */
class Reader {
  readonly answer: IncomingMessage;
  text = "";
  ended = false;

  constructor(answer: IncomingMessage) {
    this.answer = answer;
    answer.setEncoding("utf8");
    answer.on("data", (text: string) => {
      this.text += text;
    });
    answer.on("error", () => undefined);
    answer.on("close", () => {
      this.ended = true;
    });
  }

  static async open(address: string, headers: Readonly<Record<string, string>> = {}): Promise<Reader> {
    const asked = httpRequest(address, { headers: { ...STREAM, ...headers } });
    asked.end();
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    return new Reader(answer);
  }
  get blocks(): Block[] {
    return this.text
      .split("\n\n")
      .slice(0, -1)
      .map((block) => Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2))) as Block);
  }
  get ids(): string[] {
    return this.blocks
      .filter(({ event }) => event === "events")
      .flatMap(({ data = "" }) => (JSON.parse(data) as { events: { id: string }[] }).events.map(({ id }) => id));
  }
  block(event: string): Promise<Block> {
    return until(event, () => this.blocks.find((one) => one.event === event));
  }
}

test("a stream tells who may keep it and how, and every frame has the cursor to resume from as its id", async () => {
  const scene = new LiveScene();
  await using serving = await scene.serve();
  const sockets: Socket[] = [];
  serving.server.server.on("connection", (socket: Socket) => void sockets.push(socket));
  const old = scene.append("a", "b", "a");
  const reader = await Reader.open(live(serving.url, `clientId=a&after=${BEGINNING}`));
  const mark = await reader.block("caughtUp");
  expect(reader.answer.headers).toMatchObject({
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  expect(reader.answer.headers).not.toHaveProperty("content-encoding");
  // The server's time limit, 30 s without a byte, is for answers that end.
  expect(sockets.map(({ timeout }) => timeout)).toEqual([0]);
  const [retry, events] = reader.blocks;
  expect(Number(retry?.retry)).toBeGreaterThanOrEqual(1_000);
  expect(events).toEqual({
    event: "events",
    id: old[2]?.cursor,
    data: `{"type":"events","clientId":"a","events":[${old[0]?.json},${old[2]?.json}]}`,
  });
  expect(JSON.parse(mark.data ?? "")).toEqual({ type: "caughtUp", clientId: "a", cursor: mark.id });
  // A beat: the cursor again, and further on.
  const [next] = scene.append("b".repeat(3), "b");
  scene.clock.advance(15_000);
  await until("a beat", () => reader.blocks.filter(({ event }) => event === "caughtUp").length === 2);
  expect((reader.blocks.at(-1)?.id ?? "") >= (mark.id ?? "~")).toBe(true);
  expect(next).toBeDefined();
  reader.answer.destroy();
});

test("Last-Event-ID resumes exactly, and wins over after", async () => {
  const scene = new LiveScene();
  await using serving = await scene.serve();
  const [first, second, third] = scene.append("a", "a", "a");
  for (const [after, last, expected] of [
    [BEGINNING, second?.cursor ?? "", [third?.event.id]],
    [third?.cursor ?? "", first?.cursor ?? "", [second?.event.id, third?.event.id]],
    [third?.cursor ?? "", BEGINNING, [first?.event.id, second?.event.id, third?.event.id]],
    [second?.cursor ?? "", "", [third?.event.id]],
  ] as const) {
    const reader = await Reader.open(live(serving.url, `clientId=a&after=${after}`), { "last-event-id": last });
    await reader.block("caughtUp");
    expect(reader.ids).toEqual(expected);
    reader.answer.destroy();
  }
  const answer = await fetch(live(serving.url, "clientId=a"), { headers: { ...STREAM, "last-event-id": "nonsense" } });
  expect([answer.status, await answer.json()]).toMatchObject([400, { code: "invalid-cursor", field: "Last-Event-ID" }]);
});

test("what is wrong is told by the status, and who does not name event streams is told of both ways in", async () => {
  const scene = new LiveScene();
  await using serving = await scene.serve();
  const gone = encodeCursor({ epoch: 9, partition: 0, offset: 0n });
  for (const [query, status, code] of [
    ["", 400, "invalid-parameter"],
    ["clientId=", 400, "invalid-parameter"],
    ["clientId=a&clientId=b", 400, "invalid-parameter"],
    ["clientId=a&since=now", 400, "invalid-parameter"],
    ["clientId=a&after=nonsense", 400, "invalid-cursor"],
    [`clientId=a&after=${gone}`, 410, "cursor-gone"],
  ] as const) {
    const answer = await fetch(live(serving.url, query), { headers: STREAM });
    expect([query, answer.status, await answer.json()]).toMatchObject([query, status, { code }]);
    expect(answer.headers.get("content-type")).toContain("application/problem+json");
  }
  for (const accept of ["*/*", "text/*", "application/json", "text/event-stream;q=0", "text/event-streams"]) {
    const answer = await fetch(live(serving.url, "clientId=a"), { headers: { accept } });
    expect([accept, answer.status]).toEqual([accept, 426]);
    expect(((await answer.json()) as { detail: string }).detail).toContain("Accept: text/event-stream");
  }
  for (const accept of [
    "text/event-stream, */*;q=0.1",
    "application/json;q=0.5,Text/Event-Stream;q=0.9",
    " text/event-stream ; q=1",
  ]) {
    const reader = await Reader.open(live(serving.url, "clientId=a"), { accept });
    expect([accept, reader.answer.statusCode]).toEqual([accept, 200]);
    reader.answer.destroy();
  }
  const head = await fetch(live(serving.url, "clientId=a"), { headers: STREAM, method: "HEAD" });
  expect([head.status, head.headers.get("allow")]).toEqual([405, "GET"]);
});

test("where there are keys the header is wanted, and shows the key's own clients only", async () => {
  const scene = new LiveScene();
  const keys = [{ name: "one", sha256: tokenHash("token-one"), clients: [{ exact: "mine" }], verbs: ["read"] }];
  await using serving = await scene.serve(keys);
  const authorization = "Bearer token-one";
  for (const [headers, clientId, status] of [
    [{}, "mine", 401],
    [{ authorization: "Bearer nonsense" }, "mine", 401],
    [{ authorization }, "theirs", 403],
    [{ authorization }, "nobody", 403],
  ] as const) {
    const answer = await fetch(live(serving.url, `clientId=${clientId}`), { headers: { ...STREAM, ...headers } });
    expect([clientId, answer.status]).toEqual([clientId, status]);
  }
  const reader = await Reader.open(live(serving.url, "clientId=mine"), { authorization });
  await reader.block("caughtUp");
  reader.answer.destroy();
});

test("a reader that stops reading is kept and gets everything; one that takes nothing for a minute is let go", async () => {
  const scene = new LiveScene();
  await using serving = await scene.serve();
  const [slow, dead] = [
    await Reader.open(live(serving.url, "clientId=wide")),
    await Reader.open(live(serving.url, "clientId=wide")),
  ];
  for (const reader of [slow, dead]) await reader.block("caughtUp");
  for (const reader of [slow, dead]) reader.answer.pause();
  // 20 MB: the kernel's buffers on the loopback take about 4.
  const data = JSON.stringify("x".repeat(100_000));
  for (let n = 0; n < 200; n++) {
    scene.append({ clientId: "wide", data });
    await scene.clock.turn();
  }
  scene.save();
  const bytes = async (): Promise<number> => (await scene.metrics.queryLiveBytes.get()).values[0]?.value ?? 0;
  expect(await bytes()).toBeGreaterThan(256 * 1024);
  expect(await bytes()).toBeLessThan(1024 * 1024);
  scene.clock.advance(40_000);
  slow.answer.resume();
  await until("all events", () => slow.ids.length === 200, { limitMs: 20_000 });
  expect(slow.blocks.map(({ event }) => event)).toContain("fellBehind");
  await until("the frames were taken", async () => (await bytes()) < 512 * 1024);
  for (let n = 0; n < 2; n++) {
    scene.clock.advance(15_000);
    await until("a beat", async () => (await bytes()) < 512 * 1024);
  }
  await until("the end of the one", async () => (await bytes()) === 0);
  expect(slow.ended).toBe(false);
  dead.answer.resume();
  await until("the end", () => dead.ended);
  slow.answer.destroy();
});

test("a node that stops gives a last cursor, ends the stream, and tells when to come back", async () => {
  const scene = new LiveScene();
  const serving = await scene.serve();
  const reader = await Reader.open(live(serving.url, "clientId=a"));
  const first = await reader.block("caughtUp");
  // Of the same partition, so that the cursor moves on without a frame.
  const neighbour = Array.from({ length: 9 }, (_, n) => `b-${n}`).find(
    (one) => scene.order(one).partition === scene.order("a").partition,
  );
  const [passed] = scene.append(neighbour ?? "");
  await serving[Symbol.asyncDispose]();
  await until("the end", () => reader.ended);
  expect(reader.answer.complete).toBe(true);
  const [mark, retry] = reader.blocks.slice(-2);
  expect([mark?.event, Number(retry?.retry) >= 1_000]).toEqual(["caughtUp", true]);
  expect([mark?.id, mark?.id === first.id]).toEqual([passed?.cursor, false]);
});

test("a reader that does not read keeps no node from stopping", async () => {
  const scene = new LiveScene();
  const serving = await scene.serve();
  const reader = await Reader.open(live(serving.url, "clientId=wide"));
  await reader.block("caughtUp");
  reader.answer.pause();
  for (let n = 0; n < 100; n++) {
    scene.append({ clientId: "wide", data: JSON.stringify("x".repeat(100_000)) });
    await scene.clock.turn();
  }
  const stopped = serving[Symbol.asyncDispose]();
  await until("the stream was left", () => scene.live.outflow.room(0) === 256 * 1024 && scene.clock.timers > 0);
  scene.clock.advance(2_000);
  await stopped;
  reader.answer.resume();
  await until("the end", () => reader.ended);
});

test("npm's eventsource follows, and resumes by itself with the last id, also after an end", async () => {
  const scene = new LiveScene();
  const first = await scene.serve();
  scene.append("es", "es");
  const asked: string[] = [];
  const source = new EventSource(live(first.url, `clientId=es&after=${BEGINNING}`), {
    fetch: (input, init) => {
      asked.push(new Headers(init.headers).get("last-event-id") ?? "");
      return fetch(input, init);
    },
  });
  const shown: string[] = [];
  const types = new Set<string>();
  for (const type of ["events", "caughtUp", "problem"] as const)
    source.addEventListener(type, ({ data }: { data: string }) => {
      types.add(type);
      for (const { id } of (JSON.parse(data) as { events?: { id: string }[] }).events ?? []) shown.push(id);
    });
  await until("both", () => shown.length === 2 && types.has("caughtUp"));
  first.server.server.closeAllConnections();
  scene.append("es");
  await until("the third, on another connection", () => shown.length === 3);
  expect(shown).toEqual(scene.events.map(({ event }) => event.id));
  expect(asked).toHaveLength(2);
  expect(asked[1]).toHaveLength(24);
  source.close();
  await first[Symbol.asyncDispose]();
});

test("curl follows with one header", async () => {
  const scene = new LiveScene();
  await using serving = await scene.serve();
  const [old] = scene.append("curl");
  const address = live(serving.url, `clientId=curl&after=${BEGINNING}`);
  const child = spawn("curl", ["-sN", "-H", "Accept: text/event-stream", address], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.on("data", (data: Buffer) => {
    text += data.toString("utf8");
  });
  await until("what was there", () => text.includes(old?.json ?? "~"));
  const [fresh] = scene.append("curl");
  await until("what comes", () => text.includes(`data: {"type":"events","clientId":"curl","events":[${fresh?.json}]}`));
  child.kill();
  await once(child, "close");
});
