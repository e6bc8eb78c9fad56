/**
 * Promise: what ingest would refuse is refused in the writer's own statement, with ingest's code, the value and the remedy; and what
 * it would take is taken. Attack: every body that ingest refuses or must take unharmed, numbers around every limit, SQL's NULL.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LIMITS } from "#lib/event.ts";
import { jsonFault } from "#lib/json.ts";
import { freshBuffer, openSession, type Session } from "../../support/buffer.ts";
import { BAD_BODIES, bodyOf, HOSTILE_EVENTS } from "../../support/corpus.ts";
import type { Database } from "../../support/postgres.ts";

let database: Database;
let session: Session;
beforeAll(async () => {
  database = await freshBuffer();
  session = await openSession(database.url);
});
afterAll(async () => {
  await session.end();
  await database.drop();
});

const STATES: Readonly<Record<string, string>> = {
  "invalid-event": "SW001",
  "too-deep": "SW002",
  "forbidden-key": "SW003",
  "too-many-keys": "SW004",
  "inexact-number": "SW005",
};

/** jsonb knows them no more: of a key that stands twice it keeps the last, and what is no JSON or no text is no jsonb. */
const OTHERWISE: Readonly<Record<string, string>> = {
  "malformed-json": "22P02|22021",
  "unstorable-text": "22P0[25]",
  "malformed-utf8": "",
  "duplicate-key": "",
  "too-many-events": "",
};

/** SQL's NULL is how an absent value arrives; and what no array of events can hold. */
const TAKEN = new Set(["null as id", "null as occurredAt", "an empty body", "only space"]);
const JUDGED = BAD_BODIES.filter(({ name, code }) => OTHERWISE[code] !== "" && !TAKEN.has(name));

describe("what ingest refuses is refused", () => {
  test.each(JUDGED)("$name", async ({ body, code }) => {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(body);
    const error = await session.query("SELECT spillway.emit_many($1)", [`[${text}]`]).then(
      () => null,
      (thrown: { code: string; message: string }) => thrown,
    );
    if (error === null || !error.code.startsWith("SW")) {
      // Bodies that are no JSON, or times that no calendar has: PostgreSQL's own refusal.
      expect(error?.code).toMatch(
        code === "invalid-event" ? /^2200[789]$/ : new RegExp(OTHERWISE[code] ?? "22P02|54001"),
      );
      return;
    }
    // A field by that name is one that is not known.
    const told = code === "forbidden-key" && error.message.includes("the field") ? "invalid-event" : code;
    expect(error.code).toBe(STATES[told]);
    expect(error.message.startsWith(`${told}: `)).toBe(true);
  });
});

describe("what ingest takes is taken", () => {
  test.each(HOSTILE_EVENTS)("$name", async (event) => {
    await session.query("SELECT spillway.emit_many($1)", [`[${bodyOf(event)}]`]);
    await session.query("SELECT spillway.emit($1, $2, $3::jsonb, $4)", [
      event.clientId,
      event.type,
      event.data,
      event.id,
    ]);
    const rows = await session.query<{ data: string | null }>(
      "SELECT data::text AS data FROM spillway.event_buffer WHERE client_id = $1 AND type = $2 AND id = $3",
      [event.clientId, event.type, event.id],
    );
    expect(rows).toHaveLength(2);
    for (const { data } of rows) {
      expect(data === null).toBe(event.data === null);
      if (data !== null) expect(JSON.parse(data)).toEqual(JSON.parse(event.canonical ?? ""));
    }
  });
});

const DATA = { depthMax: LIMITS.dataDepthMax, keysMax: LIMITS.dataKeysMax, spaceAllowed: true };

test("a number is judged in SQL as it is outside, over the text that jsonb prints", async () => {
  await session.query(
    `CREATE FUNCTION pg_temp.verdict(data jsonb) RETURNS text LANGUAGE plpgsql AS $$
     BEGIN PERFORM spillway.event_buffer_judge_data(data, data::text); RETURN NULL;
     EXCEPTION WHEN others THEN RETURN split_part(sqlerrm, ':', 1); END $$`,
  );
  const digits = fc.stringMatching(/^[1-9][0-9]{13,25}$/);
  const doubles = fc.double({ noNaN: true, noDefaultInfinity: true }).map(String);
  const exponents = fc
    .tuple(fc.integer({ min: 1, max: 99 }), fc.integer({ min: -400, max: 400 }))
    .map(([m, e]) => `${m}e${e}`);
  const near = fc.bigInt({ min: 2n ** 53n - 20n, max: 2n ** 53n + 20n }).map(String);
  const literal = fc.oneof(digits, doubles, exponents, near);
  await fc.assert(
    fc.asyncProperty(fc.array(literal, { maxLength: 100 }), async (literals) => {
      const rows = await session.query<{ text: string; verdict: string | null }>(
        "SELECT data::text AS text, pg_temp.verdict(data) AS verdict FROM (SELECT unnest($1::text[])::jsonb AS data) AS given",
        [literals],
      );
      expect(rows.map(({ verdict }) => verdict)).toEqual(rows.map(({ text }) => jsonFault(text, DATA)?.code ?? null));
    }),
    { numRuns: 100 },
  );
});

