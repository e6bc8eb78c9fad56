import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type ClientOptions,
  type NewEvent,
  RefusedError,
  SpillwayClient,
  UnavailableError,
} from "../../../clients/typescript/src/index.ts";
import { type FakeClock, fakeClock, settled } from "../../support/fake-clock.ts";
import { until } from "../../support/until.ts";
import { acknowledge, FakeSpillway, type Got, held, json, lose, refuse } from "./fake-spillway.ts";

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

let fake: FakeSpillway;
beforeEach(async () => {
  fake = await FakeSpillway.start();
});
afterEach(() => fake[Symbol.asyncDispose]());

const clientOf = (options: Partial<ClientOptions> = {}, clock?: FakeClock): SpillwayClient =>
  new SpillwayClient({ url: fake.url, ...options }, clock);
const event = (id?: string, more: Partial<NewEvent> = {}): NewEvent => ({
  clientId: "c",
  type: "t",
  ...(id && { id }),
  ...more,
});
const idsOf = ({ events }: Got): string[] => events.map(({ id }) => id);
const caught = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

/** A client on a clock that the test moves, and how often it has failed so far. */
function patient(options: Partial<ClientOptions> = {}) {
  const clock = fakeClock();
  const retries: string[] = [];
  const client = clientOf({ onRetry: ({ message }) => retries.push(message), ...options }, clock);
  const failed = (times: number) => until(`${times} failures`, () => retries.length >= times);
  return { clock, client, retries, failed };
}

test("an event is acknowledged with its id and cursor, and the token is shown", async () => {
  const client = clientOf({ token: "secret" });
  const acknowledged = await client.post(event("a", { data: { n: 1 }, occurredAt: new Date(0) }));
  expect(acknowledged).toEqual({ id: "a", cursor: "cursor-of-a", attempts: 1 });
  expect(fake.got[0]?.headers.authorization).toBe("Bearer secret");
  expect(JSON.parse(fake.got[0]?.body ?? "")).toEqual([
    { clientId: "c", type: "t", id: "a", data: { n: 1 }, occurredAt: "1970-01-01T00:00:00.000Z" },
  ]);
  expect(await client.post([])).toEqual([]);
  expect(fake.got.length).toBe(1);
});

test("what got no answer is sent again as the same events", async () => {
  fake.next(lose, refuse(503, { code: "overloaded" }), refuse(429, { code: "x" }), refuse(500, { code: "x" }));
  fake.next((_got, response) => void response.writeHead(201, { "content-length": "100" }).write('{"events":['), lose);
  fake.next((got, response) => acknowledge({ ...got, events: got.events.slice(1) }, response));
  const { client, clock, failed } = patient();
  const posted = client.post([event(), event("given"), event()]);
  for (let failures = 1; failures <= 7; failures++) {
    // The fifth answer breaks off when its connection is closed.
    if (failures === 5) await fake.requests(5).then(() => clock.advance(15_000));
    await failed(failures);
    await clock.advance(3_000);
  }
  const acknowledged = await posted;
  const [first, ...others] = fake.got;
  expect(others.length).toBe(7);
  for (const other of others) expect(other.body).toBe(first?.body);
  const ids = acknowledged.map(({ id }) => id);
  expect(ids).toEqual(idsOf(first as Got));
  expect(ids[0]).toMatch(UUID_V7);
  expect(ids[1]).toBe("given");
  expect(new Set(ids).size).toBe(3);
  expect(acknowledged[0]?.attempts).toBe(8);
});

test("what is posted meanwhile leaves together, in the order of the calls", async () => {
  const first = held();
  fake.next(first.answer);
  const client = clientOf();
  const posted = [client.post(event("0"))];
  await fake.requests(1);
  for (let n = 1; n < 2_500; n++) posted.push(client.post(event(String(n))));
  first.release();
  await Promise.all(posted);
  expect(fake.got.map((got) => got.events.length)).toEqual([1, 1_000, 1_000, 499]);
  expect(fake.got.flatMap(idsOf)).toEqual(Array.from({ length: 2_500 }, (_, n) => String(n)));
});

