import { describe, expect, test } from "vitest";
import { type Event, OCCURRED_AT_MS_MAX, OCCURRED_AT_MS_MIN } from "#lib/event.ts";
import { eventFault } from "#lib/valid.ts";
import { HOSTILE_EVENTS } from "../support/corpus.ts";

const VALID: Event = { clientId: "c", id: "i", type: "t", occurredAtMs: 0, receivedAtMs: 0, data: '{"a":[1]}' };
const faultOf = (changed: Partial<Event>) => eventFault({ ...VALID, ...changed });

test("hostile but valid events have no fault", () => {
  for (const { clientId, type, id, canonical } of HOSTILE_EVENTS)
    expect(faultOf({ clientId, type, id, data: canonical })).toBeNull();
});

describe.each([
  ["clientId", 255],
  ["type", 255],
  ["id", 128],
] as const)("%s", (name, bytesMax) => {
  test("is measured in bytes of UTF-8", () => {
    expect(faultOf({ [name]: "x".repeat(bytesMax) })).toBeNull();
    expect(faultOf({ [name]: "x".repeat(bytesMax + 1) })).toMatchObject({ code: "invalid-event", field: `/${name}` });
    const threes = Math.floor(bytesMax / 3);
    expect(faultOf({ [name]: "€".repeat(threes) })).toBeNull();
    expect(faultOf({ [name]: "€".repeat(threes + 1) })).toMatchObject({ code: "invalid-event" });
    expect(faultOf({ [name]: "😀".repeat(bytesMax) })?.detail.length).toBeLessThan(250);
  });

  test("is not empty and can be stored", () => {
    expect(faultOf({ [name]: "" })).toMatchObject({ code: "invalid-event", field: `/${name}` });
    for (const text of ["\0", "a\0b", "\ud800", "x\udc00", "\udc00\ud800"])
      expect(faultOf({ [name]: text })).toMatchObject({ code: "unstorable-text", field: `/${name}` });
  });
});

test.each(["occurredAt", "receivedAt"])("%s lies in the years 0001 to 9999", (name) => {
  const at = (ms: number) => faultOf({ [`${name}Ms`]: ms });
  for (const ms of [OCCURRED_AT_MS_MIN, -1, 0, OCCURRED_AT_MS_MAX]) expect(at(ms)).toBeNull();
  for (const ms of [OCCURRED_AT_MS_MIN - 1, OCCURRED_AT_MS_MAX + 1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
    expect(at(ms)).toMatchObject({ code: "invalid-event", field: `/${name}` });
});

describe("data", () => {
  test.each([
    ["", "malformed-json"],
    ["{", "malformed-json"],
    ["1 2", "malformed-json"],
    ['{"a": 1}', "malformed-json"],
    ["[1]\n", "malformed-json"],
    ['{"a":1,"a":1}', "duplicate-key"],
    ['{"__proto__":1}', "forbidden-key"],
    ["[".repeat(65) + "]".repeat(65), "too-deep"],
    ["9007199254740993", "inexact-number"],
    ["1e400", "inexact-number"],
    ['"\\u0000"', "unstorable-text"],
    ['"\ud800"', "unstorable-text"],
  ])("%j is refused as %s", (data, code) => expect(faultOf({ data })?.code).toBe(code));

  test("has at most 256 KiB in UTF-8", () => {
    const text = (bytes: number) => `"${"x".repeat(bytes - 2)}"`;
    expect(faultOf({ data: text(262_144) })).toBeNull();
    expect(faultOf({ data: text(262_145) })).toMatchObject({ code: "invalid-event", field: "/data" });
    expect(faultOf({ data: `"${"€".repeat(87_381)}"` })).toMatchObject({ field: "/data" });
    expect(faultOf({ data: `"${"€".repeat(87_380)}"` })).toBeNull();
  });

  test("has at most 10,000 keys", () => {
    const keys = (count: number) => JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, i) => [i, 0])));
    expect(faultOf({ data: keys(10_000) })).toBeNull();
    expect(faultOf({ data: keys(10_001) })?.code).toBe("too-many-keys");
  });

  test("a fault is located, and the text around it is not shown", () => {
    const fault = faultOf({ data: '{"password":"secret","a":{"b/c":[0,1e400]}}' });
    expect(fault?.field).toBe("/data/a/b~1c/1");
    expect(fault?.detail).toBe('data: "1e400" is too large for a double; send it as a string');
  });
});
