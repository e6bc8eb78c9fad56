/**
 * A tail is exactly that slice of the client's order, over any reconnects and nodes; slow readers are told, and kept.
 * Attack: sockets cut anywhere, also in the middle of a frame and right after the last append; a query node killed; a
 * reader that stops reading; the sink saving, dead and back while frames are on their way; ids sent again over the seam;
 * WebSockets, sockets that many followers share, and server-sent events, each resumed on the other node.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { createProxy, type TcpProxy } from "../../infra/proxy.ts";
import { clientOf } from "../support/records.ts";
import { until } from "../support/until.ts";
import type { NewEvent } from "./support/content.ts";
import { Crowd } from "./support/crowd.ts";
import { Follower } from "./support/follower.ts";
import type { Node } from "./support/producer.ts";
import { type Spillway, startSpillway } from "./support/spillway.ts";
import { newSeed, produce, seeded } from "./support/workload.ts";

/** Ids acknowledged for a client. */
const acknowledged = ({ history }: Spillway, clientId: string): Set<string> =>
  new Set(
    history.entries.flatMap((one) =>
      one.f === "append" && one.type === "ok" && one.clientId === clientId ? [one.id] : [],
    ),
  );

const event = (clientId: string, id: string, text = ""): NewEvent => ({
  clientId,
  id,
  type: "t",
  occurredAt: "2026-01-31T08:00:00.000Z",
  data: { text },
});

interface ProxiedNode extends Node {
  readonly proxy: TcpProxy;
}

async function proxied(node: Node): Promise<ProxiedNode> {
  const proxy = await createProxy({ host: "127.0.0.1", port: Number(new URL(node.url).port) });
  return { name: `${node.name} behind a proxy`, url: `http://127.0.0.1:${proxy.port}`, proxy };
}

/** A follower, or several on one socket. */
type Cuttable = Pick<Follower, "open" | "connections" | "cursor" | "shown" | "cut"> & {
  reconnect(nodes: readonly Node[]): Promise<void>;
};

/** Cuts the follower's connections at random moments and resumes on the next node, until `done` aborts. */
async function harass(follower: Cuttable, nodes: readonly ProxiedNode[], random: () => number, done: AbortSignal) {
  // A follower from now on has nothing to resume from before; another one's cut of the way may have ended it so soon.
  await until("a first cursor", async () => {
    if (!follower.open) await follower.reconnect(nodes);
    return follower.cursor;
  });
  for (;;) {
    const target = follower.shown + 1 + Math.floor(random() * 40);
    await until("more events, or an end", () => done.aborted || !follower.open || follower.shown >= target, {
      limitMs: 60_000,
    });
    if (done.aborted) return;
    if (random() < 0.5) follower.cut();
    else nodes[follower.connections % nodes.length]?.proxy.cut();
    await follower.reconnect(nodes);
  }
}

