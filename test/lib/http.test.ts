import { once } from "node:events";
import { request } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { text } from "node:stream/consumers";
import websocket from "@fastify/websocket";
import { Type } from "typebox";
import { afterEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { demand, parseKeys, tokenHash } from "#lib/access.ts";
import { type Clock, systemClock } from "#lib/clock.ts";
import { createServer, listenTask, rawBody, type Server, type ServerOptions } from "#lib/http.ts";
import { createLog, type Fields, type Log } from "#lib/log.ts";
import { createMetrics } from "#lib/metrics.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { fakeClock } from "../support/fake-clock.ts";
import { until } from "../support/until.ts";

const keys = parseKeys(
  JSON.stringify([
    { name: "one", sha256: tokenHash("one"), clients: [{ exact: "1" }], verbs: ["append", "read"] },
    { name: "operator", sha256: tokenHash("operator"), clients: [], verbs: ["operate"] },
  ]),
);
const as = (token: string) => ({ authorization: `Bearer ${token}` });
const JSON_TYPE = { "content-type": "application/json" };
const EVENTS = "/api/v1/events";

const closed = { additionalProperties: false };
const Page = Type.Object(
  {
    clientId: Type.String({ minLength: 1 }),
    type: Type.Optional(Type.Array(Type.String(), { maxItems: 3 })),
    since: Type.Optional(Type.String({ format: "date-time" })),
    limit: Type.Integer({ minimum: 1, maximum: 1_000, default: 100 }),
    order: Type.Optional(Type.Union([Type.Literal("asc"), Type.Literal("desc")])),
  },
  closed,
);
const Posted = rawBody(Type.Object({ clientId: Type.String() }));

/** A gate that keeps a request in flight until the test opens it. */
interface Gate {
  readonly entered: Promise<void>;
  open(): void;
}

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function sampleServer(more: Partial<ServerOptions> = {}) {
  const logged: { message: string; fields: Fields | undefined }[] = [];
  const log: Log = {
    ...createLog("test", "silent"),
    info: (message, fields) => void logged.push({ message, fields }),
    error: (message, fields) => void logged.push({ message, fields }),
  };
  const metrics = createMetrics();
  const ready = () => ({ ready: true, missing: [] });
  const server = await createServer({ log, metrics, access: keys, ready, title: "Sample", ...more });
  servers.push(server);
  const entered = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const gate: Gate = { entered: entered.promise, open: () => opened.resolve() };
  server.post(
    EVENTS,
    {
      schema: {
        consumes: ["application/json"],
        body: Posted,
        response: { 201: Type.Object({ id: Type.String(), bytes: Type.Integer() }) },
      },
    },
    async (request, reply) => {
      const { clientId } = JSON.parse(request.body.toString()) as { clientId: string };
      demand(request.access, "append", clientId);
      return reply.code(201).send({ id: clientId, bytes: request.body.length });
    },
  );
  server.get(EVENTS, { schema: { querystring: Page } }, (request) => {
    demand(request.access, "read", request.query.clientId);
    return request.query;
  });
  const live = Type.Object({}, closed);
  server.get(`${EVENTS}/live`, { schema: { querystring: live }, config: { access: "firstMessage" } }, (request) => ({
    name: request.access.name,
    later: server.spillway.accessOf("one")?.name,
  }));
  server.get(
    "/api/v1/letters/:id",
    { schema: { params: Type.Object({ id: Type.Integer() }, closed), problems: [404, 405] } },
    (request) => request.params,
  );
  server.get("/slow", { config: { access: "open" } }, async () => {
    entered.resolve();
    await opened.promise;
    return { slow: true };
  });
  server.get("/boom", () => {
    throw new Error("the password is hunter2");
  });
  server.get("/busy", () => {
    throw new ProblemError(problem("overloaded", "Too much.", { stored: "no" }), { retryAfterSeconds: 2.5 });
  });
  return { server, metrics, logged, gate };
}

describe("a caller", () => {
  test("without a key, or with an unknown one, gets 401 on every route of the document and on operators' routes", async () => {
    const { server } = await sampleServer();
    const document = (await server.inject({ url: "/openapi.json", headers: as("one") })).json();
    const routes = Object.entries<Record<string, unknown>>(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => ({ path, method: method.toUpperCase() })),
    );
    const guarded = routes.filter(({ path }) => !["/healthz", "/readyz", "/api/v1/events/live"].includes(path));
    expect(guarded.map(({ path, method }) => `${method} ${path}`).toSorted()).toEqual(
      [`GET ${EVENTS}`, "GET /api/v1/letters/{id}", "GET /metrics", "GET /openapi.json", `POST ${EVENTS}`].toSorted(),
    );
    for (const { path, method } of [...guarded, { path: EVENTS, method: "HEAD" }])
      for (const headers of [{}, as(""), as("wrong"), { authorization: "Basic b25l" }, { authorization: "one" }]) {
        const answer = await server.inject({ method: method as "GET", url: path, headers });
        expect(answer.statusCode, `${method} ${path}`).toBe(401);
        expect(answer.headers["www-authenticate"]).toContain("Bearer");
      }
  });

  test("is let in with a key, whatever the case of the scheme", async () => {
    const { server } = await sampleServer();
    for (const authorization of ["Bearer one", "bearer one", "BEARER  one "]) {
      const answer = await server.inject({ url: `${EVENTS}?clientId=1`, headers: { authorization } });
      expect(answer.statusCode).toBe(200);
    }
  });

  test("gets the same 403 for every client that is not its own", async () => {
    const { server } = await sampleServer();
    const ask = (clientId: string) => server.inject({ url: EVENTS, query: { clientId }, headers: as("one") });
    const bodies = await Promise.all(["2", "1 ", "١"].map(async (client) => (await ask(client)).body));
    expect(new Set(bodies).size).toBe(1);
    expect(JSON.parse(bodies[0] ?? "")).toMatchObject({ status: 403, code: "forbidden" });
  });

  test("reads the metrics only with the verb operate", async () => {
    const { server } = await sampleServer();
    expect((await server.inject({ url: "/metrics", headers: as("one") })).statusCode).toBe(403);
    expect((await server.inject({ url: "/metrics", headers: as("operator") })).statusCode).toBe(200);
  });

  test("may do everything where there are no keys", async () => {
    const { server } = await sampleServer({ access: null });
    for (const url of ["/metrics", "/openapi.json", `${EVENTS}?clientId=2`])
      expect((await server.inject(url)).statusCode).toBe(200);
  });

  test("may open a socket before it shows its token, and is allowed nothing until then", async () => {
    const { server } = await sampleServer();
    const ask = async (headers: Record<string, string>) =>
      (await server.inject({ url: `${EVENTS}/live`, headers })).json();
    expect(await ask({})).toEqual({ name: "none", later: "one" });
    expect(await ask(as("one"))).toEqual({ name: "one", later: "one" });
    expect(await ask(as("wrong"))).toMatchObject({ status: 401 });
  });

  test("needs no key to see whether the process lives and is ready", async () => {
    const { server } = await sampleServer();
    expect((await server.inject("/healthz")).json()).toEqual({ alive: true, process: process.pid });
    expect((await server.inject("/readyz")).json()).toEqual({ ready: true, missing: [] });
  });
});

