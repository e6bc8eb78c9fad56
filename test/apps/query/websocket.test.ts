import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { tokenHash } from "#lib/access.ts";
import { BEGINNING, encodeCursor } from "#lib/cursor.ts";
import { until } from "../../support/until.ts";
import { LiveScene } from "./live-scene.ts";

interface AnyFrame {
  readonly type: string;
  readonly clientId?: string;
  readonly cursor?: string;
  readonly events?: readonly { readonly id: string; readonly type: string; readonly cursor: string }[];
  readonly problem?: { readonly code: string; readonly status: number; readonly field?: string };
}

/** A client of one socket. */
class Client {
  readonly socket: WebSocket;
  readonly frames: AnyFrame[] = [];
  closed = 0;

  constructor(url: string, query = "", token?: string) {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.socket = new WebSocket(`${url.replace("http", "ws")}/api/v1/events/live${query}`, { headers });
    this.socket.on("message", (data: Buffer) => void this.frames.push(JSON.parse(data.toString("utf8")) as AnyFrame));
    this.socket.on("close", (code) => {
      this.closed = code;
    });
    this.socket.on("error", () => undefined);
  }

  static async open(url: string, query = "", token?: string): Promise<Client> {
    const client = new Client(url, query, token);
    await once(client.socket, "open");
    return client;
  }
  say(message: object | string): this {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
    return this;
  }
  subscribe(clientId: string, more: { after?: string; type?: readonly string[] } = {}): this {
    return this.say({ op: "subscribe", clientId, ...more });
  }
  of(clientId: string): AnyFrame[] {
    return this.frames.filter((frame) => frame.clientId === clientId);
  }
  ids(clientId: string): string[] {
    return this.of(clientId).flatMap(({ events = [] }) => events.map(({ id }) => id));
  }
  frame(type: string, clientId?: string): Promise<AnyFrame> {
    const isIt = (one: AnyFrame): boolean => one.type === type && (clientId === undefined || one.clientId === clientId);
    return until(`${type} of ${clientId ?? "any"}`, () => this.frames.find(isIt));
  }
  async ended(): Promise<number> {
    return await until("the end", () => this.closed || null);
  }
}

let scene: LiveScene;
let url: string;
let close: () => PromiseLike<void>;
beforeAll(async () => {
  scene = new LiveScene();
  const serving = await scene.serve();
  url = serving.url;
  close = () => serving[Symbol.asyncDispose]();
});
afterAll(() => close());
let nth = 0;
/** Names that no other test uses. */
const names = (...of: readonly string[]): string[] => of.map((name) => `${name}-${nth}`);
beforeEach(() => void nth++);

