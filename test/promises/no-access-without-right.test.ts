/**
 * Promise: nobody reads, follows, writes for or learns of clients outside their key.
 * Attack: every route that the OpenAPI documents name, by another client's key, by none, by a wrong one and by one with the
 * wrong verbs; the foreign clientId percent-encoded, repeated, in another case and Unicode form, inside a batch, in cursors.
 */
import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { encodeEvent } from "#lib/codec.ts";
import { encodeCursor } from "#lib/cursor.ts";
import { partitionOf } from "#lib/partition.ts";
import { someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";
import { Follower } from "./support/follower.ts";
import { Producer } from "./support/producer.ts";
import { Reader } from "./support/reader.ts";
import { type Role, type Spillway, startSpillway } from "./support/spillway.ts";
import { EventMaker } from "./support/workload.ts";

const PARTITIONS = 4;
const partition = (clientId: string): number => partitionOf(Buffer.from(clientId), PARTITIONS);
const OWN = "Alice";
const COMPOSED = "caf\u00e9";
/** Of the same partition as OWN, so that its cursors are well-formed for OWN too. */
const FOREIGN =
  Array.from({ length: 100 }, (_, n) => `Bob-${n}`).find((one) => partition(one) === partition(OWN)) ?? "";
/** No such client exists; the answer must not tell. */
const NOBODY = Array.from({ length: 100 }, (_, n) => `Nob-${n}`).find((one) => partition(one) === partition(OWN)) ?? "";

const token = (name: string): string => `${name}-${randomBytes(16).toString("hex")}`;
const TOKENS = {
  own: token("own"),
  foreign: token("foreign"),
  readOnly: token("read-only"),
  appendOnly: token("append-only"),
  operator: token("operator"),
  ownOperator: token("own-operator"),
  allOperator: token("all-operator"),
};
const record = (name: keyof typeof TOKENS, clients: object[], verbs: string[]): object => {
  return { name, sha256: createHash("sha256").update(TOKENS[name]).digest("hex"), clients, verbs };
};
const KEYS = JSON.stringify([
  record("own", [{ exact: OWN }, { exact: COMPOSED }, { prefix: "team-a-" }], ["append", "read"]),
  record("foreign", [{ exact: FOREIGN }], ["append", "read"]),
  record("readOnly", [{ exact: OWN }], ["read"]),
  record("appendOnly", [{ exact: OWN }], ["append"]),
  record("operator", [], ["operate"]),
  record("ownOperator", [{ exact: OWN }, { exact: COMPOSED }, { prefix: "team-a-" }], ["operate"]),
  record("allOperator", [{ prefix: "" }], ["operate"]),
]);

/** As another's clientId may be written; none of them is one that the own key names. */
const DISGUISES = [
  FOREIGN,
  FOREIGN.toLowerCase(),
  OWN.toLowerCase(),
  OWN.toUpperCase(),
  `${OWN} `,
  ` ${OWN}`,
  `${OWN}\n`,
  COMPOSED.normalize("NFD"),
  "team-A-1",
  "team-a",
  "team-\u0430-1",
  `${FOREIGN},${OWN}`,
  "*",
  "%",
  "",
] as const;

let spillway: Spillway;
let web: Role;
let foreignCursor: string;
let ownCursor: string;

beforeAll(async () => {
  spillway = await startSpillway({ env: { SPILLWAY_KEYS: KEYS } });
  [web] = await Promise.all([
    spillway.start("web"),
    spillway.start("sink"),
    spillway.start("ingest"),
    spillway.start("query"),
  ]);
  const maker = new EventMaker("rights");
  const own = new Producer(spillway.history, TOKENS.own);
  const foreign = new Producer(spillway.history, TOKENS.foreign);
  ownCursor = (await own.deliver(web, [maker.make(OWN), maker.make(OWN)])).cursors[1] ?? "";
  foreignCursor = (await foreign.deliver(web, [maker.make(FOREIGN), maker.make(FOREIGN)])).cursors[0] ?? "";
  await own.deliver(web, [maker.make(COMPOSED)]);
  await own.deliver(web, [maker.make("team-a-1")]);
}, 60_000);
afterAll(async () => {
  await spillway[Symbol.asyncDispose]();
});

interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly body: string;
}