describe("a role", () => {
  test("that is not ready says what is missing and since when, with 503", async () => {
    const missing = [{ what: "the log", sinceMs: 0 }];
    const degraded = [{ what: "the store", sinceMs: 86_400_000 }];
    const { server } = await sampleServer({ ready: () => ({ ready: false, missing, degraded }) });
    const answer = await server.inject("/readyz");
    expect(answer.statusCode).toBe(503);
    expect(answer.json()).toEqual({
      ready: false,
      missing: ["the log (since 1970-01-01T00:00:00.000Z)"],
      degraded: ["the store (since 1970-01-02T00:00:00.000Z)"],
    });
  });

  test("that cannot tell whether it is ready is not, since it was first asked in vain", async () => {
    const clock = fakeClock();
    const { server } = await sampleServer({ clock, ready: () => Promise.reject(new Error("no answer")) });
    const missing = [`no answer (since ${new Date(clock.now()).toISOString()})`];
    for (const waitMs of [0, 5_000]) {
      await clock.advance(waitMs);
      const answer = await server.inject("/readyz");
      expect(answer.statusCode).toBe(503);
      expect(answer.json()).toEqual({ ready: false, missing });
    }
  });

  test("cannot add a route of the contract that takes what it does not declare", async () => {
    const { server } = await sampleServer();
    expect(() => server.get("/api/v1/x", () => "")).toThrow("no schema");
    const querystring = Type.Object({ a: Type.String() });
    expect(() => server.get("/api/v1/y", { schema: { querystring } }, () => "")).toThrow("additionalProperties");
  });
});

