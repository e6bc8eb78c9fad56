import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type ClientOptions,
  type Event,
  RefusedError,
  SpillwayClient,
  UnavailableError,
} from "../../../clients/typescript/src/index.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { until } from "../../support/until.ts";
import { FakeSpillway, type Got, json, lose, refuse } from "./fake-spillway.ts";

let fake: FakeSpillway;
beforeEach(async () => {
  fake = await FakeSpillway.start();
});
afterEach(() => fake[Symbol.asyncDispose]());

const clientOf = (options: Partial<ClientOptions> = {}): SpillwayClient =>
  new SpillwayClient({ url: fake.url, ...options });
const shown = (id: string): Event => {
  const at = "2026-01-01T00:00:00.000Z";
  return { id, clientId: "c", type: "t", occurredAt: at, receivedAt: at, cursor: `at-${id}` };
};
const page =
  (ids: string, hasMore: boolean) =>
  (_got: Got, response: Parameters<typeof json>[0]): void =>
    json(
      response,
      200,
      { events: [...ids].map(shown), next: `next-${ids.at(-1)}`, hasMore },
      { "spillway-saved-through": "at-b" },
    );
const queries = (): string[] => fake.got.map(({ query }) => query.toString());
async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const got: T[] = [];
  for await (const one of source) got.push(one);
  return got;
}

test("all pages are read, each from where the last one ended, empty ones too", async () => {
  fake.next(page("ab", true), page("", true), page("c", false));
  const events = await all(clientOf({ token: "secret" }).read("c & d", { after: "0" }));
  expect(events).toEqual([shown("a"), shown("b"), shown("c")]);
  expect(queries()).toEqual([
    "clientId=c+%26+d&after=0&order=asc&limit=1000",
    "clientId=c+%26+d&after=next-b&order=asc&limit=1000",
    "clientId=c+%26+d&after=next-undefined&order=asc&limit=1000",
  ]);
  expect(fake.got[0]?.headers.authorization).toBe("Bearer secret");
});

test("every option is asked for", async () => {
  fake.next(page("a", false));
  await all(
    clientOf().read("c", {
      after: "x",
      before: "y",
      types: ["t+1", "u"],
      since: new Date(0),
      until: "2026-01-01T00:00:00+01:00",
      view: "saved",
      consistency: "known",
      atLeast: "z",
    }),
  );
  expect(Object.fromEntries([...(fake.got[0]?.query ?? [])].filter(([name]) => name !== "type"))).toEqual({
    clientId: "c",
    after: "x",
    before: "y",
    order: "asc",
    since: "1970-01-01T00:00:00.000Z",
    until: "2026-01-01T00:00:00+01:00",
    view: "saved",
    consistency: "known",
    atLeast: "z",
    limit: "1000",
  });
  expect(fake.got[0]?.query.getAll("type")).toEqual(["t+1", "u"]);
});

test("from the end it goes on before, up to its limit", async () => {
  fake.next(page("dc", true), page("b", true));
  const events = await all(clientOf().read("c", { order: "desc", limit: 3 }));
  expect(events.map(({ id }) => id)).toEqual(["d", "c", "b"]);
  expect(queries()).toEqual(["clientId=c&order=desc&limit=3", "clientId=c&order=desc&limit=1&before=next-c"]);
});

test("who stops reading asks for no further page", async () => {
  fake.answer = page("ab", true);
  for await (const { id } of clientOf().read("c")) if (id === "b") break;
  expect(fake.got.length).toBe(1);
});

test("a page tells how far the events are saved, and where to go on", async () => {
  fake.next(page("ab", false));
  expect(await all(clientOf().pages("c"))).toEqual([
    { events: [shown("a"), shown("b")], next: "next-b", hasMore: false, savedThrough: "at-b" },
  ]);
});

test("what cannot be answered now is asked again, and nothing is shown twice", async () => {
  fake.next(page("ab", true), refuse(503, { code: "behind" }), lose, (_got, response) => {
    response.writeHead(200, { "content-length": "100" }).write('{"events":[');
    setImmediate(() => response.socket?.destroy());
  });
  fake.next(page("c", false));
  const retries: string[] = [];
  const events = await all(clientOf({ onRetry: ({ message }) => retries.push(message) }).read("c"));
  expect(events.map(({ id }) => id)).toEqual(["a", "b", "c"]);
  expect(queries().slice(1)).toEqual(Array(4).fill("clientId=c&order=asc&limit=1000&after=next-b"));
  expect(retries[0]).toBe(`${fake.url}/api/v1/events answered 503 behind: D`);
  expect(retries[1]).toContain(`${fake.url} did not answer`);
});

test("a cursor that is gone is told, at once", async () => {
  fake.next(refuse(410, { code: "cursor-gone", detail: "start anew" }));
  const read = all(clientOf().read("c", { after: "old" }));
  await expect(read).rejects.toThrow(RefusedError);
  await expect(read).rejects.toMatchObject({ problem: { status: 410, code: "cursor-gone", detail: "start anew" } });
});

test("what stays away is given up, with the last reason", async () => {
  fake.answer = refuse(503, { code: "store-unreachable", detail: "the database is away" });
  const clock = fakeClock();
  let failures = 0;
  const client = new SpillwayClient({ url: fake.url, timeoutMs: 2_000, onRetry: () => void failures++ }, clock);
  const reading = { ended: false };
  const end = (): void => {
    reading.ended = true;
  };
  const read = all(client.read("c"));
  read.then(end, end);
  while (!reading.ended) {
    await clock.advance(50);
    await until("an answer, or the end", () => reading.ended || failures === fake.got.length);
  }
  await expect(read).rejects.toThrow(UnavailableError);
  await expect(read).rejects.toThrow("given up after 5 attempts: ");
  await expect(read).rejects.toThrow(" 503 store-unreachable: the database is away");
  expect(fake.got.length).toBe(5);
});

test("a signal ends the read, also while it waits for the next attempt", async () => {
  fake.answer = refuse(503, { code: "behind" }, { "retry-after": "3600" });
  const stop = new AbortController();
  const retried = Promise.withResolvers<void>();
  const client = clientOf({ timeoutMs: 10_000_000, onRetry: () => retried.resolve() });
  const read = all(client.read("c", { signal: stop.signal }));
  await retried.promise;
  stop.abort(new Error("enough"));
  await expect(read).rejects.toThrow("enough");
  fake.answer = () => undefined;
  const other = new AbortController();
  const hanging = all(client.read("c", { signal: other.signal }));
  await fake.requests(2);
  other.abort(new Error("too long"));
  await expect(hanging).rejects.toThrow("too long");
});
