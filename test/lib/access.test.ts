import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Access, demand, type KeyRecord, noAccess, openAccess, parseKeys, tokenHash, VERBS } from "#lib/access.ts";
import { ProblemError } from "#lib/problem.ts";

const record = (more: Partial<KeyRecord> = {}): KeyRecord => ({
  name: "shop",
  sha256: tokenHash("token"),
  clients: [{ exact: "a" }, { prefix: "team-" }],
  verbs: ["read"],
  ...more,
});
const ring = (...records: readonly unknown[]) => parseKeys(JSON.stringify(records));

function access(more?: Partial<KeyRecord>): Access {
  const found = ring(record(more)).find("token");
  if (!found) throw new Error("the key was not found");
  return found;
}

describe("a key", () => {
  test("is found by its token alone", () => {
    const keys = ring(record(), record({ name: "other", sha256: tokenHash("other") }));
    expect(keys.find("token")?.name).toBe("shop");
    expect(keys.find("other")?.name).toBe("other");
    for (const token of ["", "Token", "token ", tokenHash("token")]) expect(keys.find(token)).toBeNull();
  });

  test("opens its own clients, bytewise, and no others", () => {
    const key = access({ clients: [{ exact: "caf\u00e9" }, { prefix: "team-" }] });
    for (const client of ["caf\u00e9", "team-", "team-1"]) expect(key.allows("read", client)).toBe(true);
    for (const client of ["", "CAF\u00c9", "cafe\u0301", "caf\u00e9 ", "Team-1", "team", "x-team-1", "caf%C3%A9"])
      expect(key.allows("read", client)).toBe(false);
  });

  test("opens its own verbs and no others", () => {
    for (const verb of VERBS) {
      const key = access({ verbs: [verb] });
      for (const other of VERBS) {
        expect(key.allows(other, "a")).toBe(other === verb);
        expect(key.holds(other)).toBe(other === verb);
      }
    }
  });

  test("with the empty prefix opens everybody", () => {
    fc.assert(fc.property(fc.string(), (client) => access({ clients: [{ prefix: "" }] }).allows("read", client)));
  });

  test("opens what is nobody's with the empty prefix alone", () => {
    expect(access({ clients: [{ prefix: "" }] }).allows("read", null)).toBe(true);
    expect(access({ clients: [{ prefix: "" }] }).allows("operate", null)).toBe(false);
    for (const clients of [[{ prefix: "n" }], [{ exact: "null" }, { prefix: "team-" }]])
      expect(access({ clients }).allows("read", null)).toBe(false);
    expect(access({ clients: [], verbs: ["operate"] }).allows("operate", null)).toBe(false);
  });

  test("with an exact clientId is not moved by prefixes of it", () => {
    const key = access({ clients: [{ exact: "ab" }] });
    expect(key.allows("read", "a")).toBe(false);
    expect(key.allows("read", "abc")).toBe(false);
  });
});

describe("a key file", () => {
  test.each<[string, unknown]>([
    ["is an object", {}],
    ["has a key without a name", [{ ...record(), name: undefined }]],
    ["has a digest in capitals", [record({ sha256: tokenHash("t").toUpperCase() })]],
    ["has a token in place of its digest", [record({ sha256: "token" })]],
    ["has an unknown verb", [{ ...record(), verbs: ["fly"] }]],
    ["has no verb", [record({ verbs: [] })]],
    ["has a misspelt member", [{ ...record(), client: "a" }]],
    ["has a pattern of two kinds", [{ ...record(), clients: [{ exact: "a", prefix: "b" }] }]],
    ["has an empty clientId", [record({ clients: [{ exact: "" }] })]],
    ["has a clientId that is no Unicode", [record({ clients: [{ exact: "\ud800" }] })]],
    ["lets nobody be read", [record({ clients: [] })]],
    ["has a digest twice", [record(), record({ name: "again" })]],
  ])("that %s is refused", (_what, value) => {
    expect(() => parseKeys(JSON.stringify(value))).toThrow(/key/);
  });

  test("that is no JSON is refused with the way to make one", () => {
    expect(() => parseKeys("name: a")).toThrow("npm run keys");
  });

  test("may hold an operator's key without clients", () => {
    expect(access({ clients: [], verbs: ["operate"] }).holds("operate")).toBe(true);
  });

  test("may hold thousands of keys", () => {
    const many = Array.from({ length: 5_000 }, (_, i) => record({ name: `${i}`, sha256: tokenHash(`token ${i}`) }));
    const keys = ring(...many);
    expect(keys.size).toBe(5_000);
    for (const i of [0, 1, 2_500, 4_999]) expect(keys.find(`token ${i}`)?.name).toBe(`${i}`);
  });
});

describe("a demand", () => {
  test("passes for what is allowed", () => {
    demand(access(), "read", "a");
    demand(openAccess, "append", "anybody");
  });

  test("is refused in the same words whoever the client is", () => {
    const said = ["b", "a ", "A"].map((client) => refusal(access(), client));
    expect(new Set(said).size).toBe(1);
    expect(refusal(noAccess, "a")).toBe(said[0]);
  });
});

function refusal(key: Access, clientId: string): string {
  try {
    demand(key, "read", clientId);
  } catch (error) {
    if (error instanceof ProblemError) return JSON.stringify(error.problem);
  }
  throw new Error(`${clientId} was let in`);
}