describe("a body", () => {
  const post = (server: Server, payload: string | Buffer, headers: Record<string, string> = JSON_TYPE) =>
    server.inject({ method: "POST", url: EVENTS, payload, headers: { ...as("one"), ...headers } });

  test("reaches the handler byte for byte", async () => {
    const { server } = await sampleServer();
    const payload = ' {"clientId" : "1" , "x": 1.0}\n';
    const answer = await post(server, payload);
    expect(answer.json()).toEqual({ id: "1", bytes: payload.length });
    expect(answer.statusCode).toBe(201);
  });

  test.each<[string, Record<string, string>]>([
    ["of another type", { "content-type": "text/plain" }],
    ["of a form", { "content-type": "application/x-www-form-urlencoded" }],
    ["of no type", {}],
    ["of a wrong type", { "content-type": "json" }],
    ["that is compressed", { ...JSON_TYPE, "content-encoding": "gzip" }],
  ])("%s gets 415", async (_what, headers) => {
    const { server } = await sampleServer();
    const answer = await post(server, '{"clientId":"1"}', headers);
    expect(answer.statusCode).toBe(415);
    expect(answer.json()).toMatchObject({ code: "unsupported-media-type", detail: expect.stringMatching(/\w/) });
  });

  test.each(["application/json; charset=utf-8", "Application/JSON"])("of the type %s is taken", async (type) => {
    const { server } = await sampleServer();
    const headers = { "content-type": type, "content-encoding": "identity" };
    expect((await post(server, '{"clientId":"1"}', headers)).statusCode).toBe(201);
  });

  test.each([
    ["application/json; charset=utf-16", 415],
    ['application/json;charset="ISO-8859-1"', 415],
    ["application/json; charset=", 415],
    ["application/json; charset=utf-8", 201],
    ['application/json; Charset="UTF-8"', 201],
    ["application/json; profile=x", 201],
  ])("of type %s is answered with %i: all text is UTF-8", async (type, status) => {
    const { server } = await sampleServer({ access: null });
    const headers = { "content-type": type };
    const answer = await server.inject({ method: "POST", url: EVENTS, payload: '{"clientId":"1"}', headers });
    expect(answer.statusCode).toBe(status);
    const words = expect.stringContaining("encode the body as UTF-8");
    expect(answer.json()).toMatchObject(
      status === 415 ? { code: "unsupported-media-type", detail: words } : { id: "1" },
    );
  });

  test("beyond 4 MiB gets 413, told or not how long it is", async () => {
    const { server } = await sampleServer();
    const answer = await post(server, Buffer.alloc(4 * 1024 * 1024 + 1, " "));
    expect(answer.statusCode).toBe(413);
    expect(answer.json()).toMatchObject({ code: "body-too-large", detail: expect.stringContaining("4194304") });
  });
});

