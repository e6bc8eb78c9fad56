/**
 * What the TypeScript client posts is there once and in the order of the calls; what it reads and follows is whole and in order.
 * Attack: every node killed under it, connections cut, acknowledgements swallowed, over server-sent events and WebSocket.
 */
import { expect, test } from "vitest";
import { decodeCursor } from "#lib/cursor.ts";
import { type NewEvent, type Page, SpillwayClient } from "../../clients/typescript/src/index.ts";
import { createProxy, type TcpProxy } from "../../infra/proxy.ts";
import { until } from "../support/until.ts";
import { contentOf, type Seen, seen } from "./support/content.ts";
import { type History, now } from "./support/history.ts";
import { offsetOf } from "./support/reader.ts";
import { type Role, startSpillway } from "./support/spillway.ts";
import { acknowledges, EventMaker, newSeed, seeded } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d"];
/** Longer than anything stays dead here. */
const TIMEOUT_MS = 100_000;

/** The events as they were printed: what the client has parsed prints the same, as Spillway keeps one form. */
const seenIn = (events: readonly object[]): Seen[] => events.map((event) => seen(JSON.stringify(event), now()));

/** Posts without waiting for the last answer, and writes down in which order. */
class Poster {
  /** By clientId, the ids in the order of the calls. */
  readonly order = new Map<string, string[]>(CLIENTS.map((clientId) => [clientId, []]));
  attemptsMax = 0;
  readonly #client: SpillwayClient;
  readonly #history: History;

  constructor(client: SpillwayClient, history: History) {
    this.#client = client;
    this.#history = history;
  }

  /** @param ids whether they are given; else the client assigns them */
  async post(
    clientId: string,
    made: readonly (NewEvent & { readonly id: string; readonly occurredAt: string })[],
    ids: boolean,
  ) {
    const order = this.order.get(clientId) ?? [];
    const from = order.length;
    order.push(...made.map(({ id }) => id));
    const tInv = now();
    const acknowledged = await this.#client.post(made.map(({ id, ...event }) => (ids ? { ...event, id } : event)));
    const tRet = now();
    const request = this.#history.newId();
    for (const [index, { id, cursor, attempts }] of acknowledged.entries()) {
      const event = made[index];
      if (event === undefined) throw new Error("more acknowledgements than events");
      order[from + index] = id;
      this.attemptsMax = Math.max(this.attemptsMax, attempts);
      const content = contentOf({ ...event, id });
      const position = decodeCursor(cursor);
      this.#history.add({
        f: "append",
        node: "client",
        request,
        index,
        clientId,
        id,
        content,
        tInv,
        tRet,
        type: "ok",
        position,
      });
    }
  }
}

/** Reads a client to its end, and writes down every page. */
async function readAll(client: SpillwayClient, clientId: string, history: History): Promise<void> {
  const walk = history.newId();
  let after: string | undefined;
  for (let tInv = now(); ; ) {
    let page: Page | undefined;
    // One page a loop: when it was asked for is known then.
    for await (page of client.pages(clientId, { after })) break;
    if (page === undefined) throw new Error("no page");
    const { next, hasMore, savedThrough } = page;
    const tRet = now();
    history.add({
      ...{ f: "page", node: "client", walk, clientId, order: "asc", before: null, types: null, view: "merged" },
      ...{ consistency: "latest", atLeast: null, after: offsetOf(after), next: offsetOf(next), hasMore, tInv, tRet },
      ...{ events: seenIn(page.events), savedThrough: offsetOf(savedThrough) },
    });
    if (!hasMore) return;
    after = next;
    tInv = now();
  }
}

class Follow {
  readonly events: Seen[] = [];
  interruptions = 0;
  cursor = "0";
  readonly #done = new AbortController();
  readonly #running: Promise<void>;
  readonly #clientId: string;
  readonly #transport: "sse" | "websocket";

  constructor(client: SpillwayClient, clientId: string, transport: "sse" | "websocket") {
    this.#clientId = clientId;
    this.#transport = transport;
    this.#running = this.#run(client);
    this.#running.catch(() => undefined);
  }

  async #run(client: SpillwayClient): Promise<void> {
    const { signal } = this.#done;
    const frames = client.frames(this.#clientId, { after: "0", transport: this.#transport, signal });
    for await (const frame of frames) {
      if (frame.type === "interrupted") this.interruptions++;
      else if (frame.type === "events") {
        this.events.push(...seenIn(frame.events));
        this.cursor = frame.events.at(-1)?.cursor ?? this.cursor;
      } else this.cursor = frame.cursor;
    }
  }