describe("cut anywhere", () => {
  test("followers are shown their slice once, in order, whatever is cut and killed", { timeout: 90_000 }, async () => {
    const seed = newSeed("tail: cut anywhere");
    await using spillway = await startSpillway({ ingests: 1, queries: 2 });
    const [first, second] = spillway.queries;
    if (first === undefined || second === undefined) throw new Error("two query nodes are needed");
    await using one = (await proxied(first)).proxy;
    await using two = (await proxied(second)).proxy;
    const nodes = [
      { name: first.name, url: `http://127.0.0.1:${one.port}`, proxy: one },
      { name: second.name, url: `http://127.0.0.1:${two.port}`, proxy: two },
    ];
    const clients = ["hot-1", "hot-2", "hot-3"];
    const load = (requests: number, name: string) =>
      produce(spillway.producer, { nodes: [spillway.ingest], clients, requests, seed, name });
    const done = new AbortController();
    const followers: { follower: Follower; clientId: string; after: string | undefined }[] = [];
    const harassed: Promise<void>[] = [];
    const attack = (one: Cuttable): void => {
      const running = harass(one, nodes, seeded(seed + followers.length), done.signal);
      running.catch(() => undefined);
      harassed.push(running);
    };
    const made = (clientId: string, after: string | undefined, by: "socket" | "stream" | "crowd"): Follower => {
      const name = `${clientId} from ${after ?? "now"} by ${by}`;
      const follower = new Follower({
        clientId,
        name,
        ...(after !== undefined && { after }),
        ...(by === "stream" && { by }),
      });
      followers.push({ follower, clientId, after });
      return follower;
    };
    const follow = (clientId: string, after?: string): void => {
      attack(made(clientId, after, "socket"));
      attack(made(clientId, after, "stream"));
    };
    const followTogether = (after?: string): void =>
      attack(new Crowd(clients.map((clientId) => made(clientId, after, "crowd"))));

    for (const clientId of clients) follow(clientId, "0");
    followTogether("0");
    await load(150, "unsaved");
    for (const clientId of clients) follow(clientId);
    followTogether();
    const old = followers[0]?.follower.cursor ?? "0";
    const sink = await spillway.add("sink");
    await Promise.all([load(150, "saving"), sink.launch()]);
    follow("hot-1", old);
    await Promise.all([load(100, "sink killed"), sink.kill()]);
    await Promise.all([load(150, "node killed"), first.kill(), sink.launch()]);
    await Promise.all([load(150, "node back"), first.launch()]);
    await first.app.ready();
    for (const clientId of clients) follow(clientId, "0");
    followTogether("0");
    await load(50, "last");

    done.abort();
    await Promise.all(harassed);
    for (const { follower } of followers) {
      // Those that shared a socket go on alone.
      await follower.reconnect(spillway.queries);
      await follower.caughtUp();
      follower.finish(spillway.history);
    }
    await spillway.saved();
    await spillway.check({ okIds: 1_000, resumes: 40, liveEvents: 5_000, copies: 10, rows: 1_000 });
    // From the beginning means all of it: the checker knows the slice, this knows that it was not empty.
    for (const { follower, clientId } of followers.filter(({ after }) => after === "0"))
      expect(new Set(follower.events.map(({ id }) => id))).toEqual(acknowledged(spillway, clientId));
  });

  test("a frame that was cut in its middle is shown whole after the resume", async () => {
    await using spillway = await startSpillway({ ingests: 1, queries: 2 });
    const client = "wide";
    for (let n = 0; n < 40; n++)
      await spillway.producer.deliver(spillway.ingest, [event(client, `e${n}`, "x".repeat(60_000))]);
    const nodes = await Promise.all(spillway.queries.map((node) => proxied(node)));
    // The first frames come from a page, which is no reason for them to be larger.
    const follower = new Follower({ clientId: client, after: "0" });
    let inFrame = 0;
    for (let round = 0; follower.events.length < 40; round++) {
      const node = nodes[round % 2] as ProxiedNode;
      const { proxy } = node;
      const seen = follower.events.length;
      const begun = proxy.counts.replyBytes;
      // Slow enough to be met in the middle of a frame of four events. Every third connection lives for a frame, so that
      // there is progress.
      proxy.rateBytes = 3_000_000;
      await follower.connect(node);
      await until(
        "enough of a frame",
        () => follower.events.length > seen || (round % 3 < 2 && proxy.counts.replyBytes > begun + 20_000),
      );
      proxy.cut();
      proxy.rateBytes = 0;
      await until("the end of the connection", () => !follower.open);
      if (follower.events.length === seen) inFrame++;
    }
    await follower.reconnect(nodes);
    await follower.caughtUp();
    expect(follower.events.map(({ id }) => id)).toEqual(Array.from({ length: 40 }, (_, n) => `e${n}`));
    expect(inFrame).toBeGreaterThan(2);
    follower.cut();
    await Promise.all(nodes.map(({ proxy }) => proxy.close()));
  });
});