describe("a parameter", () => {
  const ask = async (query: string) => {
    const { server } = await sampleServer({ access: null });
    return server.inject({ url: `${EVENTS}?${query}`, headers: as("one") });
  };

  test("becomes what it is declared to be, and defaults fill in", async () => {
    expect((await ask("clientId=1&type=a&order=asc")).json()).toEqual({
      clientId: "1",
      type: ["a"],
      order: "asc",
      limit: 100,
    });
    expect((await ask("clientId=1&type=a&type=b&limit=5")).json()).toEqual({
      clientId: "1",
      type: ["a", "b"],
      limit: 5,
    });
  });

  test("that is wrong is named together with all others", async () => {
    const answer = await ask("limit=5.5&order=up&zz=1&constructor=2&type=a&clientId=1&clientId=2");
    expect(answer.statusCode).toBe(400);
    const said = answer.json();
    expect(said).toMatchObject({ code: "invalid-parameter", field: "limit" });
    expect(said.problems.map(({ field }: { field: string }) => field)).toEqual([
      "limit",
      "order",
      "zz",
      "constructor",
      "clientId",
    ]);
    expect(said.detail).toContain('must be one of asc, desc, not "up"');
    expect(said.detail).toContain("clientId is given 2 times: give it once");
  });

  test.each(["", " 5", "0x10", "1e2", "5.0", "1001", "0", "-1", "٣", "9".repeat(30)])(
    "limit=%j is no limit",
    async (limit) => {
      const answer = await ask(`clientId=1&limit=${encodeURIComponent(limit)}`);
      expect(answer.json()).toMatchObject({ status: 400, field: "limit" });
    },
  );

  test.each(["", "__proto__=1", "clientId=", "clientId"])("?%s is refused", async (query) => {
    expect((await ask(query)).json()).toMatchObject({
      status: 400,
      code: "invalid-parameter",
      field: expect.any(String),
    });
  });

  test.each([
    ["clientId=%FF", "clientId", 'is not percent-encoded UTF-8: write é as %C3%A9 and % as %25, not "%FF"'],
    ["clientId=100%", "clientId", 'is not percent-encoded UTF-8: write é as %C3%A9 and % as %25, not "100%"'],
    ["clientId=1&type=a&type=%C3", "type", 'is not percent-encoded UTF-8: write é as %C3%A9 and % as %25, not "%C3"'],
    ["clientId=1&limit=%", "limit", 'is not percent-encoded UTF-8: write é as %C3%A9 and % as %25, not "%"'],
    ["clientId=", "clientId", "is empty: give it a value"],
    ["clientId=1&limit=1001", "limit", 'must be a whole number from 1 to 1000, not "1001"'],
    ["clientId=1&limit=x", "limit", 'must be a whole number from 1 to 1000, not "x"'],
    ["clientId=1&type=a&type=b&type=c&type=d", "type", "is given 4 times: give it 3 times at most"],
    ["clientId=1&since=now", "since", 'must be an RFC 3339 time, as 2026-01-31T08:00:00Z, not "now"'],
    [
      "clientId=1&since=2026-01-31T10:00:00+02:00",
      "since",
      'must be an RFC 3339 time, as 2026-01-31T08:00:00Z, not "2026-01-31T10:00:00 02:00"; in an address + means a space: write it %2B',
    ],
  ])("?%s is refused in plain words", async (query, field, words) => {
    const answer = await ask(query);
    expect(answer.json()).toMatchObject({
      status: 400,
      code: "invalid-parameter",
      field,
      detail: `${field} ${words}.`,
    });
  });

  test("arrives as it was meant, whatever it holds", async () => {
    for (const clientId of ["é", "a+b c", "100%", "%FF", "&=#;?/\\", "😀", "__proto__"])
      expect((await ask(new URLSearchParams({ clientId }).toString())).json()).toMatchObject({ clientId });
    expect((await ask("clientId=a+b")).json()).toMatchObject({ clientId: "a b" });
    const many = Array.from({ length: 2_000 }, (_, n) => `p${n}=`).join("&");
    expect((await ask(`${many}&clientId=1`)).json().problems).toHaveLength(2_000);
  });

  test("of a route that declares none is refused", async () => {
    const { server } = await sampleServer({ access: null });
    expect((await server.inject(`${EVENTS}/live?x=1`)).statusCode).toBe(400);
    expect(
      (await server.inject({ method: "POST", url: `${EVENTS}?x=1`, payload: "{}", headers: JSON_TYPE })).statusCode,
    ).toBe(400);
  });

  test("in the path is checked too", async () => {
    const { server } = await sampleServer({ access: null });
    expect((await server.inject("/api/v1/letters/7")).json()).toEqual({ id: 7 });
    expect((await server.inject("/api/v1/letters/x")).json()).toMatchObject({ status: 400, field: "id" });
  });
});