describe("one socket", () => {
  test("follows the client of its address and those of its messages, each from its own cursor", async () => {
    const [a = "", b = "", c = ""] = names("a", "b", "c");
    const old = scene.append(a, b, c, b, c, b);
    const client = await Client.open(url, `?clientId=${a}&after=${BEGINNING}`);
    client.subscribe(b, { after: old[1]?.cursor ?? "" }).subscribe(c);
    for (const clientId of [a, b, c]) await client.frame("caughtUp", clientId);
    const fresh = scene.append(c, a, b);
    for (const { event } of fresh) await until("it", () => client.ids(event.clientId).includes(event.id));
    const idsOf = (clientId: string): string[] =>
      scene.events.filter(({ event }) => event.clientId === clientId).map(({ event }) => event.id);
    expect(client.ids(a)).toEqual(idsOf(a));
    expect(client.ids(b)).toEqual(idsOf(b).slice(1));
    expect(client.ids(c)).toEqual(idsOf(c).slice(2));
    client.socket.close();
  });

  test("begins empty without a clientId, and stays open whatever it follows", async () => {
    const [a = ""] = names("a");
    const client = await Client.open(url);
    client.subscribe(a);
    await client.frame("caughtUp", a);
    client.say({ op: "unsubscribe", clientId: a });
    await client.frame("unsubscribed", a);
    client.subscribe(a, { after: BEGINNING });
    await until("caught up again", () => client.of(a).filter(({ type }) => type === "caughtUp").length === 2);
    expect(client.closed).toBe(0);
    client.socket.close();
  });

  test("acknowledges unsubscribe with the cursor to resume from: nothing comes after it, and nothing is missed", async () => {
    const [a = "", b = ""] = names("a", "b");
    const client = await Client.open(url);
    client.subscribe(a, { after: BEGINNING }).subscribe(b);
    await Promise.all([client.frame("caughtUp", a), client.frame("caughtUp", b)]);
    scene.append(a, a);
    await until("both", () => client.ids(a).length === 2);
    client.say({ op: "unsubscribe", clientId: a });
    const { cursor = "" } = await client.frame("unsubscribed", a);
    scene.append(a, b);
    await until("b's", () => client.ids(b).length === 1);
    expect(client.of(a).at(-1)?.type).toBe("unsubscribed");
    client.subscribe(a, { after: cursor });
    await until("the third", () => client.ids(a).length === 3);
    expect(new Set(client.ids(a)).size).toBe(3);
    // Of one that is not followed there is nothing to resume.
    client.say({ op: "unsubscribe", clientId: "nobody" });
    expect(await client.frame("unsubscribed", "nobody")).toEqual({ type: "unsubscribed", clientId: "nobody" });
    client.socket.close();
  });

  test("that subscribes a client again follows it from the new cursor, and is told where the old one ended", async () => {
    const [a = ""] = names("a");
    scene.append(a, a, a);
    const client = await Client.open(url, `?clientId=${a}`);
    await client.frame("caughtUp", a);
    client.subscribe(a, { after: BEGINNING });
    await until("all from the beginning", () => client.ids(a).length === 3);
    const types = client.of(a).map(({ type }) => type);
    expect(types.slice(0, 3)).toEqual(["caughtUp", "unsubscribed", "events"]);
    client.socket.close();
  });

  test("is told what is wrong with one subscription by a frame, and goes on with the others", async () => {
    const [good = "", bad = ""] = names("good", "bad");
    const gone = encodeCursor({ epoch: 9, partition: 0, offset: 0n });
    const client = await Client.open(url);
    client.subscribe(good);
    await client.frame("caughtUp", good);
    const cases: [object, string, string][] = [
      [{ clientId: bad, after: "nonsense" }, "invalid-cursor", "after"],
      [{ clientId: bad, after: gone }, "cursor-gone", "after"],
      [{ clientId: "" }, "invalid-parameter", "clientId"],
      [{ clientId: "x".repeat(256) }, "invalid-parameter", "clientId"],
      [{ clientId: "a\0b" }, "invalid-parameter", "clientId"],
      [{ clientId: bad, type: [""] }, "invalid-parameter", "type"],
    ];
    for (const [wish, code, field] of cases) {
      const seen = client.frames.length;
      client.say({ op: "subscribe", ...wish });
      await until("a frame", () => client.frames.length > seen);
      expect([wish, client.frames.at(-1)]).toMatchObject([wish, { type: "problem", problem: { code, field } }]);
    }
    scene.append(good);
    await until("it", () => client.ids(good).length === 1);
    expect(client.closed).toBe(0);
    client.socket.close();
  });

  test("is shown only events of the types it names, and its cursor moves past the others", async () => {
    const [a = ""] = names("a");
    const other = scene.append(...["x", "y", "x", "z"].map((type) => ({ clientId: a, type })));
    const byAddress = await Client.open(url, `?clientId=${a}&after=0&type=x&type=z`);
    const byMessage = (await Client.open(url)).subscribe(a, { after: BEGINNING, type: ["x", "z"] });
    for (const client of [byAddress, byMessage]) {
      const { cursor } = await client.frame("caughtUp", a);
      expect(client.of(a).flatMap(({ events = [] }) => events.map(({ type }) => type))).toEqual(["x", "x", "z"]);
      expect((cursor ?? "") >= (other.at(-1)?.cursor ?? "")).toBe(true);
    }
    const [passed] = scene.append({ clientId: a, type: "y" });
    scene.clock.advance(15_000);
    for (const client of [byAddress, byMessage]) {
      await until(
        "a cursor beyond the event that is not shown",
        () => (client.of(a).at(-1)?.cursor ?? "") >= (passed?.cursor ?? "~"),
      );
      expect(client.ids(a)).toHaveLength(3);
      client.socket.close();
    }
  });

  test("follows a thousand clients and no more; one that is refused harms none", async () => {
    const client = await Client.open(url);
    for (let n = 0; n < 999; n++) client.subscribe(`many-${n}`);
    await until("most are caught up", () => client.frames.filter(({ type }) => type === "caughtUp").length === 999);
    const second = await Client.open(url, "?clientId=first");
    for (let n = 0; n < 1_000; n++) second.subscribe(`many-${n}`);
    expect(await second.frame("problem")).toMatchObject({
      clientId: "many-999",
      problem: { code: "too-many-requests", status: 429 },
    });
    scene.append("many-998");
    for (const one of [client, second]) await until("it", () => one.ids("many-998").length === 1);
    expect([client.closed, second.closed]).toEqual([0, 0]);
    client.socket.close();
    second.socket.close();
  });

  test("closes with a reason when its client says what is no message, or too much", async () => {
    for (const message of [
      "hello",
      "null",
      "[]",
      { op: "subscribe" },
      { op: "follow", clientId: "a" },
      { op: "subscribe", clientId: "a", since: "now" },
      { op: "subscribe", clientId: ["a", "b"] },
      { op: "unsubscribe" },
    ]) {
      const client = await Client.open(url);
      client.say(message);
      expect([message, await client.ended()]).toEqual([message, 4400]);
      expect(client.frames).toMatchObject([{ type: "problem", problem: { code: "invalid-parameter" } }]);
    }
    const binary = await Client.open(url);
    binary.socket.send(Buffer.from('{"op":"subscribe","clientId":"a"}'));
    expect(await binary.ended()).toBe(4400);
    const large = await Client.open(url);
    large.say("x".repeat(17 * 1024));
    expect(await large.ended()).toBe(1009);
    const talkative = await Client.open(url);
    for (let n = 0; n < 1_001; n++) talkative.say({ op: "unsubscribe", clientId: "a" });
    expect(await talkative.ended()).toBe(4429);
    // A minute gives a hundred more.
    const patient = await Client.open(url);
    for (let n = 0; n < 1_000; n++) patient.say({ op: "unsubscribe", clientId: "a" });
    await until("all answers", () => patient.frames.length === 1_000);
    scene.clock.advance(60_000);
    for (let n = 0; n < 100; n++) patient.say({ op: "unsubscribe", clientId: "a" });
    await until("all answers", () => patient.frames.length === 1_100);
    patient.say({ op: "unsubscribe", clientId: "a" });
    expect(await patient.ended()).toBe(4429);
  });

  test("is not listened to while it leaves its answers: they take no room from others, and all come in the end", async () => {
    const [who = ""] = names("who");
    const held = vi.spyOn(scene.metrics.queryLiveBytes, "set");
    const deaf = await Client.open(url);
    deaf.socket.pause();
    const ids = Array.from({ length: 900 }, (_, n) => `${n}-${"x".repeat(16_000)}`);
    for (const clientId of ids) deaf.say({ op: "unsubscribe", clientId });
    const other = await Client.open(url);
    // As often as it takes to read 14 MB from a socket.
    for (let n = 1; n <= 300; n++) {
      other.say({ op: "unsubscribe", clientId: who });
      await until("the answer", () => other.of(who).length === n);
    }
    deaf.socket.resume();
    await until("all answers", () => deaf.frames.length === ids.length);
    expect(deaf.frames.map(({ clientId }) => clientId)).toEqual(ids);
    // Its share, and one answer more.
    expect(Math.max(...held.mock.calls.map(([bytes]) => bytes))).toBeLessThan(300_000);
    held.mockRestore();
    deaf.socket.close();
    other.socket.close();
  });

  test("closes with the client of its address, and not with that of a message", async () => {
    const client = await Client.open(url, "?clientId=a&after=nonsense");
    expect(await client.ended()).toBe(4400);
    expect(client.frames).toMatchObject([{ type: "problem", clientId: "a", problem: { code: "invalid-cursor" } }]);
    const nobody = await Client.open(url, "?after=0");
    expect(await nobody.ended()).toBe(4400);
    const moved = await Client.open(url, "?clientId=a");
    await moved.frame("caughtUp", "a");
    moved.subscribe("a", { after: "nonsense" });
    await moved.frame("problem", "a");
    moved.subscribe("b");
    await moved.frame("caughtUp", "b");
    moved.socket.close();
  });
});