/** @param authorization the whole header, or null for none */
async function ask(
  path: string,
  authorization: string | null,
  init: RequestInit = {},
  role: Role = web,
): Promise<Answer> {
  const headers = {
    "content-type": "application/json",
    ...(authorization !== null && { authorization }),
    ...(init.headers as Record<string, string>),
  };
  const response = await fetch(`${role.url}${path}`, { ...init, headers });
  const body = await response.text();
  const isProblem = response.headers.get("content-type")?.includes("problem+json") === true && body !== "";
  return { status: response.status, code: isProblem ? (JSON.parse(body) as { code: string }).code : undefined, body };
}

const bearer = (name: keyof typeof TOKENS): string => `Bearer ${TOKENS[name]}`;
const eventOf = (clientId: string): object => ({ clientId, type: "t", id: "intruder" });
const post = (authorization: string | null, body: unknown): Promise<Answer> =>
  ask("/api/v1/events", authorization, { method: "POST", body: JSON.stringify(body) });
const page = (clientId: string, more = ""): string => `/api/v1/events?clientId=${encodeURIComponent(clientId)}${more}`;

/** How a WebSocket ended, and the frames before that. @param message sent as the first one */
async function follow(query: string, authorization: string | null, message?: object) {
  const headers = authorization === null ? {} : { authorization };
  const socket = new WebSocket(`${web.url.replace("http", "ws")}/api/v1/events/live?${query}`, { headers });
  const seen = { frames: [] as string[], closeCode: 0, refused: "" };
  socket.on("message", (data: Buffer) => void seen.frames.push(data.toString("utf8")));
  socket.on("error", (error) => {
    seen.refused ||= error.message;
  });
  socket.on("open", () => message && socket.send(JSON.stringify(message)));
  socket.on("close", (code) => {
    seen.closeCode = code;
  });
  await until("the socket was closed", () => seen.closeCode > 0);
  return seen;
}

type Attack = (clientId: string, authorization: string | null) => Promise<Answer>;

/** Every route that concerns a client, and how it is asked for one. A route that is missing here fails the walk. */
const CLIENT_ROUTES: Readonly<Record<string, Attack>> = {
  "POST /api/v1/events": (clientId, authorization) => post(authorization, eventOf(clientId)),
  "GET /api/v1/events": (clientId, authorization) => ask(page(clientId), authorization),
  "GET /api/v1/events/live": async (clientId, authorization) => {
    const { frames, closeCode, refused } = await follow(
      `clientId=${encodeURIComponent(clientId)}`,
      authorization ?? "Bearer",
    );
    if (refused) return { status: Number(/\d{3}/.exec(refused)?.[0]), code: undefined, body: "" };
    const [frame = "{}"] = frames;
    const told = JSON.parse(frame) as { problem?: { code: string } };
    expect(frames).toHaveLength(1);
    // 4400, 4401 and 4403 say what the status would.
    return { status: closeCode - 4_000, code: told.problem?.code, body: JSON.stringify(told.problem) };
  },
};
/** The other ways in at the live route. */
const LIVE_ROUTES: Readonly<Record<string, Attack>> = {
  "GET /api/v1/events/live, as server-sent events": (clientId, authorization) =>
    ask(`/api/v1/events/live?clientId=${encodeURIComponent(clientId)}`, authorization, {
      headers: { accept: "text/event-stream" },
    }),
  "GET /api/v1/events/live, by a message": async (clientId, authorization) => {
    const headers = { authorization: authorization ?? "Bearer" };
    const socket = new WebSocket(`${web.url.replace("http", "ws")}/api/v1/events/live`, { headers });
    const told: string[] = [];
    let refused = "";
    socket.on("message", (data: Buffer) => void told.push(data.toString("utf8")));
    socket.on("error", (error) => {
      refused ||= error.message;
    });
    socket.on("open", () => socket.send(JSON.stringify({ op: "subscribe", clientId, after: "0" })));
    await until("an answer", () => refused !== "" || told.length > 0);
    socket.terminate();
    if (refused) return { status: Number(/\d{3}/.exec(refused)?.[0]), code: undefined, body: "" };
    expect(told).toHaveLength(1);
    const { problem } = JSON.parse(told[0] ?? "{}") as { problem?: { status: number; code: string } };
    return { status: problem?.status ?? 0, code: problem?.code, body: JSON.stringify(problem) };
  },
};
/** And what each answers to a key with the verb operate and without any client; the second is asked for no dead letter. */
const OPERATOR_ROUTES: Readonly<Record<string, number>> = {
  "GET /api/v1/dead-letters": 200,
  "GET /api/v1/dead-letters/{position}": 400,
  "POST /api/v1/dead-letters/redrive": 400,
  "GET /api/v1/lag": 200,
  "GET /metrics": 200,
};
const OPEN_ROUTES = ["GET /healthz", "GET /readyz"];
/** Neither a client's nor an operator's: any key opens it. */
const ANY_KEY_ROUTES: readonly string[] = ["GET /openapi.json"];

