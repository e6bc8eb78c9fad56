import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import { parseKeys, tokenHash } from "#lib/access.ts";
import { systemClock as clock } from "#lib/clock.ts";
import { createServer, type Server } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { registerPages } from "../../../apps/query/pages.ts";
import { ClientOrder, comparePlaces, type Place } from "../../../apps/query/places.ts";
import type { Page, PageQuery } from "../../../apps/query/read.ts";
import { silentLog as log } from "../../support/records.ts";
import { until } from "../../support/until.ts";

const EPOCHS = { epoch: 1, partitions: new Map([[1, 1]]) };
const at = (offset: number): Place => ({ epoch: 1, offset: BigInt(offset) });
const cursor = (offset: number): string => new ClientOrder("a", EPOCHS).cursor(at(offset));

/** A role by hand: event n of the client lies at offset n. */
class FakeQuery {
  readonly asked: PageQuery[] = [];
  events: string[];
  savedTo = -1;
  /** Awaited by each read before it looks. */
  before: (query: PageQuery) => Promise<void> = () => Promise.resolve();

  constructor(count: number, bytes = 10) {
    this.events = Array.from({ length: count }, (_, n) => `{"n":${n},"x":"${"x".repeat(bytes)}"}`);
  }

  order = (clientId: string): ClientOrder => new ClientOrder(clientId, EPOCHS);

  live = () => ({
    reach: { mark: () => Promise.resolve(BigInt(this.events.length)) },
    tail: { partition: () => ({ next: 0n }) as never },
  });

  explained = (error: unknown) => Promise.resolve(error);

  async read(_order: ClientOrder, query: PageQuery): Promise<Page> {
    this.asked.push(query);
    await this.before(query);
    const { after, before, limit } = query;
    const places = this.events
      .map((_, n) => at(n))
      .filter((place) => comparePlaces(place, after) > 0 && (before === null || comparePlaces(place, before) < 0));
    if (query.order === "desc") places.reverse();
    const taken = places.slice(0, limit);
    const hasMore = places.length > limit;
    const next = taken.at(-1) ?? after;
    const savedThrough = this.savedTo < 0 ? null : at(this.savedTo);
    return { events: taken.map(({ offset }) => this.events[Number(offset)] ?? ""), next, hasMore, savedThrough };
  }
}

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.server.closeAllConnections();
    await server.close();
  }
});