  /** Ends it once it has come so far. */
  async finish(history: History, events: number): Promise<void> {
    await until(`${events} events over ${this.#transport}`, () => this.events.length >= events, { limitMs: 60_000 });
    this.#done.abort(new Error("enough"));
    await expect(this.#running).rejects.toThrow("enough");
    const reader = `${this.#clientId} over ${this.#transport}`;
    const through = offsetOf(this.cursor);
    const { events: shown, interruptions: resumes } = this;
    history.add({ f: "live", reader, clientId: this.#clientId, after: null, events: shown, through, resumes });
  }
}

const proxied = (nodes: readonly Role[]): Promise<TcpProxy[]> =>
  Promise.all(nodes.map((node) => createProxy({ host: "127.0.0.1", port: Number(new URL(node.url).port) })));
const urls = (proxies: readonly TcpProxy[]): string[] => proxies.map(({ port }) => `http://127.0.0.1:${port}`);

/** What is stored now is told to nobody, and so comes twice. @param cut its connections end at once */
async function loseAcknowledgements(proxies: readonly TcpProxy[], cut: TcpProxy, history: History): Promise<void> {
  const before = proxies.map(({ counts }) => counts.swallowedBytes);
  const lost = (): boolean => proxies.some(({ counts }, at) => counts.swallowedBytes > (before[at] ?? 0));
  for (const proxy of proxies) proxy.mode = "swallowReplies";
  await until("a lost acknowledgement", lost);
  cut.cut();
  for (const proxy of proxies) proxy.mode = "pass";
  await acknowledges(history, 100);
}

/** Nothing of what is sent now is stored: it must come before what was posted after it. */
async function refuse(proxies: readonly TcpProxy[], failures: () => number, history: History): Promise<void> {
  const before = failures();
  for (const proxy of proxies) proxy.mode = "refuse";
  await until("two attempts in vain", () => failures() >= before + 2);
  for (const proxy of proxies) proxy.mode = "pass";
  await acknowledges(history, 100);
}

test("nothing is lost, repeated or out of order, whatever dies", { timeout: 180_000 }, async () => {
  const seed = newSeed("client");
  const random = seeded(seed);
  await using spillway = await startSpillway({ ingests: 2, queries: 2, sinks: 1 });
  const { history, ingests, queries, sinks } = spillway;
  await using closing = new AsyncDisposableStack();
  const [before, behind] = await Promise.all([proxied(ingests), proxied(queries)]);
  for (const proxy of [...before, ...behind]) closing.use(proxy);
  let failures = 0;
  const poster = new SpillwayClient({ url: urls(before), timeoutMs: TIMEOUT_MS, onRetry: () => void failures++ });
  const reader = new SpillwayClient({ url: urls(behind), timeoutMs: TIMEOUT_MS });
  const posts = new Poster(poster, history);
  const follows = CLIENTS.flatMap((one) => [new Follow(reader, one, "sse"), new Follow(reader, one, "websocket")]);
  const done = new AbortController();

  const posting = async (worker: number): Promise<void> => {
    const maker = new EventMaker(`w${worker}-`);
    const calls: Promise<void>[] = [];
    while (!done.signal.aborted) {
      const clientId = CLIENTS[Math.floor(random() * CLIENTS.length)] ?? "a";
      const made = Array.from({ length: 1 + Math.floor(random() * 3) }, () => maker.make(clientId));
      calls.push(posts.post(clientId, made, random() < 0.75));
      // Ten calls are open at any time: some are under way, others wait behind them.
      if (calls.length === 10) await calls.shift();
    }
    await Promise.all(calls);
  };
  const reading = async (clientId: string): Promise<void> => {
    while (!done.signal.aborted) await readAll(reader, clientId, history);
  };
  const running = [0, 1, 2].map(posting).concat(CLIENTS.slice(0, 2).map(reading));
  for (const one of running) one.catch(() => undefined);

  await acknowledges(history, 100);
  for (const victim of [...ingests, ...queries, ...sinks].sort(() => random() - 0.5)) {
    await victim.kill();
    await acknowledges(history, 100);
    for (const proxy of [...before, ...behind].filter(() => random() < 0.5)) proxy.cut();
    await victim.start();
    await acknowledges(history, 100);
  }
  for (const proxy of before) {
    await loseAcknowledgements(before, proxy, history);
    await refuse(before, () => failures, history);
  }
  done.abort();
  await Promise.all(running);
  await poster.close();
  for (const [at, follow] of follows.entries())
    await follow.finish(history, posts.order.get(CLIENTS[at >> 1] ?? "")?.length ?? 0);
  await spillway.saved();

  // By readers that have nothing to do with the client.
  for (const [clientId, ids] of posts.order) {
    const { texts } = await spillway.reader.walk(spillway.query, { clientId, limit: 1_000 });
    expect(texts.map((text) => (JSON.parse(text) as { id: string }).id)).toEqual(ids);
  }
  expect(posts.attemptsMax).toBeGreaterThan(1);
  await spillway.check({ okIds: 1_000, copies: 2, pages: 20, liveEvents: 2_000, resumes: 8, rows: 1_000 });
});
