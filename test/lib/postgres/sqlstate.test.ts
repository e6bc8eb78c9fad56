import { describe, expect, test } from "vitest";
import { classify, type ErrorClass, isPassing } from "#lib/postgres/sqlstate.ts";

const withCode = (code: string, message = "whatever"): Error => Object.assign(new Error(message), { code });

const STATES: Readonly<Record<Exclude<ErrorClass, "silent">, readonly string[]>> = {
  data: [
    ...["22P02", "22021", "22003", "22P05", "54001", "23502", "23503", "23514", "23P01", "P0001"],
    // What a trigger of the user's own meets: no row for STRICT, too many, an ASSERT, several rows for one value.
    ...["P0002", "P0003", "P0004", "21000"],
  ],
  duplicate: ["23505"],
  lock: ["55P03", "40P01", "40001"],
  overload: ["57014", "53300", "53400", "25P04"],
  down: [
    "57P01",
    "57P02",
    "57P03",
    "57P05",
    "25006",
    "25P03",
    "08000",
    "08006",
    "ECONNREFUSED",
    "ECONNRESET",
    "EPIPE",
    "ETIMEDOUT",
    "ENOTFOUND",
    "EAI_AGAIN",
    "EHOSTUNREACH",
    "ECONNABORTED",
    "ENETDOWN",
    "EHOSTDOWN",
  ],
  space: ["53100", "53200", "58030"],
  bug: ["42P01", "42703", "42501", "28P01", "28000", "3D000", "0A000", "XX000", "42000"],
};

describe.each(Object.entries(STATES))("%s", (errorClass, codes) => {
  test.each(codes)("%s", (code) => {
    expect(classify(withCode(code))).toBe(errorClass);
  });
});

test("what passes by itself is told from what a row, a schema or a setting is to blame for", () => {
  const passing = Object.entries(STATES).filter(([, codes]) => codes.every((code) => isPassing(withCode(code))));
  expect(passing.map(([errorClass]) => errorClass)).toEqual(["lock", "overload", "down", "space"]);
  const lasting = Object.entries(STATES).filter(([, codes]) => !codes.some((code) => isPassing(withCode(code))));
  expect(lasting.map(([errorClass]) => errorClass)).toEqual(["data", "duplicate", "bug"]);
});

test("what is not answered in our own time is silence, which passes; a statement that the server ends is overload", () => {
  expect(isPassing(new Error("Query read timeout"))).toBe(true);
  expect(classify(withCode("57014", "canceling statement due to statement timeout"))).toBe("overload");
});

describe("messages decide where no code does, and where PgBouncer says 08P01 to everything", () => {
  test.each<[ErrorClass, string, string?]>([
    ["overload", "timeout exceeded when trying to connect"],
    ["silent", "Query read timeout"],
    ["silent", "Query read timeout: COPY was not answered within 35000 ms"],
    ["overload", "query_wait_timeout", "08P01"],
    ["overload", "no more connections allowed (max_client_conn)", "08P01"],
    ["down", "server login has been failing, try again later (server_login_retry)", "08P01"],
    ["down", "server conn crashed?", "08P01"],
    ["down", 'database "x" is disabled', "08P01"],
    ["down", "Connection terminated unexpectedly"],
    ["down", "Connection terminated due to connection timeout"],
    ["down", "Client has encountered a connection error and is not queryable"],
    ["bug", "unsupported startup parameter: options", "08P01"],
    ["bug", "no such database: x", "08P01"],
    ["bug", "password authentication failed", "08P01"],
    ["bug", "Cannot read properties of undefined"],
  ])("%s: %s", (errorClass, message, code) => {
    expect(classify(code === undefined ? new Error(message) : withCode(code, message))).toBe(errorClass);
  });
});

test("a unique rule of ours tells of a copy, one of somebody else's of a row at fault", () => {
  const broken = (constraint: string): Error => Object.assign(withCode("23505"), { constraint });
  expect(classify(broken("event_identity"))).toBe("duplicate");
  expect(classify(broken("event_pkey"))).toBe("duplicate");
  expect(classify(broken("mine"))).toBe("data");
});

test("a value too large for an index of the user's own is the row's fault, a server without transaction ids is not", () => {
  const message = 'index row size 4016 exceeds btree version 4 maximum 2704 for index "mine"';
  expect(classify(Object.assign(withCode("54000", message), { constraint: "mine" }))).toBe("data");
  const wraparound = "database is not accepting commands that assign new transaction IDs to avoid wraparound data loss";
  expect(classify(withCode("54000", wraparound))).toBe("bug");
});

test("a Unix socket without its file is a server that is down, any other missing file a mistake", () => {
  expect(classify(Object.assign(withCode("ENOENT"), { syscall: "connect" }))).toBe("down");
  expect(classify(Object.assign(withCode("ENOENT"), { syscall: "open" }))).toBe("bug");
});

test("anything thrown has a class", () => {
  for (const strange of [undefined, null, "text", 7, {}]) expect(classify(strange)).toBe("bug");
});