async function routesOf(role: Role): Promise<string[]> {
  const { status, body } = await ask("/openapi.json", bearer("own"), {}, role);
  expect(status).toBe(200);
  const { paths } = JSON.parse(body) as { paths: Record<string, Record<string, unknown>> };
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
}

const KNOWN = [...Object.keys(CLIENT_ROUTES), ...Object.keys(OPERATOR_ROUTES), ...OPEN_ROUTES, ...ANY_KEY_ROUTES];

/** How a route answers no key, wrong keys and, if it is an operator's, keys without that verb. */
async function refusesStrangers(role: Role, route: string): Promise<void> {
  const [method = "", path = ""] = route.split(" ");
  const init = { method, ...(method === "POST" && { body: "{}" }) };
  const status = async (authorization: string | null) => [route, (await ask(path, authorization, init, role)).status];
  const expected = OPEN_ROUTES.includes(route) ? 200 : 401;
  // A follower may show its token in its first message; what comes without the upgrade is told of that.
  expect(await status(null)).toEqual([route, route.endsWith("/live") ? 426 : expected]);
  for (const wrong of ["Bearer", "Bearer nonsense", `Basic ${TOKENS.own}`, TOKENS.own, `Bearer ${TOKENS.own}x`])
    expect(await status(wrong)).toEqual([route, expected]);
  const operated = OPERATOR_ROUTES[route];
  if (operated === undefined) return;
  expect(await status(bearer("own"))).toEqual([route, 403]);
  expect(await status(bearer("operator"))).toEqual([route, operated]);
}

test("every documented route of every role is known here, and refuses whom it must", async () => {
  for (const role of spillway.roles) {
    const routes = await routesOf(role);
    expect(routes.length).toBeGreaterThanOrEqual(3);
    for (const route of routes) {
      expect(KNOWN, `${route} of ${role.name} has no attack here`).toContain(route);
      await refusesStrangers(role, route);
    }
    expect((await ask("/openapi.json", null, {}, role)).status).toBe(401);
  }
});