describe("an error", () => {
  test("is always a problem of its media type", async () => {
    const { server } = await sampleServer({ access: null });
    const asked: [string, string, number, string][] = [
      ["GET", "/nope", 404, "not-found"],
      ["GET", "/%zz", 404, "not-found"],
      ["GET", "/api/v1/letters", 404, "not-found"],
      ["PUT", EVENTS, 405, "method-not-allowed"],
      ["POST", "/api/v1/letters/7", 405, "method-not-allowed"],
      ["GET", "/boom", 500, "internal-error"],
      ["GET", "/busy", 503, "overloaded"],
    ];
    for (const [method, url, status, code] of asked) {
      const answer = await server.inject({ method: method as "GET", url });
      expect(answer.statusCode, url).toBe(status);
      expect(answer.headers["content-type"]).toContain("application/problem+json");
      expect(answer.json()).toMatchObject({ status, code, type: `urn:spillway:problem:${code}` });
    }
  });

  test("of the wrong method tells the right ones", async () => {
    const { server } = await sampleServer();
    const { headers } = await server.inject({ method: "DELETE", url: EVENTS });
    expect(String(headers["allow"]).split(", ").toSorted()).toEqual(["GET", "HEAD", "POST"]);
  });

  test("of the wrong method goes by the address itself before any pattern that it fits", async () => {
    const { server } = await sampleServer({ access: null });
    server.post("/api/v1/letters/again", { schema: {} }, () => ({}));
    const answer = await server.inject({ method: "DELETE", url: "/api/v1/letters/again" });
    expect([answer.statusCode, answer.headers.allow]).toEqual([405, "POST"]);
  });

  test("that is ours is logged, and tells the caller nothing of what happened", async () => {
    const { server, logged } = await sampleServer({ access: null });
    expect((await server.inject("/boom")).body).not.toContain("hunter2");
    expect(logged).toEqual([
      {
        message: "request failed",
        fields: {
          method: "GET",
          route: "/boom",
          error: expect.objectContaining({ message: expect.stringContaining("hunter2") }),
        },
      },
    ]);
  });

  test("of 503 says when to come again, in whole seconds, and keeps its members", async () => {
    const { server } = await sampleServer({ access: null });
    const answer = await server.inject("/busy");
    expect(answer.headers["retry-after"]).toBe("3");
    expect(answer.json()).toMatchObject({ stored: "no" });
  });
});

describe("the document", () => {
  test("tells of operators' routes what they want and answer, and which refusals a body and a route have of their own", async () => {
    const { server } = await sampleServer();
    const { paths, info, components } = (await server.inject({ url: "/openapi.json", headers: as("one") })).json();
    for (const path of ["/metrics", "/openapi.json"]) {
      expect(paths[path].get.security).toEqual([{ bearer: [] }]);
      expect(Object.keys(paths[path].get.responses).sort()).toEqual(["200", "401", "403", "503"]);
    }
    for (const path of ["/healthz", "/readyz"]) expect(paths[path].get.security).toBeUndefined();
    expect(Object.keys(paths[EVENTS].post.responses)).toEqual(expect.arrayContaining(["413", "415"]));
    expect(Object.keys(paths[EVENTS].get.responses)).not.toContain("413");
    expect(Object.keys(paths["/api/v1/letters/{id}"].get.responses)).toEqual(expect.arrayContaining(["404", "405"]));
    for (const word of ["HEAD", "404", "405", "408", "417", "431"]) expect(info.description).toContain(word);
    const { properties, required } = components.schemas.Problem.properties.problems.items;
    expect(Object.keys(properties).sort()).toEqual(["code", "detail", "field", "index", "line"]);
    expect(required.sort()).toEqual(["detail", "field"]);
  });

  test("has every route of the contract with its schemas, its security and its problems", async () => {
    const { server } = await sampleServer();
    const { paths, components, openapi } = (await server.inject({ url: "/openapi.json", headers: as("one") })).json();
    expect(openapi).toBe("3.1.0");
    expect(components.securitySchemes).toEqual({ bearer: { type: "http", scheme: "bearer" } });
    const { get, post } = paths[EVENTS];
    for (const operation of [get, post]) {
      expect(operation.security).toEqual([{ bearer: [] }]);
      expect(operation.responses["403"].content["application/problem+json"].schema).toEqual({
        $ref: "#/components/schemas/Problem",
      });
    }
    expect(get.parameters.map(({ name }: { name: string }) => name)).toEqual([
      "clientId",
      "type",
      "since",
      "limit",
      "order",
    ]);
    expect(post.requestBody.content["application/json"].schema).toMatchObject({ required: ["clientId"] });
    expect(post.responses["201"].content["application/json"].schema).toMatchObject({ required: ["id", "bytes"] });
    expect(components.schemas.Problem.required).toContain("code");
    expect(Object.keys(paths)).not.toContain("/slow");
  });
});