test("a request holds a MiB, or one call", async () => {
  const client = clientOf();
  const large = event(undefined, { data: "é".repeat(125_000) });
  await Promise.all([
    ...Array.from({ length: 9 }, () => client.post(large)),
    client.post([large, large, large, large, large]),
  ]);
  expect(fake.got.map((got) => got.events.length)).toEqual([4, 4, 1, 5]);
});

test("the next request waits for the answer to the last, whatever comes of it", async () => {
  const { client, clock, failed } = patient();
  const first = held();
  fake.next(lose, first.answer);
  const posted = [client.post(event("a"))];
  await failed(1);
  posted.push(client.post(event("b")));
  await clock.advance(1_000);
  await fake.requests(2);
  posted.push(client.post(event("c")));
  expect(fake.got.map(idsOf)).toEqual([["a"], ["a", "b"]]);
  first.release();
  await Promise.all(posted);
  expect(fake.got.map(idsOf)).toEqual([["a"], ["a", "b"], ["c"]]);
});

test.each([
  ["7", 7_000],
  [new Date(1_000_000 + 9_000).toUTCString(), 9_000],
])("Retry-After %s is waited for", async (header, ms) => {
  fake.next(refuse(503, { code: "overloaded" }, { "retry-after": header }));
  const { client, clock, failed } = patient();
  const posted = client.post(event("a"));
  await failed(1);
  await clock.advance(ms);
  // Whoever did not wait has come before this.
  await fetch(`${fake.url}/marker`);
  expect(fake.got.map(({ path }) => path)).toEqual(["/api/v1/events", "/marker"]);
  await clock.advance(100);
  await posted;
});

test("an event that is refused ends its own call, and the others go on without it", async () => {
  const stored: string[] = [];
  fake.answer = (got, response) => {
    const problems = [...got.events.entries()].flatMap(([index, { type }]) =>
      type === "bad" ? [{ index, code: "invalid-event", field: "/type", detail: `bad at ${index}` }] : [],
    );
    if (problems.length > 0)
      return refuse(400, { code: "invalid-event", problems: problems.slice(0, 1) })(got, response);
    stored.push(...idsOf(got));
    acknowledge(got, response);
  };
  const client = clientOf();
  const bad = (id: string) => event(id, { type: "bad" });
  const calls = [
    client.post(event("a")),
    client.post([event("b"), bad("c")]),
    client.post(event("d")),
    client.post(bad("e")),
  ];
  const [a, bc, d, e] = await Promise.all(calls.map((call) => caught(call)));
  expect([a, d]).toEqual([undefined, undefined]);
  expect(bc).toBeInstanceOf(RefusedError);
  expect((bc as RefusedError).problem).toMatchObject({ status: 400, code: "invalid-event" });
  expect((bc as RefusedError).problems).toEqual([
    { index: 1, code: "invalid-event", field: "/type", detail: "bad at 2" },
  ]);
  expect((e as RefusedError).problems[0]?.index).toBe(0);
  expect(stored).toEqual(["a", "d"]);
});

test("what is refused together, with no event named, is sent call by call", async () => {
  fake.answer = (got, response) => {
    if (got.events.length > 2) response.writeHead(413).end("<html>too large</html>");
    else acknowledge(got, response);
  };
  const client = clientOf();
  const calls = [
    client.post(event("a")),
    client.post([event("b"), event("c")]),
    client.post([event("d"), event("e"), event("f")]),
  ];
  const [a, bc, def] = await Promise.all(calls.map((call) => caught(call)));
  expect([a, bc]).toEqual([undefined, undefined]);
  expect((def as RefusedError).problem).toMatchObject({
    status: 413,
    code: "http-413",
    detail: "<html>too large</html>",
  });
  expect(fake.got.map((got) => idsOf(got).join(""))).toEqual(["abcdef", "a", "bc", "def"]);
});