describe.each(Object.entries({ ...CLIENT_ROUTES, ...LIVE_ROUTES }))("%s", (route, attack) => {
  test("denies every disguise of another's clientId", async () => {
    for (const clientId of DISGUISES) {
      const { status, code } = await attack(clientId, bearer("own"));
      // What no client can be called is refused as such.
      const expected = clientId === "" ? 400 : 403;
      expect([clientId, status]).toEqual([clientId, expected]);
      if (status === 403) expect(code).toBe("forbidden");
    }
  });

  test("answers the same whether or not the client exists", async () => {
    const [existing, missing] = [await attack(FOREIGN, bearer("own")), await attack(NOBODY, bearer("own"))];
    expect(existing.status).toBe(403);
    expect(existing).toEqual(missing);
    expect(existing.body).not.toContain(FOREIGN);
  });

  test("wants a key that is known, and the right verb", async () => {
    expect((await attack(OWN, null)).status).toBe(401);
    expect((await attack(OWN, "Bearer nonsense")).status).toBe(401);
    const wrongVerb = route.startsWith("POST") ? "readOnly" : "appendOnly";
    expect((await attack(OWN, bearer(wrongVerb))).status).toBe(403);
    expect((await attack(OWN, bearer("operator"))).status).toBe(403);
  });
});

test("one foreign event in a batch refuses the whole batch, wherever it stands", async () => {
  const own = { ...eventOf(OWN), id: "in-a-refused-batch" };
  for (const [batch, ...foreign] of [
    [[own, eventOf(FOREIGN)], 1],
    [[eventOf(FOREIGN), own], 0],
    [[own, own, eventOf(NOBODY), own, eventOf(FOREIGN)], 2, 4],
  ] as const) {
    const { status, body } = await post(bearer("own"), batch);
    expect(status).toBe(403);
    const { field, problems } = JSON.parse(body) as { field: string; problems: { index: number; field: string }[] };
    expect(field).toBe(`/${foreign[0]}/clientId`);
    expect(problems.map((one) => [one.index, one.field])).toEqual(foreign.map((index) => [index, "/clientId"]));
  }
  const { page: all } = await new Reader(spillway.history, TOKENS.own).page(web, { clientId: OWN, limit: 1_000 });
  expect(all?.events.map(({ id }) => id)).not.toContain("in-a-refused-batch");
});

test("spelling a query differently opens nothing", async () => {
  const encoded = [...Buffer.from(FOREIGN)].map((byte) => `%${byte.toString(16)}`).join("");
  const denied: [path: string, status: number][] = [
    [`/api/v1/events?clientId=${encoded}`, 403],
    [`/api/v1/events?clientId=${encodeURIComponent(encoded)}`, 403],
    [`/api/v1/events?%63lientId=${FOREIGN}`, 403],
    [page(OWN, `&clientId=${FOREIGN}`), 400],
    [page(FOREIGN, `&clientId=${OWN}`), 400],
    [page(OWN, `&clientid=${FOREIGN}`), 400],
    [page(OWN, `&client_id=${FOREIGN}`), 400],
    [page(FOREIGN, "&view=unsaved"), 403],
    [page(FOREIGN, "&view=saved"), 403],
    [page(FOREIGN, `&atLeast=${foreignCursor}&consistency=known`), 403],
    [page(FOREIGN, "&limit=0"), 400],
    [`/api/v1/events/?clientId=${FOREIGN}`, 404],
    [`//api/v1/events?clientId=${FOREIGN}`, 404],
    [`/API/v1/events?clientId=${FOREIGN}`, 404],
    [page(OWN, `&token=${TOKENS.foreign}`), 400],
  ];
  for (const [path, status] of denied) expect([path, (await ask(path, bearer("own"))).status]).toEqual([path, status]);
  for (const method of ["HEAD", "OPTIONS", "DELETE", "PUT"]) {
    const { status, body } = await ask(page(FOREIGN), bearer("own"), { method });
    expect([method, status >= 400, body.includes(FOREIGN)]).toEqual([method, true, false]);
  }
});