describe("the metrics", () => {
  test("count requests by route and status, once each", async () => {
    const { server, metrics } = await sampleServer({ access: null });
    for (const url of [`${EVENTS}?clientId=1`, `${EVENTS}?clientId=2`, EVENTS, "/nope", "/nope2"])
      await server.inject(url);
    await server.inject({ method: "HEAD", url: `${EVENTS}?clientId=1` });
    const counted = (await metrics.registry.metrics())
      .split("\n")
      .filter((line) => line.startsWith("spillway_http_request_ms_count"));
    expect(counted.toSorted()).toEqual(
      [
        `spillway_http_request_ms_count{route="GET ${EVENTS}",status="200"} 2`,
        `spillway_http_request_ms_count{route="GET ${EVENTS}",status="400"} 1`,
        `spillway_http_request_ms_count{route="HEAD ${EVENTS}",status="200"} 1`,
        'spillway_http_request_ms_count{route="none",status="404"} 2',
      ].toSorted(),
    );
  });
});

describe("on the wire", () => {
  async function listening(more: Partial<ServerOptions> = {}, prepare?: (server: Server) => Promise<void>) {
    const sample = await sampleServer({ access: null, ...more });
    await prepare?.(sample.server);
    const stop = new AbortController();
    const ended = listenTask(sample.server, { host: "127.0.0.1", port: 0 }).run(stop.signal);
    const port = await until("it listened", () => (sample.server.server.address() as AddressInfo | null)?.port);
    const open = async (): Promise<Socket> => {
      const socket = connect(port, "127.0.0.1").setEncoding("utf8");
      await once(socket, "connect");
      return socket;
    };
    return { ...sample, stop, ended, port, open };
  }

  test("what is not HTTP gets a problem and a closed connection", async () => {
    const { open, stop, ended } = await listening();
    const socket = await open();
    socket.write("NONSENSE\r\n\r\n");
    const answer = await text(socket);
    expect(answer).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/);
    expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toMatchObject({ code: "malformed-request" });
    stop.abort();
    await ended;
  });

  test("an expectation that nobody knows is a problem, and a closed connection", async () => {
    const { open, stop, ended } = await listening();
    const socket = await open();
    socket.write(`POST ${EVENTS} HTTP/1.1\r\nhost: x\r\nexpect: 200-ok\r\ncontent-length: 2\r\n\r\n{}`);
    const answer = await text(socket);
    expect(answer).toMatch(/^HTTP\/1.1 417 .*content-type: application\/problem\+json/is);
    expect(answer).toContain('"code":"expectation-failed"');
    expect(answer).toContain('Expect: \\"200-ok\\" is not known');
    stop.abort();
    await ended;
  });

  test("headers beyond 16 KiB get 431", async () => {
    const { open, stop, ended } = await listening();
    const socket = await open();
    socket.write(`GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ${"x".repeat(17_000)}\r\n\r\n`);
    expect(await text(socket)).toMatch(/^HTTP\/1.1 431 .*headers-too-large/s);
    stop.abort();
    await ended;
  });

  test("a WebSocket asked of a node that has none is answered as any request", async () => {
    const { open, stop, ended } = await listening();
    const socket = await open();
    socket.write("GET /nope HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, close\r\nupgrade: websocket\r\n\r\n");
    expect(await text(socket)).toMatch(/^HTTP\/1.1 404 .*"code":"not-found"/s);
    stop.abort();
    await ended;
  });

  test("connections beyond the most are closed at once", async () => {
    const { open, stop, ended } = await listening({ connectionsMax: 1 });
    const first = await open();
    const second = await open();
    await once(second, "close");
    first.write("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    expect(await text(first)).toContain(`{"alive":true,"process":${process.pid}}`);
    stop.abort();
    await ended;
  });

  test("a connection has 16 requests under way at most; those beyond are refused, and later ones served", async () => {
    const { open, stop, ended, gate } = await listening();
    const socket = await open();
    const ask = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write(ask.repeat(20));
    let came = "";
    socket.on("data", (part) => {
      came += part;
    });
    await gate.entered;
    gate.open();
    const statuses = (): string[] => [...came.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => String(status));
    await until("all were answered", () => statuses().length === 20);
    expect(statuses()).toEqual([...Array<string>(16).fill("200"), ...Array<string>(4).fill("503")]);
    expect(came).toMatch(/retry-after: 1\r.*"code":"overloaded"/s);
    socket.write(ask.repeat(16));
    await until("all were answered", () => statuses().length === 36);
    expect(statuses().slice(20)).toEqual(Array<string>(16).fill("200"));
    socket.destroy();
    stop.abort();
    await ended;
  });

  test("a drain answers what is in flight, refuses what comes after, and lets no idle connection hold it", async () => {
    const { server, open, stop, ended, gate, port } = await listening();
    const idle = await open();
    const busy = await open();
    busy.write("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    const answers = text(busy);
    await gate.entered;
    stop.abort();
    await once(idle, "close");
    const late = connect(port, "127.0.0.1");
    const [error] = await once(late, "error");
    expect(error).toMatchObject({ code: "ECONNREFUSED" });
    const arrived = once(server.server, "request");
    busy.write("GET /api/v1/letters/7 HTTP/1.1\r\nhost: x\r\n\r\n");
    await arrived;
    gate.open();
    const [first, second] = (await answers).split(/(?<=})(?=HTTP)/);
    expect(first).toMatch(/200 OK.*{"slow":true}/s);
    for (const part of [/ 503 /, /retry-after: 1\r/, /connection: close\r/, /shutting-down/])
      expect(second).toMatch(part);
    await ended;
  });

  test("a connection that falls idle after its answer does not hold the drain", async () => {
    const { open, stop, ended, gate } = await listening({ clock: { ...systemClock, after: () => () => undefined } });
    const [busy, idle] = [await open(), await open()];
    busy.write("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    await gate.entered;
    stop.abort();
    await once(idle, "close");
    gate.open();
    await ended;
    expect(await text(busy)).toContain('{"slow":true}');
  });

  test("a draining node says that it is not ready", async () => {
    const { server, open, stop, ended, gate } = await listening();
    const ask = (path: string) => `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;
    const busy = await open();
    const idle = await open();
    busy.write(ask("/slow"));
    const answers = text(busy);
    await gate.entered;
    stop.abort();
    await once(idle, "close");
    const arrived = once(server.server, "request");
    busy.write(ask("/readyz"));
    await arrived;
    gate.open();
    expect(await answers).toMatch(
      /{"slow":true}HTTP\/1.1 503 .*{"ready":false,"missing":\["it is shutting down \(since [-\d]+T[:.\d]+Z\)"\]}$/s,
    );
    await ended;
  });

  test("what does not end in time is cut", async () => {
    const limit = Promise.withResolvers<() => void>();
    const clock: Clock = {
      ...systemClock,
      after: (_ms, run) => {
        limit.resolve(run);
        return () => undefined;
      },
    };
    const { open, stop, ended, gate } = await listening({ clock });
    const busy = await open();
    busy.write("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n");
    await gate.entered;
    stop.abort();
    const cut = await limit.promise;
    cut();
    expect(await text(busy)).toBe("");
    await ended;
  });

  test("a socket is upgraded only for who may come in, and is told when the node goes", async () => {
    const { server, stop, port, ended } = await listening({ access: keys }, async (server) => {
      await server.register(websocket);
      const schema = { querystring: Type.Object({}, closed) };
      server.get("/api/v1/socket", { websocket: true, schema }, (socket, request) => socket.send(request.access.name));
    });
    const url = `ws://127.0.0.1:${port}/api/v1/socket`;
    const [refused] = await once(new WebSocket(url), "error");
    expect(refused).toMatchObject({ message: expect.stringContaining("401") });
    const socket = new WebSocket(url, { headers: as("one") });
    const [name] = await once(socket, "message");
    expect(String(name)).toBe("one");
    const gone = once(socket, "close");
    stop.abort();
    expect((await gone)[0]).toBe(1005);
    await ended;
    expect(server.server.listening).toBe(false);
  });

  test("a port that is taken is named, with the remedy", async () => {
    const { port, stop, ended } = await listening();
    const { server } = await sampleServer();
    const second = listenTask(server, { host: "127.0.0.1", port }).run(stop.signal);
    await expect(second).rejects.toThrow(`127.0.0.1 port ${port}: free it, or set PORT`);
    stop.abort();
    await ended;
  });

  test("an address that is another machine's is named, with the remedy", async () => {
    const { server } = await sampleServer();
    const run = listenTask(server, { host: "192.0.2.1", port: 0 }).run(new AbortController().signal);
    await expect(run).rejects.toThrow("192.0.2.1 port 0: EADDRNOTAVAIL: set HOST to an address of this machine");
  });

  const hasIpv6 = Object.values(networkInterfaces()).some((some) => some?.some(({ address }) => address === "::1"));
  test.skipIf(!hasIpv6)("an address of IPv6 may have its brackets", async () => {
    const { server, logged } = await sampleServer();
    const stop = new AbortController();
    const ended = listenTask(server, { host: "[::1]", port: 0 }).run(stop.signal);
    await until("the line", () => logged.length > 0);
    expect(logged[0]?.fields?.["url"]).toMatch(/^http:\/\/\[::1\]:\d+$/);
    stop.abort();
    await ended;
  });

  test("the address is logged once it listens", async () => {
    const { logged, port, stop, ended } = await listening();
    await until("the line", () => logged.length > 0);
    expect(logged).toContainEqual({ message: "listening", fields: { url: `http://127.0.0.1:${port}` } });
    stop.abort();
    await ended;
  });
});

describe("a node without keys", () => {
  const ask = async (headers: Record<string, string>, more: Partial<ServerOptions> = {}): Promise<number> => {
    const { server } = await sampleServer({ access: null, ...more });
    return (await server.inject({ url: `${EVENTS}?clientId=a`, headers })).statusCode;
  };

  test("serves its own machine, and its own pages there", async () => {
    for (const host of ["127.0.0.1:3000", "localhost:3000", "[::1]:3000", "localhost"]) {
      expect(await ask({ host })).toBe(200);
      expect(await ask({ host, origin: `http://${host}` })).toBe(200);
    }
  });

  test("refuses other host names and pages of other sites, unless it was opened", async () => {
    const foreign = [
      { host: "evil.example:3000" },
      { host: "127.0.0.1.evil.example" },
      { host: "127.0.0.1:3000", origin: "https://evil.example" },
      { host: "127.0.0.1:3000", origin: "https://localhost.evil.example" },
      { host: "127.0.0.1:3000", origin: "null" },
    ];
    for (const headers of foreign) {
      expect(await ask(headers)).toBe(403);
      expect(await ask(headers, { open: true })).toBe(200);
    }
  });
});

test("the document asks for no parameter that has a default", async () => {
  const { server } = await sampleServer();
  type Document = { paths: Record<string, { get?: { parameters?: unknown[] } }> };
  await server.ready();
  const { parameters } = (server.swagger() as unknown as Document).paths[EVENTS]?.get ?? {};
  expect(parameters).toContainEqual(expect.objectContaining({ name: "limit", required: false }));
});

test("a client that offers HTTP/2 on the way is served as HTTP/1.1, body and all", async () => {
  const { server } = await sampleServer({ access: null });
  await server.register(websocket);
  await server.listen({ host: "127.0.0.1", port: 0 });
  const answered = Promise.withResolvers<number | undefined>();
  const offer = { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA" };
  const { port } = server.server.address() as AddressInfo;
  request({ port, path: EVENTS, method: "POST", headers: { ...offer, "content-type": "application/json" } }, (answer) =>
    answered.resolve(answer.resume().statusCode),
  )
    .on("error", answered.reject)
    .end('{"clientId":"a"}');
  expect(await answered.promise).toBe(201);
});