test("the limits are ingest's, to the byte, however jsonb prints it", async () => {
  const fill = (rest: number) => "x".repeat(rest);
  const most = LIMITS.dataBytesMax;
  const list = `[${"0,".repeat(65_535)}"`;
  for (const [data, taken] of [
    [`"${fill(most - 2)}"`, true],
    [`"${fill(most - 1)}"`, false],
    [`${list}${fill(most - list.length - 2)}"]`, true],
    [`${list}${fill(most - list.length - 1)}"]`, false],
    [`{"a":{"b":"${fill(most - 14)}"}}`, true],
    [`{"a":{"b":"${fill(most - 13)}"}}`, false],
    [`[${Array(9_000).fill("1e131071").join()}]`, false],
  ] as const) {
    const asked = session.query("SELECT spillway.emit('A', 't', $1::jsonb)", [data]);
    if (taken) await asked;
    else
      await expect(asked).rejects.toMatchObject({
        code: expect.stringMatching(/^(SW001|54000|53200|XX000)$/) as string,
      });
  }
  for (const [names, bytes] of [
    [["client_id", "type"], 255],
    [["id"], 128],
  ] as const)
    for (const name of names) {
      const text = `${"€".repeat(Math.floor(bytes / 3))}${"x".repeat(bytes % 3)}`;
      const emit = (value: string) =>
        session.query(
          "SELECT spillway.emit(client_id => $1, type => $2, id => $3)",
          ["client_id", "type", "id"].map((one) => (one === name ? value : "y")),
        );
      await emit(text);
      await expect(emit(`${text}x`)).rejects.toMatchObject({
        code: "SW001",
        column: name,
        message: `invalid-event: ${name} "${text.slice(0, 40)}…" has ${bytes + 1} bytes; give it 1 to ${bytes}`,
      });
    }
});

test("NULL as data is an event without data, and as id or time it is left out; a client and a type must be given", async () => {
  const [row] = await session.query<{ id: string }>("SELECT spillway.emit('N', 't', NULL, NULL, NULL) AS id");
  expect(row?.id).toMatch(/^[0-9a-f-]{36}$/);
  await session.query(
    `SELECT spillway.emit_many('[{"clientId":"N","type":"t","id":null,"occurredAt":null,"data":null}]')`,
  );
  const rows = await session.query(
    "SELECT data::text AS data, data_bytes AS bytes, now() - occurred_at < '1 min' AS now FROM spillway.event_buffer WHERE client_id = 'N' ORDER BY position",
  );
  expect(rows).toEqual([
    { data: null, bytes: 0, now: true },
    { data: "null", bytes: 4, now: true },
  ]);
  for (const sql of [
    "emit(NULL, 't')",
    "emit('N', NULL)",
    `emit_many('[{"type":"t"}]')`,
    "emit_many(NULL)",
    "emit_many('{}')",
  ])
    await expect(session.query(`SELECT spillway.${sql}`), sql).rejects.toMatchObject({ code: "SW001" });
});

test("what a session has set changes neither what is taken nor what is kept", async () => {
  await using odd = await openSession(database.url);
  await odd.query(
    `SET standard_conforming_strings = off; SET escape_string_warning = off; SET array_nulls = off;
     SET transform_null_equals = on; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = sql_standard; SET timezone = 'Asia/Kathmandu';
     SET extra_float_digits = -15; SET search_path = ''; SET default_transaction_isolation = serializable`,
  );
  const event = {
    clientId: "odd",
    type: "t",
    occurredAt: "2026-03-04T08:00:00.5+01:00",
    data: { a: 1.5e300, b: "é\\d", c: [1e22, 0.1] },
  };
  await odd.query("SELECT spillway.emit_many($1)", [JSON.stringify([event])]);
  const [row] = await session.query(
    "SELECT data, extract(epoch FROM occurred_at)::float8 AS at FROM spillway.event_buffer WHERE client_id = 'odd'",
  );
  expect(row).toEqual({ data: event.data, at: Date.parse(event.occurredAt) / 1_000 });
  await expect(
    odd.query(`SELECT spillway.emit_many('[{"clientId":"odd","type":"t","occurredAt":"2026-03-04 08:00:00"}]')`),
  ).rejects.toMatchObject({ code: "SW001" });
});

test("of many, the first that is wrong is named by its place, and none is written", async () => {
  const events = [{ clientId: "M", type: "t" }, { clientId: "M", type: "t", extra: 1 }, {}];
  await expect(session.query("SELECT spillway.emit_many($1)", [JSON.stringify(events)])).rejects.toMatchObject({
    message:
      'invalid-event: event 1: the field "extra" is unknown; it may have clientId, type, id, occurredAt and data',
  });
  const late = [
    { clientId: "M", type: "t" },
    { clientId: "M", type: "t", data: { __proto: [{ ["__proto__"]: 1 }] } },
  ];
  await expect(session.query("SELECT spillway.emit_many($1)", [JSON.stringify(late)])).rejects.toMatchObject({
    code: "SW003",
  });
  expect(await session.query("SELECT FROM spillway.event_buffer WHERE client_id = 'M'")).toEqual([]);
});