test("a foreign cursor gives no right: pages and followers show the own client's events only", async () => {
  const reader = new Reader(spillway.history, TOKENS.own);
  for (const more of [{ after: foreignCursor }, { before: foreignCursor }, { atLeast: foreignCursor }]) {
    const shown = await reader.patientPage(web, { clientId: OWN, ...more });
    expect(shown.page?.events.every(({ clientId }) => clientId === OWN)).toBe(true);
  }
  const follower = new Follower({ clientId: OWN, after: foreignCursor, token: TOKENS.own });
  await follower.connect(web);
  await follower.caughtUp();
  expect(follower.events.every(({ clientId }) => clientId === OWN)).toBe(true);
  follower.cut();
  // Resuming with one's own cursor, or with theirs, does not open another's tail.
  for (const cursor of [ownCursor, foreignCursor]) {
    const { frames, closeCode } = await follow(`clientId=${FOREIGN}&after=${cursor}`, bearer("own"));
    expect([closeCode, frames.length]).toEqual([4403, 1]);
  }
});

test("a follower that shows its token in the first message gets no further with it", async () => {
  const mine = { op: "authenticate", token: TOKENS.own };
  const foreign = await follow(`clientId=${FOREIGN}`, null, mine);
  const nobody = await follow(`clientId=${NOBODY}`, null, mine);
  expect(foreign.closeCode).toBe(4403);
  expect(foreign.frames.map((one) => one.replaceAll(FOREIGN, ""))).toEqual(
    nobody.frames.map((one) => one.replaceAll(NOBODY, "")),
  );
  for (const message of [{ op: "authenticate", token: "nonsense" }, { op: "subscribe", clientId: OWN }, {}])
    expect((await follow(`clientId=${OWN}`, null, message)).closeCode).toBe(4401);
  // A socket that was let in for one client opens no other's.
  const talkative = new WebSocket(`${web.url.replace("http", "ws")}/api/v1/events/live?clientId=${OWN}`, {
    headers: { authorization: bearer("own") },
  });
  const told: string[] = [];
  talkative.on("message", (data: Buffer) => void told.push(data.toString("utf8")));
  talkative.on("open", () => {
    for (const clientId of [FOREIGN, COMPOSED])
      talkative.send(JSON.stringify({ op: "subscribe", clientId, after: "0" }));
  });
  const framesOf = (clientId: string) =>
    told
      .map((text) => JSON.parse(text) as { type: string; clientId: string })
      .filter((one) => one.clientId === clientId);
  await until("its second client is followed", () => framesOf(COMPOSED).some(({ type }) => type === "caughtUp"));
  expect(framesOf(FOREIGN)).toMatchObject([{ type: "problem", problem: { code: "forbidden" } }]);
  talkative.terminate();
});

test("who has the right has it, and nothing of the intruder was stored", async () => {
  for (const [clientId, name] of [
    [OWN, "own"],
    [COMPOSED, "own"],
    ["team-a-1", "own"],
    [FOREIGN, "foreign"],
    [OWN, "readOnly"],
  ] as const) {
    const { pages } = await new Reader(spillway.history, TOKENS[name]).walk(web, { clientId });
    expect([clientId, pages.flatMap(({ events }) => events).length > 0]).toEqual([clientId, true]);
    const follower = new Follower({ clientId, after: "0", token: TOKENS[name] });
    await follower.connect(web);
    await follower.caughtUp();
    follower.finish(spillway.history);
  }
  const records = await (await spillway.log()).records();
  expect(records.map(({ event }) => event?.id)).not.toContain("intruder");
  await spillway.saved();
  await spillway.check({ okIds: 6, pages: 8, liveEvents: 6 }, []);
});