async function given(query: FakeQuery, keys: Parameters<typeof parseKeys>[0] | null = null, late = { ms: 0 }) {
  const ready = () => ({ ready: true, missing: [] });
  const access = keys === null ? null : parseKeys(keys);
  const server = await createServer({ log, metrics: createMetrics(), access, ready, title: "T" });
  servers.push(server);
  registerPages(server, { query, clock: { ...clock, elapsed: () => clock.elapsed() + late.ms }, log });
  const leaving = Promise.withResolvers<void>();
  // Behind the routes' own.
  server.addHook("preClose", (done) => {
    leaving.resolve();
    done();
  });
  await server.listen({ host: "127.0.0.1", port: 0 });
  const { port } = server.server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/api/v1/events?clientId=a`;
  const ask = (more = "", headers: Readonly<Record<string, string>> = {}, method = "GET") =>
    fetch(`${url}${more}`, { headers, method });
  const stream = async (more = ""): Promise<object[]> => {
    const answer = await ask(more, { accept: "application/x-ndjson" });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
    const lines = (await answer.text()).split("\n");
    expect(lines.pop()).toBe("");
    return lines.map((line) => JSON.parse(line) as object);
  };
  return { server, leaving: leaving.promise, url, ask, stream };
}

const numbers = (lines: readonly object[]): unknown[] => lines.map((line) => ("n" in line ? line.n : line));
const upTo = (count: number, from = 0): number[] => Array.from({ length: count - from }, (_, n) => n + from);

describe("a stream", () => {
  test("is the whole range, an event a line, and says where it ends", async () => {
    const query = new FakeQuery(2_500);
    query.savedTo = 1_200;
    const { stream, ask } = await given(query);
    expect(numbers(await stream())).toEqual([...upTo(2_500), { next: cursor(2_499), hasMore: false }]);
    expect(query.asked.map(({ limit }) => limit)).toEqual([1_000, 1_000, 1_000]);
    expect(numbers(await stream("&order=desc"))).toEqual([
      ...upTo(2_500).reverse(),
      { next: cursor(0), hasMore: false },
    ]);
    const { headers } = await ask("", { accept: "application/x-ndjson" });
    expect([headers.get("spillway-saved-through"), headers.get("cache-control"), headers.get("vary")]).toEqual([
      cursor(1_200),
      "no-store",
      "accept, authorization",
    ]);
  });

  test("ends where the log ended when it was asked for, and each page must cover that", async () => {
    const query = new FakeQuery(1_500);
    const { stream } = await given(query);
    query.before = () => {
      query.events.push('{"late":true}');
      return Promise.resolve();
    };
    expect(numbers(await stream())).toEqual([...upTo(1_500), { next: cursor(1_499), hasMore: false }]);
    expect(query.asked.map(({ atLeast, before }) => [atLeast, before])).toEqual([
      [at(1_499), at(1_500)],
      [at(1_499), at(1_500)],
    ]);
    expect(numbers(await stream(`&before=${cursor(1_200)}&after=${cursor(999)}`))).toEqual([
      ...upTo(1_200, 1_000),
      { next: cursor(1_199), hasMore: false },
    ]);
  });

  test("of what is saved ends where saving had come to with its first page", async () => {
    const query = new FakeQuery(3_000);
    query.savedTo = 1_499;
    const { stream } = await given(query);
    query.before = () => {
      query.savedTo += 500;
      return Promise.resolve();
    };
    expect(numbers(await stream("&view=saved"))).toEqual([...upTo(2_000), { next: cursor(1_999), hasMore: false }]);
    expect(query.asked.map(({ atLeast, before }) => [atLeast, before])).toEqual([
      [null, null],
      [at(1_999), at(2_000)],
    ]);
  });

  test("holds at most `limit` events if one is given, and says that there are more", async () => {
    const { stream } = await given(new FakeQuery(2_500));
    expect(numbers(await stream("&limit=3"))).toEqual([0, 1, 2, { next: cursor(2), hasMore: true }]);
  });

  test("that cannot be finished ends with the problem, and where to go on", async () => {
    const query = new FakeQuery(2_500);
    const { stream, ask } = await given(query);
    query.before = ({ after }) =>
      after.offset > 0n
        ? Promise.reject(new ProblemError(problem("store-unreachable", "It is away.")))
        : Promise.resolve();
    expect(numbers(await stream())).toEqual([
      ...upTo(1_000),
      { problem: expect.objectContaining({ code: "store-unreachable", status: 503 }), next: cursor(999) },
    ]);
    query.before = () => Promise.reject(new ProblemError(problem("behind", "Not yet.")));
    const refused = await ask("", { accept: "application/x-ndjson" });
    expect([refused.status, (await refused.json()) as object]).toMatchObject([503, { code: "behind" }]);
  });

  test("whose reader leaves is read no further, and one that is not read waits", async () => {
    const query = new FakeQuery(100_000, 1_000);
    const { url } = await given(query);
    const asking = get(url, { headers: { accept: "application/x-ndjson" } }).on("error", () => undefined);
    const [answer] = (await once(asking, "response")) as [IncomingMessage];
    answer.pause();
    let before = -1;
    await until("nothing more is read", async () => {
      const now = query.asked.length;
      const still = now === before && now > 1;
      before = now;
      for (let turn = 0; turn < 100; turn++) await clock.turn();
      return still;
    });
    const read = query.asked.length;
    expect(read).toBeLessThan(50);
    asking.destroy();
    await fetch(`${url}&limit=1`);
    expect(query.asked.length).toBe(read + 1);
  });

  test("ends when the node shuts down, and says so", async () => {
    const query = new FakeQuery(5_000);
    const { server, leaving, stream } = await given(query);
    const gate = Promise.withResolvers<void>();
    query.before = ({ after }) => (after.offset > 1_500n ? gate.promise : Promise.resolve());
    const all = stream();
    await until("it is under way", () => query.asked.length === 3);
    const closed = server.close();
    await leaving;
    gate.resolve();
    expect(numbers(await all)).toEqual([
      ...upTo(3_000),
      { problem: expect.objectContaining({ code: "shutting-down" }), next: cursor(2_999) },
    ]);
    // It would be kept alive.
    server.server.closeAllConnections();
    await closed;
  });

  test("is one of 64 at most", async () => {
    const query = new FakeQuery(10);
    const { ask, stream } = await given(query);
    const gate = Promise.withResolvers<void>();
    query.before = () => gate.promise;
    const all = Array.from({ length: 64 }, () => stream());
    await until("all are under way", () => query.asked.length === 64);
    const refused = await ask("", { accept: "application/x-ndjson" });
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    gate.resolve();
    for (const lines of await Promise.all(all)) expect(lines.length).toBe(11);
    expect((await stream()).length).toBe(11);
  });

  test("that has not moved for long gives its place to one who comes", async () => {
    const query = new FakeQuery(1_500);
    const late = { ms: 0 };
    const { ask, stream } = await given(query, null, late);
    const gate = Promise.withResolvers<void>();
    query.before = ({ after }) => (after.offset > 500n ? gate.promise : Promise.resolve());
    const all = Array.from({ length: 64 }, () => stream());
    await until("all wait for their second page", () => query.asked.length === 128);
    late.ms = 5_000;
    expect((await ask("", { accept: "application/x-ndjson" })).status).toBe(503);
    late.ms = 15_000;
    expect((await stream("&limit=10")).length).toBe(11);
    gate.resolve();
    const ends = await Promise.allSettled(all);
    expect(ends.filter(({ status }) => status === "rejected")).toHaveLength(1);
    expect((await stream()).length).toBe(1_501);
  });

  test.each([
    ["application/x-ndjson;q=0.5, application/json", "application/json"],
    ["application/x-ndjson, application/json;q=0.9", "application/x-ndjson"],
    ["application/x-ndjson, */*;q=0.1", "application/x-ndjson"],
    ["*/*", "application/json"],
    ["application/*", "application/json"],
    ["text/html", "application/json"],
    ["application/x-ndjson;q=0", "application/json"],
  ])("Accept: %s gets %s", async (accept, type) => {
    const { ask } = await given(new FakeQuery(1));
    const answer = await ask("", { accept });
    expect(answer.headers.get("content-type")).toBe(type);
    await answer.text();
  });

  test("is not sent for HEAD", async () => {
    const query = new FakeQuery(5_000);
    const { ask } = await given(query);
    const answer = await ask("", { accept: "application/x-ndjson" }, "HEAD");
    expect([answer.status, answer.headers.get("content-type"), query.asked.length]).toEqual([
      200,
      "application/x-ndjson",
      0,
    ]);
  });
});

describe("a page in a cache", () => {
  test("that can never change may be kept, and is 304 without being read", async () => {
    const query = new FakeQuery(10);
    query.savedTo = 4;
    const { ask } = await given(query);
    const answer = await ask("&limit=3");
    const etag = answer.headers.get("etag") ?? "";
    expect(answer.headers.get("cache-control")).toMatch(/^private, immutable, max-age=\d+$/);
    expect(answer.headers.get("vary")).toBe("accept, authorization");
    const again = await ask("&limit=3", { "if-none-match": etag });
    expect([again.status, again.headers.get("etag"), await again.text()]).toEqual([304, etag, ""]);
    expect(again.headers.get("cache-control")).toMatch(/^private, immutable, max-age=\d+$/);
    expect(query.asked.length).toBe(1);
    expect((await ask("&limit=4", { "if-none-match": etag })).status).toBe(200);
  });

  test("that may change is asked for again, and is 304 while it has not", async () => {
    const query = new FakeQuery(10);
    query.savedTo = 4;
    const { ask } = await given(query);
    const answer = await ask();
    const etag = answer.headers.get("etag") ?? "";
    expect([answer.headers.get("cache-control"), etag]).toEqual(["no-cache", expect.stringMatching(/^"[\w-]{22}"$/)]);
    query.savedTo = 7;
    const same = await ask("", { "if-none-match": `W/"a", ${etag}` });
    expect([same.status, same.headers.get("etag"), same.headers.get("spillway-saved-through")]).toEqual([
      304,
      etag,
      cursor(7),
    ]);
    query.events.push('{"new":true}');
    const other = await ask("", { "if-none-match": etag });
    expect([other.status, (await other.json()) as object]).toMatchObject([200, { hasMore: false }]);
    expect(other.headers.get("etag")).not.toBe(etag);
    expect(query.asked.length).toBe(3);
  });

  test("is nobody's who has no right to the client, whatever tag they hold", async () => {
    const query = new FakeQuery(10);
    query.savedTo = 9;
    const key = (token: string, client: string) => ({
      name: token,
      sha256: tokenHash(token),
      clients: [{ exact: client }],
      verbs: ["read"],
    });
    const { ask } = await given(query, JSON.stringify([key("mine", "a"), key("other", "b")]));
    const mine = await ask("&limit=3", { authorization: "Bearer mine" });
    const etag = mine.headers.get("etag") ?? "";
    expect(etag).not.toBe("");
    for (const [token, status] of [
      ["other", 403],
      ["nobody", 401],
      ["mine", 304],
    ] as const)
      for (const tag of [etag, "*"]) {
        const answer = await ask("&limit=3", { authorization: `Bearer ${token}`, "if-none-match": tag });
        expect([token, answer.status, answer.headers.get("etag")]).toEqual([
          token,
          status,
          status === 304 ? etag : null,
        ]);
      }
  });
});

test("a page that is sent whole comes with its length", async () => {
  const { server, url } = await given(new FakeQuery(3));
  const sockets: Socket[] = [];
  server.server.on("connection", (socket: Socket) => sockets.push(socket));
  const [answer] = (await once(get(url), "response")) as [IncomingMessage];
  expect(Number(answer.headers["content-length"])).toBe((await text(answer)).length);
});
