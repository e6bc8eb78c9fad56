import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { tokenHash } from "#lib/access.ts";
import { BEGINNING, encodeCursor } from "#lib/cursor.ts";
import { createProxy } from "../../../infra/proxy.ts";
import { holdTransaction } from "../../promises/support/faults.ts";
import type { App } from "../../support/process.ts";
import { until } from "../../support/until.ts";
import { Given, type Placed, page } from "./given.ts";

interface FrameAnswer {
  readonly type: "events" | "caughtUp" | "fellBehind" | "problem";
  readonly clientId?: string;
  readonly events?: readonly { readonly cursor: string; readonly id: string }[];
  readonly cursor?: string;
  readonly problem?: { readonly code: string; readonly status: number };
}

/** A follower that keeps its frames. */
class Follower {
  readonly socket: WebSocket;
  readonly texts: string[] = [];
  closed: { readonly code: number; readonly reason: string } | null = null;

  constructor(app: App, parameters: Readonly<Record<string, string>>, token?: string) {
    const search = new URLSearchParams(parameters);
    this.socket = new WebSocket(`${app.url.replace("http", "ws")}/api/v1/events/live?${search}`, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    this.socket.on("message", (data) => this.texts.push(String(data)));
    this.socket.on("close", (code, reason) => {
      this.closed = { code, reason: String(reason) };
    });
    this.socket.on("error", () => undefined);
  }

  get frames(): FrameAnswer[] {
    return this.texts.map((text) => JSON.parse(text) as FrameAnswer);
  }

  /** The events' own text, as it was sent. */
  get events(): string[] {
    return this.texts
      .filter((text) => text.startsWith('{"type":"events"'))
      .flatMap((text) => {
        const inner = text.slice(text.indexOf("[") + 1, -2);
        return inner.split(/(?<=")},(?={"id")/).map((one, n, all) => (n < all.length - 1 ? `${one}}` : one));
      });
  }

  /** The last cursor of any frame. */
  get cursor(): string | undefined {
    const last = this.frames.at(-1);
    return last?.cursor ?? last?.events?.at(-1)?.cursor;
  }

  caughtUp(): Promise<FrameAnswer> {
    return until("caughtUp", () => this.frames.find(({ type }) => type === "caughtUp"));
  }

  async got(count: number): Promise<void> {
    await until(`${count} events, not ${this.events.length}`, () => this.events.length >= count);
  }

  async ended(): Promise<number> {
    return (await until("the socket closed", () => this.closed)).code;
  }
}

describe("a follower of one node, on a real log and database", () => {
  let given: Given;
  let node: App;
  beforeAll(async () => {
    given = await Given.create();
    node = await given.node({ SPILLWAY_HEARTBEAT_MS: "200" });
    await node.ready();
  });
  afterAll(async () => {
    await node.kill();
    await given[Symbol.asyncDispose]();
  });
  const jsonOf = (placed: readonly Placed[]): string[] => placed.map(({ json }) => json);

  it("gets everything from the beginning, saved or not, then what comes, byte for byte", async () => {
    const old = await given.append(...Array.from({ length: 25 }, () => given.event("all")));
    const [{ partition, offset }] = old.slice(14) as [Placed];
    await given.save(partition, offset + 1n);
    const follower = new Follower(node, { clientId: "all", after: BEGINNING });
    await follower.caughtUp();
    expect(follower.events).toEqual(jsonOf(old));
    const fresh = await given.append(given.event("all"), given.event("other"), given.event("all", { data: null }));
    await follower.got(27);
    expect(follower.events).toEqual(jsonOf([...old, ...fresh.filter(({ event }) => event.clientId === "all")]));
    expect(new Set(follower.frames.map(({ clientId }) => clientId))).toEqual(new Set(["all"]));
    follower.socket.close();
  });

  it("whose cursor lies beyond the log's end is told so and closed, instead of missing what comes next", async () => {
    const [last] = (await given.append(given.event("cut"))) as [Placed];
    const ends = await given.append(given.event("cut"), given.event("cut"));
    const { partition, offset } = ends.at(-1) as Placed;
    const beyond = encodeCursor({ epoch: 1, partition, offset: offset + 3n });
    const follower = new Follower(node, { clientId: "cut", after: beyond });
    expect(await follower.ended()).toBe(4410);
    expect(follower.frames).toEqual([
      { type: "problem", clientId: "cut", problem: expect.objectContaining({ code: "cursor-gone", field: "after" }) },
    ]);
    for (const wanted of [{ after: beyond }, { atLeast: beyond }, { atLeast: beyond, view: "saved" }])
      expect(await page(node, { clientId: "cut", timeoutMs: "25000", ...wanted })).toMatchObject({
        status: 410,
        code: "cursor-gone",
      });
    // The end itself, and everything before it, are places.
    for (const after of [last.cursor, ends.at(-1)?.cursor ?? ""])
      expect((await page(node, { clientId: "cut", after })).status).toBe(200);
  });

  it("from now on: is caught up at once, and gets what comes and nothing older", async () => {
    await given.append(given.event("now"));
    const follower = new Follower(node, { clientId: "now" });
    const silent = new Follower(node, { clientId: "nobody" });
    expect((await follower.caughtUp()).cursor).toHaveLength(24);
    await silent.caughtUp();
    const fresh = await given.append(given.event("now"));
    await follower.got(1);
    expect(follower.events).toEqual(jsonOf(fresh));
    expect(silent.events).toEqual([]);
    follower.socket.close();
    silent.socket.close();
  });

  it("gets cursors with the heartbeat that move on, and resumes from one exactly", async () => {
    const follower = new Follower(node, { clientId: "beat" });
    const first = await follower.caughtUp();
    await given.append(given.event("beat-other"), given.event("beat"));
    await follower.got(1);
    const before = follower.cursor as string;
    const many = await given.append(...Array.from({ length: 5 }, () => given.event("beat")));
    await follower.got(6);
    const mark = await until("a heartbeat after the events", () =>
      follower.frames.at(-1)?.type === "caughtUp" ? follower.frames.at(-1) : null,
    );
    expect((mark.cursor as string) >= (many.at(-1) as Placed).cursor).toBe(true);
    expect((mark.cursor as string) > (first.cursor as string)).toBe(true);
    follower.socket.terminate();
    const resumed = new Follower(node, { clientId: "beat", after: before });
    await resumed.caughtUp();
    expect(resumed.events).toEqual(jsonOf(many));
    const nothing = new Follower(node, { clientId: "beat", after: mark.cursor as string });
    await nothing.caughtUp();
    expect(nothing.events).toEqual([]);
    resumed.socket.close();
    nothing.socket.close();
  });

  it("is shown no copy, neither of a saved event nor of an unsaved one", async () => {
    const event = given.event("twice");
    const [one] = (await given.append(event)) as [Placed];
    const follower = new Follower(node, { clientId: "twice", after: BEGINNING });
    await follower.caughtUp();
    await given.append({ ...event, type: "unsaved copy" });
    await given.save(one.partition, one.offset + 2n);
    await given.append({ ...event, type: "copy of a saved one" });
    const last = await given.append(given.event("twice"));
    await follower.got(2);
    expect(follower.events).toEqual(jsonOf([one, ...last]));
    follower.socket.close();
  });

  it("is sent a large backlog whole and in order, though it reads slowly", async () => {
    const data = JSON.stringify("x".repeat(60_000));
    const placed: Placed[] = [];
    for (let n = 0; n < 10; n++)
      placed.push(...(await given.append(...Array.from({ length: 20 }, () => given.event("slow", { data })))));
    const follower = new Follower(node, { clientId: "slow", after: BEGINNING });
    await once(follower.socket, "open");
    follower.socket.pause();
    const [last] = placed.slice(-1) as [Placed];
    await given.save(last.partition, last.offset + 1n);
    follower.socket.resume();
    await follower.got(200);
    expect(follower.frames.flatMap(({ events = [] }) => events.map(({ id }) => id))).toEqual(
      placed.map(({ event }) => event.id),
    );
    follower.socket.close();
  });

  it("is told why it cannot follow, by a frame and a close code", async () => {
    const gone = encodeCursor({ epoch: 9, partition: 0, offset: 0n });
    const cases: [Record<string, string>, number, string][] = [
      [{ clientId: "a", after: "nonsense" }, 4400, "invalid-cursor"],
      [{ clientId: "a", after: gone }, 4410, "cursor-gone"],
      [{ after: BEGINNING }, 4400, "invalid-parameter"],
      [{ clientId: "a", since: "now" }, 4400, "invalid-parameter"],
      [{ clientId: "a\0" }, 4400, "invalid-parameter"],
    ];
    for (const [parameters, code, reason] of cases) {
      const follower = new Follower(node, parameters);
      expect([parameters, await follower.ended(), follower.closed?.reason]).toEqual([parameters, code, reason]);
      expect(follower.frames).toMatchObject([{ type: "problem", problem: { code: reason } }]);
    }
    const talker = new Follower(node, { clientId: "a" });
    await once(talker.socket, "open");
    talker.socket.send("hello");
    expect(await talker.ended()).toBe(4400);
    const loud = new Follower(node, { clientId: "a" });
    await once(loud.socket, "open");
    loud.socket.send("x".repeat(17 * 1024));
    expect(await loud.ended()).toBe(1009);
  });

  it("is told to resume elsewhere when the node stops", async () => {
    const other = await given.node();
    await other.ready();
    const follower = new Follower(other, { clientId: "stop" });
    await follower.caughtUp();
    const exit = other.stop();
    expect(await follower.ended()).toBe(1012);
    expect(await exit).toBe(0);
    const [one] = await given.append(given.event("stop"));
    const resumed = new Follower(node, { clientId: "stop", after: follower.cursor as string });
    await resumed.caughtUp();
    expect(resumed.events).toEqual(jsonOf([one as Placed]));
    resumed.socket.close();
  });
});

describe("a follower without the database", () => {
  it("is shown events all the same", async () => {
    await using given = await Given.create();
    const url = new URL(given.database.url);
    await using proxy = await createProxy({ host: url.hostname, port: Number(url.port) });
    url.port = String(proxy.port);
    await using node = await given.node({ DATABASE_URL: url.href });
    await node.ready();
    const follower = new Follower(node, { clientId: "x" });
    await follower.caughtUp();
    const event = given.event("x");
    for (const mode of ["swallow", "refuse"] as const) {
      proxy.mode = mode;
      const [shown] = (await given.append(mode === "swallow" ? event : given.event("x"), event)) as [Placed];
      await until("the event", () => follower.events.includes(shown.json));
    }
    // The copies inside the tail were recognised.
    expect(follower.events).toHaveLength(2);
    follower.socket.close();
  });

  it("is shown events while somebody's lock holds up every look-up, and no copy of what the tail holds", async () => {
    await using given = await Given.create();
    await using node = await given.node();
    await node.ready();
    const followers = [new Follower(node, { clientId: "x" }), new Follower(node, { clientId: "y", type: "made" })];
    for (const follower of followers) await follower.caughtUp();
    {
      const statement = "LOCK TABLE spillway.event, spillway.checkpoint IN ACCESS EXCLUSIVE MODE";
      await using _lock = await holdTransaction(given.database.url, statement);
      const event = given.event("x");
      const shown = await given.append(event, given.event("y"), given.event("y", { type: "other" }), event);
      for (const [n, follower] of followers.entries())
        await until("the event", () => follower.events.includes(shown[n]?.json ?? ""));
      // One after another: an answer that is overdue delays none that follow.
      for (let n = 0; n < 5; n++) {
        const [one] = (await given.append(given.event("x"))) as [Placed];
        await until("the next one", () => followers[0]?.events.includes(one.json));
      }
      const waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
      expect((await given.database.query(waiting)).length).toBeGreaterThan(0);
    }
    expect(followers.map(({ events }) => events.length)).toEqual([6, 1]);
    for (const { socket } of followers) socket.close();
  });
});

describe("a crowd", () => {
  it("of a thousand who come back at once is shown everything, and pages are answered meanwhile", async () => {
    await using given = await Given.create();
    await using node = await given.node();
    await node.ready();
    const clients = Array.from({ length: 1_000 }, (_, n) => `crowd-${n}`);
    const placed = await given.append(...clients.map((clientId) => given.event(clientId)));
    for (const partition of [0, 1]) {
      const last = placed.findLast((one) => one.partition === partition) as Placed;
      await given.save(partition, last.offset + 1n);
    }
    await until("the node has let go of what is saved", async () => {
      const metrics = await (await fetch(`${node.url}/metrics`)).text();
      return /^spillway_query_tail_records(\{[^}]*\})? 0$/m.test(metrics);
    });
    const crowd = clients.map((clientId) => new Follower(node, { clientId, after: BEGINNING }));
    const pages = await Promise.all(clients.slice(0, 50).map((clientId) => page(node, { clientId })));
    expect(new Set(pages.map(({ status, events }) => `${status} ${events.length}`))).toEqual(new Set(["200 1"]));
    for (const follower of crowd) await follower.caughtUp();
    expect(crowd.flatMap(({ events }) => events)).toEqual(placed.map(({ json }) => json));
    const fresh = await given.append(...clients.slice(0, 100).map((clientId) => given.event(clientId)));
    for (const [n, { json }] of fresh.entries()) await until("it", () => crowd[n]?.events.includes(json));
    expect(crowd.filter(({ closed }) => closed !== null)).toEqual([]);
    expect(crowd.flatMap(({ frames }) => frames.filter(({ type }) => type === "problem"))).toEqual([]);
    for (const { socket } of crowd) socket.terminate();
  });
});

describe("a follower where there are keys", () => {
  it("shows its key in the header or in the first message", async () => {
    await using given = await Given.create();
    const record = { name: "one", sha256: tokenHash("token-one"), clients: [{ exact: "one" }], verbs: ["read"] };
    await using node = await given.node({ SPILLWAY_KEYS: JSON.stringify([record]) });
    await node.ready();
    const placed = await given.append(given.event("one"), given.event("two"));
    const header = new Follower(node, { clientId: "one", after: BEGINNING }, "token-one");
    await header.caughtUp();
    const message = new Follower(node, { clientId: "one", after: BEGINNING });
    await once(message.socket, "open");
    message.socket.send(JSON.stringify({ op: "authenticate", token: "token-one" }));
    await message.caughtUp();
    expect([header.events, message.events]).toEqual([[placed[0]?.json], [placed[0]?.json]]);
    expect(await new Follower(node, { clientId: "two" }, "token-one").ended()).toBe(4403);
    const wrong = new Follower(node, { clientId: "one" });
    await once(wrong.socket, "open");
    wrong.socket.send(JSON.stringify({ op: "authenticate", token: "token-two" }));
    expect(await wrong.ended()).toBe(4401);
    const odd = new Follower(node, { clientId: "one" });
    await once(odd.socket, "open");
    odd.socket.send("{");
    expect(await odd.ended()).toBe(4401);
    header.socket.close();
    message.socket.close();
  });
});