test("a refusal that names an event which was not sent ends the call all the same", async () => {
  fake.answer = refuse(400, { code: "invalid-event", problems: [{ index: 7, code: "x", field: "", detail: "D" }] });
  await expect(clientOf().post(event("a"))).rejects.toThrow(RefusedError);
  expect(fake.got.length).toBe(1);
});

test("a key without the right ends all calls at once", async () => {
  fake.answer = refuse(401, { code: "unauthenticated" });
  const client = clientOf();
  const errors = await Promise.all([caught(client.post(event("a"))), caught(client.post(event("b")))]);
  expect(errors.map((error) => (error as RefusedError).problem.code)).toEqual(["unauthenticated", "unauthenticated"]);
  expect(fake.got.length).toBe(1);
});

test("a full buffer makes post wait", async () => {
  const first = held();
  fake.next(first.answer);
  const client = clientOf({ bufferBytesMax: 10_000 });
  const posted = Array.from({ length: 100 }, (_, n) => client.post(event(String(n), { data: "x".repeat(1_000) })));
  await fake.requests(1);
  first.release();
  await Promise.all(posted);
  // Ten of a little more than a thousand bytes are the first that are too many.
  expect(Math.max(...fake.got.map(({ body }) => body.length))).toBeLessThan(11_000);
  expect(fake.got.flatMap(idsOf)).toEqual(Array.from({ length: 100 }, (_, n) => String(n)));
});

test("posts that nobody awaits are refused beyond 10,000 that wait", async () => {
  fake.next(() => undefined);
  const client = clientOf({ bufferBytesMax: 1 });
  const posted = Array.from({ length: 10_002 }, () => caught(client.post(event())));
  expect(await posted.at(-1)).toMatchObject({ message: expect.stringContaining("10000 posts wait for room") });
  const stop = AbortSignal.abort(new Error("enough"));
  await client.close({ signal: stop });
  expect(await posted[0]).toMatchObject({ message: "enough" });
  expect(await posted[10_000]).toMatchObject({ message: "enough" });
});

test.each([
  ["no", refuse(503, { code: "overloaded", stored: "no" })],
  ["unknown", refuse(503, { code: "log-unreachable", stored: "unknown" })],
  ["unknown", lose],
] as const)("what is given up says that stored is %s, and the ids", async (stored, answer) => {
  fake.answer = answer;
  const { client, clock, failed, retries } = patient({ timeoutMs: 3_000 });
  const posted = caught(client.post([event("a"), event()]));
  await failed(1);
  for (let ms = 0; ms < 3_000; ms += 250) {
    await clock.advance(250);
    await until("an attempt or an end", () => fake.got.length === retries.length);
  }
  const error = await posted;
  expect(error).toBeInstanceOf(UnavailableError);
  expect(error).toMatchObject({ stored, ids: ["a", expect.stringMatching(UUID_V7)] });
  expect(String(error)).toContain("not acknowledged within 3 s");
  expect((error as UnavailableError).cause).toBeInstanceOf(Error);
});

test("one call can be given up, and the others go on", async () => {
  fake.next(refuse(503, { code: "overloaded" }));
  const { client, clock, failed } = patient();
  const stop = new AbortController();
  const posted = [
    client.post(event("a")),
    client.post(event("b"), { signal: stop.signal }),
    client.post(event("c")),
  ] as const;
  await failed(1);
  stop.abort(new Error("no more"));
  await expect(posted[1]).rejects.toThrow("no more");
  await clock.advance(1_000);
  await Promise.all([posted[0], posted[2]]);
  expect(fake.got.map(idsOf)).toEqual([
    ["a", "b", "c"],
    ["a", "c"],
  ]);
  await expect(client.post(event("d"), { signal: stop.signal })).rejects.toThrow("no more");
});