// After the check of what was sent: nobody has sent what is re-driven here.
describe("dead letters", () => {
  /** Set aside at these offsets, one of each; `whose` null: nobody can tell. */
  const letters = [
    { offset: 1_000n, whose: OWN, value: encodeEvent(someEvent({ clientId: OWN, id: "dead-own" })) },
    ...DISGUISES.filter((clientId) => clientId !== "").map((whose, nth) => ({
      offset: 1_001n + BigInt(nth),
      whose,
      value: encodeEvent(someEvent({ clientId: whose, id: "dead-foreign" })),
    })),
    { offset: 2_000n, whose: null, key: OWN, value: Buffer.from(`no event, but ${FOREIGN}'s data`) },
    { offset: 2_001n, whose: null, key: OWN, value: encodeEvent(someEvent({ clientId: FOREIGN, id: "dead-foreign" })) },
    { offset: 2_002n, whose: null, key: FOREIGN, value: encodeEvent(someEvent({ clientId: OWN, id: "dead-strange" })) },
  ];
  const at = (offset: bigint): string => encodeCursor({ epoch: 1, partition: 0, offset });
  const redrive = (name: keyof typeof TOKENS, body: object): Promise<Answer> =>
    ask("/api/v1/dead-letters/redrive", bearer(name), { method: "POST", body: JSON.stringify(body) });
  const show = (name: keyof typeof TOKENS, offset: bigint): Promise<Answer> =>
    ask(`/api/v1/dead-letters/${at(offset)}`, bearer(name));
  const listed = async (name: keyof typeof TOKENS): Promise<string[]> => {
    const { body } = await ask("/api/v1/dead-letters?limit=1000", bearer(name));
    return (JSON.parse(body) as { deadLetters: { position: string }[] }).deadLetters.map(({ position }) => position);
  };
  const onLog = async (): Promise<number> => (await (await spillway.log()).records()).length;

  beforeAll(async () => {
    for (const { offset, whose, value, ...more } of letters)
      await spillway.database.query(
        `INSERT INTO spillway.dead_letter (log_epoch, partition, "offset", reason, detail, key, value, record_time)
         VALUES (1, 0, $1, 'put-here', '', $2, $3, now())`,
        [offset.toString(), Buffer.from(whose ?? ("key" in more ? more.key : "")), value],
      );
  });

  test("are listed for their own clients' operators alone, and those of nobody for an operator of all", async () => {
    expect(await listed("operator")).toEqual([]);
    expect(await listed("ownOperator")).toEqual([at(1_000n)]);
    expect(await listed("allOperator")).toEqual(letters.map(({ offset }) => at(offset)));
    for (const name of ["own", "foreign", "readOnly", "appendOnly"] as const)
      expect((await ask("/api/v1/dead-letters", bearer(name))).status).toBe(403);
  });

  test("are shown and re-driven by no other key, and the answer does not tell whether there are any", async () => {
    const before = await onLog();
    const missing = await show("ownOperator", 9_999n);
    expect(missing).toMatchObject({ status: 403, code: "forbidden" });
    for (const { offset } of letters.slice(1)) {
      expect(await show("ownOperator", offset)).toEqual(missing);
      for (const positions of [[at(offset)], [at(1_000n), at(offset)], [at(offset), at(1_000n)]])
        expect(await redrive("ownOperator", { positions })).toEqual(missing);
    }
    expect(await redrive("ownOperator", { positions: [at(9_999n)] })).toEqual(missing);
    for (const name of ["operator", "own", "foreign"] as const) {
      expect((await show(name, 1_000n)).status).toBe(403);
      expect((await redrive(name, { positions: [at(1_000n)] })).status).toBe(403);
    }
    expect((await show("allOperator", 9_999n)).status).toBe(404);
    expect(await onLog()).toBe(before);
  });

  test("are re-driven by a selection no further than the key reaches", async () => {
    const before = await onLog();
    expect((await redrive("operator", { after: "0" })).body).toContain('"redriven":[]');
    const { status, body } = await redrive("ownOperator", { after: "0", limit: 1_000 });
    const { redriven, refused } = JSON.parse(body) as { redriven: { position: string }[]; refused: object[] };
    expect([status, redriven.map(({ position }) => position), refused]).toEqual([200, [at(1_000n)], []]);
    expect(await onLog()).toBe(before + 1);
    const all = await show("allOperator", 2_001n);
    expect(JSON.parse(all.body)).toMatchObject({ clientId: null, event: { clientId: FOREIGN } });
  });
});