test("where there are keys, each subscription is asked for its right, with the header or the first message", async () => {
  const keys = [{ name: "one", sha256: tokenHash("token-one"), clients: [{ prefix: "mine-" }], verbs: ["read"] }];
  await using serving = await scene.serve(keys);
  const withHeader = await Client.open(serving.url, "", "token-one");
  const withMessage = (await Client.open(serving.url)).say({ op: "authenticate", token: "token-one" });
  for (const client of [withHeader, withMessage]) {
    client.subscribe("theirs", { after: BEGINNING }).subscribe("mine-1").subscribe("Mine-1").subscribe("nobody");
    await client.frame("caughtUp", "mine-1");
    for (const clientId of ["theirs", "Mine-1", "nobody"])
      expect(await client.frame("problem", clientId)).toMatchObject({
        problem: { code: "forbidden", field: "clientId" },
      });
    scene.append("theirs", "mine-1");
    await until("its own", () => client.ids("mine-1").length === 1);
    expect(client.ids("theirs")).toEqual([]);
    client.socket.close();
  }
  const early = (await Client.open(serving.url)).subscribe("mine-1");
  expect(await early.ended()).toBe(4401);
});

/** One that has Debian's `python3-websocket` or PyPI's `websocket-client`. */
const python = ["python3", "/usr/bin/python3"].find((one) => spawnSync(one, ["-c", "import websocket"]).status === 0);

test.skipIf(python === undefined)(
  "Python's websocket client follows many clients (skipped where no python3 has the module websocket)",
  async () => {
    const [a = "", b = ""] = names("a", "b");
    const old = scene.append(a, b);
    const program = `
import json, sys, websocket
socket = websocket.create_connection(sys.argv[1])
for client in sys.argv[2:]:
    socket.send(json.dumps({"op": "subscribe", "clientId": client, "after": "0"}))
while True:
    print(socket.recv(), flush=True)
`;
    const address = `${url.replace("http", "ws")}/api/v1/events/live`;
    const child = spawn(python ?? "", ["-c", program, address, a, b], { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (data: Buffer) => {
      text += data.toString("utf8");
    });
    for (const { json } of old) await until("what was there", () => text.includes(json));
    for (const { json } of scene.append(b, a)) await until("what comes", () => text.includes(json));
    child.kill();
    await once(child, "close");
  },
);