describe("on quiet nodes", () => {
  let spillway: Spillway;
  let nodes: readonly Node[];
  beforeAll(async () => {
    spillway = await startSpillway({ ingests: 1, queries: 2, sinks: 1 });
    nodes = spillway.queries;
    return () => spillway[Symbol.asyncDispose]();
  });
  const append = (...events: NewEvent[]) => spillway.producer.deliver(spillway.ingest, events);
  const nodeOf = (n: number): Node => nodes[n % nodes.length] as Node;

  test("the last append is shown once, however soon after it the follower is cut", async () => {
    const client = clientOf(1, 4, "closing");
    const neighbour = clientOf(1, 4, "neighbour");
    const follower = new Follower({ clientId: client });
    await follower.connect(nodeOf(0));
    await follower.caughtUp();
    const ids: string[] = [];
    for (let n = 0; n < 24; n++) {
      const id = `last-${n}`;
      const appended = append(event(client, id));
      if (n % 4 === 0) follower.cut();
      await appended;
      ids.push(id);
      if (n % 4 === 1) follower.cut();
      if (n % 4 === 2) await follower.shows([id]);
      follower.cut();
      // Somebody else's event in the same partition: cursors move past it.
      if (n % 3 === 0) await append(event(neighbour, id));
      await follower.connect(nodeOf(n + 1));
      await follower.caughtUp();
      expect(follower.events.map((one) => one.id)).toEqual(ids);
    }
    follower.cut();
  });

  test("a caughtUp's cursor resumes exactly, also where nothing of the client's came since", async () => {
    const client = clientOf(2, 4, "resting");
    const neighbour = clientOf(2, 4, "neighbour");
    const follower = new Follower({ clientId: client });
    await follower.connect(nodeOf(0));
    await follower.caughtUp();
    const begun = follower.cursor;
    // Heartbeats go on while only the neighbour writes, and each is a cursor further on.
    await append(event(neighbour, "n1"), event(neighbour, "n2"));
    await until("a heartbeat beyond the neighbour's events", () => (follower.cursor ?? "") > (begun ?? ""));
    const rested = follower.cursor ?? "";
    follower.cut();
    await append(event(client, "e1"), event(neighbour, "n3"), event(client, "e2"));
    for (const [n, after] of [begun, rested].entries())
      for (const node of nodes) {
        const resumed = new Follower({ clientId: client, after: after ?? "0" });
        await resumed.connect(node);
        await resumed.caughtUp();
        expect(
          resumed.events.map(({ id }) => id),
          `cursor ${n} on ${node.name}`,
        ).toEqual(["e1", "e2"]);
        resumed.cut();
      }
  });

  test("from now shows only what comes, from 0 everything, from an old cursor what followed it", async () => {
    const client = clientOf(3, 4, "beginnings");
    const cursors: string[] = [];
    for (let n = 0; n < 20; n++) cursors.push(...(await append(event(client, `e${n}`))).cursors);
    const ids = Array.from({ length: 22 }, (_, n) => `e${n}`);
    for (const node of nodes) {
      const now = new Follower({ clientId: client });
      await now.connect(node);
      await now.caughtUp();
      expect(now.events).toEqual([]);
      now.cut();
    }
    const now = new Follower({ clientId: client });
    await now.connect(nodeOf(0));
    await now.caughtUp();
    await append(event(client, "e20"), event(client, "e21"));
    await now.shows(["e21"]);
    expect(now.events.map(({ id }) => id)).toEqual(["e20", "e21"]);
    now.cut();
    const all = new Follower({ clientId: client, after: "0" });
    await all.connect(nodeOf(1));
    await all.caughtUp();
    expect(all.events.map(({ id }) => id)).toEqual(ids);
    all.cut();
    for (let n = 0; n < 20; n += 3) {
      const old = new Follower({ clientId: client, after: cursors[n] ?? "" });
      await old.connect(nodeOf(n));
      await old.caughtUp();
      expect(old.events.map(({ id }) => id)).toEqual(ids.slice(n + 1));
      old.cut();
    }
  });

  test("a reader that stops reading is told that it fell behind, is kept, and gets everything", async () => {
    const client = "slow";
    const slow = new Follower({ clientId: client });
    const quick = new Follower({ clientId: client });
    await Promise.all([slow.connect(nodeOf(0)), quick.connect(nodeOf(0))]);
    await Promise.all([slow.caughtUp(), quick.caughtUp()]);
    slow.pause();
    // 24 MiB: the kernel's buffers on the loopback take about 4.
    const text = "x".repeat(100_000);
    const ids: string[] = [];
    for (let n = 0; n < 250; n += 10) {
      const events = Array.from({ length: 10 }, (_, k) => event(client, `e${n + k}`, text));
      await append(...events);
      ids.push(...events.map(({ id }) => id));
    }
    await quick.shows(ids);
    await spillway.saved();
    // Until the node has let go of what was saved, the slow reader could still be served from memory.
    await until("the tail is empty", async () => {
      const metrics = await (await fetch(`${nodeOf(0).url}/metrics`)).text();
      return /^spillway_query_tail_records(\{[^}]*\})? 0$/m.test(metrics);
    });
    expect(slow.events.length).toBeLessThan(ids.length);
    slow.resume();
    await slow.shows(ids);
    await slow.caughtUp();
    expect(slow.events.map(({ id }) => id)).toEqual(ids);
    expect(slow.texts).toEqual(quick.texts);
    expect(slow.frames).toContain("fellBehind");
    expect(slow.connections).toBe(1);
    expect(slow.open).toBe(true);
    await append(event(client, "afterwards"));
    await slow.shows(["afterwards"]);
    slow.cut();
    quick.cut();
  });

  test("an id that is sent again is not shown again, saved or not", async () => {
    const client = "repeating";
    const sink = spillway.sink;
    await append(event(client, "saved"));
    await spillway.saved();
    const early = nodes.map(() => new Follower({ clientId: client, after: "0" }));
    const now = nodes.map(() => new Follower({ clientId: client }));
    for (const [n, node] of nodes.entries()) await Promise.all([early[n]?.connect(node), now[n]?.connect(node)]);
    await Promise.all([...early, ...now].map((follower) => follower.caughtUp()));
    await sink.kill();
    // Copies of a saved and of an unsaved event, each with an event behind it that shows that the copy was passed.
    await append(event(client, "saved"));
    await append(event(client, "unsaved"));
    await append(event(client, "saved"), event(client, "unsaved"));
    await append(event(client, "after the copies"));
    const ids = ["saved", "unsaved", "after the copies"];
    await Promise.all([...early, ...now].map((follower) => follower.shows(["after the copies"])));
    const late = new Follower({ clientId: client, after: "0" });
    await late.connect(nodeOf(1));
    await late.caughtUp();
    expect(late.events.map(({ id }) => id)).toEqual(ids);
    await sink.start();
    await append(event(client, "unsaved"), event(client, "saved again"));
    await spillway.saved();
    await append(event(client, "saved again"), event(client, "last"));
    const all = [...ids, "saved again", "last"];
    for (const follower of [...early, late]) {
      await follower.shows(["last"]);
      expect(follower.events.map(({ id }) => id)).toEqual(all);
    }
    for (const follower of now) {
      await follower.shows(["last"]);
      expect(follower.events.map(({ id }) => id)).toEqual(all.slice(1));
    }
    for (const follower of [...early, ...now, late]) follower.cut();
  });
});
