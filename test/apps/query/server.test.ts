import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock as clock } from "#lib/clock.ts";
import { readSettings } from "#lib/config.ts";
import { createServer, type Server } from "#lib/http.ts";
import { createMetrics } from "#lib/metrics.ts";
import { querySettings } from "../../../apps/query/config.ts";
import { Query } from "../../../apps/query/query.ts";
import { registerQuery } from "../../../apps/query/server.ts";
import { registerConsole } from "../../../apps/web/console.ts";
import { contactWith, silentLog as log } from "../../support/records.ts";

/** A node that has not reached the log yet, with the console page. */
let server: Server;
let port: number;
beforeAll(async () => {
  const metrics = createMetrics();
  const settings = readSettings(querySettings, {
    KAFKA_BROKERS: "127.0.0.1:1",
    DATABASE_URL: "postgres://127.0.0.1:1/a",
  });
  const kafkaAccess = { brokers: settings.KAFKA_BROKERS };
  const query = new Query(settings, { log, clock, contact: contactWith(), metrics, kafkaAccess });
  server = await createServer({ log, metrics, access: null, ready: () => query.ready(), title: "T" });
  await registerQuery(server, { query, log, clock, metrics });
  registerConsole(server);
  await server.listen({ host: "127.0.0.1", port: 0 });
  port = (server.server.address() as AddressInfo).port;
});
afterAll(() => server.close());

const KEY = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION = "sec-websocket-version: 13";

/** What a request to open a WebSocket is answered, once the connection is closed. */
async function upgrade(path: string, ...lines: string[]): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  const head = [
    `GET ${path} HTTP/1.1`,
    `host: 127.0.0.1:${port}`,
    "connection: Upgrade",
    "upgrade: websocket",
    ...lines,
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n`);
  return text(socket);
}

describe("a WebSocket", () => {
  test.each(["/", "/api/v1/events?clientId=1", "/healthz", "/openapi.json", "/nope"])(
    "is not opened at %s, which is told with 404",
    async (path) => {
      const answer = await upgrade(path, KEY, VERSION);
      expect(answer).toMatch(/^HTTP\/1.1 404 .*content-type: application\/problem\+json.*"code":"not-found"/is);
    },
  );

  test.each([
    ["no key", [VERSION]],
    ["a wrong key", ["sec-websocket-key: short", VERSION]],
    ["no version", [KEY]],
    ["a version that nobody speaks", [KEY, "sec-websocket-version: 99"]],
  ])("with %s gets a problem and the version that is spoken", async (_what, lines) => {
    const answer = await upgrade("/api/v1/events/live?clientId=1", ...lines);
    expect(answer).toMatch(/^HTTP\/1.1 400 .*content-type: application\/problem\+json.*sec-websocket-version: 13\r/is);
    expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toMatchObject({ status: 400, code: "malformed-request" });
  });

  test("is opened at the live address, for wrong parameters too: they are told in it", async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/events/live?clientId=%FF`);
    const [{ data }] = (await once(socket, "message")) as [MessageEvent];
    expect(JSON.parse(String(data))).toMatchObject({ type: "problem", problem: { code: "invalid-parameter" } });
    expect(((await once(socket, "close")) as [CloseEvent])[0].code).toBe(4400);
  });
});

test("the document names the headers of a page and of a 503", async () => {
  type Responses = Record<string, { headers?: Record<string, unknown>; content?: Record<string, { schema: object }> }>;
  const { paths } = (await server.inject("/openapi.json")).json() as {
    paths: Record<string, { get?: { responses: Responses } }>;
  };
  const { responses } = paths["/api/v1/events"]?.get ?? { responses: {} };
  expect(responses["200"]?.headers).toEqual({
    "Spillway-Saved-Through": { description: expect.stringContaining("saved"), schema: { type: "string" } },
    ETag: { description: expect.stringContaining("If-None-Match"), schema: { type: "string" } },
    "Cache-Control": { description: expect.stringContaining("never change"), schema: { type: "string" } },
  });
  expect(responses["200"]?.content?.["application/json"]?.schema).toMatchObject({
    required: ["events", "next", "hasMore"],
  });
  expect(responses["200"]?.content?.["application/json"]?.schema).not.toHaveProperty("headers");
  expect(responses["503"]?.headers).toEqual({
    "Retry-After": { description: expect.stringContaining("Seconds"), schema: { type: "integer" } },
  });
});

test("re-driving is asked for with POST: with another method its address is no position that is wrong", async () => {
  const answer = await server.inject("/api/v1/dead-letters/redrive");
  expect(answer.json()).toMatchObject({ status: 405, code: "method-not-allowed", detail: "Use POST, not GET." });
  expect(answer.headers.allow).toBe("POST");
  const other = await server.inject({ method: "DELETE", url: "/api/v1/dead-letters/redrive" });
  expect([other.statusCode, other.headers.allow]).toEqual([405, "POST"]);
});

test("the document tells what a page and the live address answer besides, and how that one refuses", async () => {
  const { paths } = (await server.inject("/openapi.json")).json();
  expect(Object.keys(paths["/api/v1/events"].get.responses)).toContain("410");
  const { get } = paths["/api/v1/events/live"];
  expect(Object.keys(get.responses)).toEqual(expect.arrayContaining(["101", "401", "403", "426", "503"]));
  for (const word of ["4400", "4401", "4403", "4408", "4410", "1011", "1012", "1013", "frame problem", "event-stream"])
    expect(get.description).toContain(word);
  expect(Object.keys(paths["/api/v1/dead-letters/{position}"].get.responses)).toEqual(
    expect.arrayContaining(["404", "405"]),
  );
  expect(paths["/openapi.json"].get.security).toEqual([{ bearer: [] }]);
});