test("close sends what waits, and takes no more", async () => {
  const first = held();
  fake.next(first.answer);
  const client = clientOf({ lingerMs: 60_000 });
  const posted = client.post(event("a"));
  await settled();
  const closed = client.close();
  await fake.requests(1);
  await expect(client.post(event("b"))).rejects.toThrow("closed");
  first.release();
  await closed;
  expect(await posted).toMatchObject({ id: "a" });
});

test("close can be cut short, also while a node has asked for an hour", async () => {
  fake.answer = refuse(503, { code: "overloaded" }, { "retry-after": "3600" });
  const { client, failed } = patient();
  const posted = caught(client.post(event("a")));
  await failed(1);
  const stop = new AbortController();
  const closed = client.close({ signal: stop.signal });
  stop.abort(new Error("now"));
  await closed;
  expect(await posted).toMatchObject({ message: "now" });
});

test("a lone event waits for company as long as it is told, and a full request for none", async () => {
  const { client, clock } = patient({ lingerMs: 50 });
  const posted = [client.post(event("a"))];
  await clock.advance(49);
  posted.push(client.post(event("b")));
  await clock.advance(1);
  await Promise.all(posted);
  expect(fake.got.map(idsOf)).toEqual([["a", "b"]]);
  const many = [client.post(event())];
  await settled();
  for (let n = 1; n < 1_000; n++) many.push(client.post(event()));
  await Promise.all(many);
  expect(fake.got[1]?.events.length).toBe(1_000);
});

test("what was given up before it left is not sent", async () => {
  const { client, clock } = patient({ lingerMs: 50 });
  const stop = new AbortController();
  const posted = client.post(event("a"), { signal: stop.signal });
  await settled();
  stop.abort(new Error("no more"));
  await expect(posted).rejects.toThrow("no more");
  await clock.advance(50);
  const other = client.post(event("b"));
  await clock.advance(50);
  await other;
  expect(fake.got.map(idsOf)).toEqual([["b"]]);
});

test("the node that fails is left for the next one", async () => {
  await using other = await FakeSpillway.start();
  fake.answer = lose;
  // This clock's random number begins with the second.
  const { client, clock, failed } = patient({ url: [`${other.url}/`, fake.url] });
  const posted = client.post(event("a"));
  await failed(1);
  await clock.advance(1_000);
  await posted;
  for (const id of ["b", "c"]) await client.post(event(id));
  expect(other.got.map(idsOf)).toEqual([["a"], ["b"], ["c"]]);
  expect(fake.got.map(idsOf)).toEqual([["a"]]);
});

test("an answer that is no acknowledgement is none", async () => {
  fake.next(
    (_got, response) => json(response, 201, { events: [{ id: "other", cursor: "c" }] }),
    (_got, response) => json(response, 200, "hello"),
    (_got, response) => void response.writeHead(200).end("<html>"),
  );
  const client = clientOf();
  expect(await client.post(event("a"))).toMatchObject({ id: "a", attempts: 4 });
});

test("what cannot be sent is told at once, and hurts nothing else", async () => {
  const client = clientOf();
  const round: unknown[] = [];
  round.push(round);
  await expect(client.post(event("a", { data: round }))).rejects.toThrow(TypeError);
  await expect(client.post(event("b", { data: 1n }))).rejects.toThrow(TypeError);
  expect(await client.post(event("c"))).toMatchObject({ id: "c" });
  const full = clientOf({ bufferBytesMax: 1 });
  const posted = [event("d"), event("e", { data: round }), event("f")].map((one) => caught(full.post(one)));
  expect(await Promise.all(posted)).toEqual([undefined, expect.any(TypeError), undefined]);
  expect(() => new SpillwayClient({ url: "localhost:3000" })).toThrow("write it as http://host:port");
  expect(() => new SpillwayClient({ url: [] })).toThrow("at least one");
});
