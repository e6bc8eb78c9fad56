import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tokenHash } from "#lib/access.ts";
import { encodeCursor } from "#lib/cursor.ts";
import { createProxy } from "../../../infra/proxy.ts";
import { holdTransaction } from "../../promises/support/faults.ts";
import type { App } from "../../support/process.ts";
import { until } from "../../support/until.ts";
import { bodyOf, Given, type Placed, page } from "./given.ts";

describe("pages of one node, on a real log and database", () => {
  let given: Given;
  let node: App;
  beforeAll(async () => {
    given = await Given.create();
    node = await given.node();
    await node.ready();
  });
  afterAll(async () => {
    expect(await node.stop()).toBe(0);
    await given[Symbol.asyncDispose]();
  });

  it("shows an event at once, and the same bytes before and after it is saved", async () => {
    const placed = await given.append(
      given.event("bytes"),
      given.event("bytes", { data: null, occurredAtMs: -62_135_596_800_000 }),
      given.event("bytes", { type: "ü", id: "ä/\"'", occurredAtMs: 253_402_300_799_999 }),
    );
    const [{ partition, offset, cursor }] = placed.slice(-1) as [Placed];
    const unsaved = await page(node, { clientId: "bytes" });
    expect(unsaved.status).toBe(200);
    expect(unsaved.text).toBe(bodyOf(placed, cursor));
    expect(unsaved.headers.get("spillway-saved-through")).toBe("0");
    expect(unsaved.headers.get("content-type")).toMatch("application/json");
    await given.save(partition, offset);
    expect((await page(node, { clientId: "bytes" })).text).toBe(unsaved.text);
    await given.save(partition, offset + 1n);
    const saved = await page(node, { clientId: "bytes" });
    expect(saved.text).toBe(unsaved.text);
    expect(saved.headers.get("spillway-saved-through")).toBe(cursor);
    expect((await page(node, { clientId: "bytes", view: "saved" })).text).toBe(unsaved.text);
    expect((await page(node, { clientId: "bytes", view: "unsaved" })).events).toEqual([]);
  });

  it("walks both ways, with every filter, over more than a power of ten of rows and tail", async () => {
    const events = Array.from({ length: 130 }, (_, n) =>
      given.event("walker", { type: n % 3 === 0 ? "third" : "other", occurredAtMs: 1_000 * n }),
    );
    const placed = await given.append(...events);
    const { partition, offset } = placed[79] as Placed;
    await given.save(partition, offset + 1n);
    const walk = async (more: Record<string, string | string[]>, on: "after" | "before"): Promise<string[]> => {
      const ids: string[] = [];
      for (let at = {}; ; ) {
        const answer = await page(node, { clientId: "walker", ...more, ...at });
        expect(answer.status).toBe(200);
        ids.push(...answer.events.map(({ id }) => id));
        if (!answer.hasMore) return ids;
        at = { [on]: answer.next };
      }
    };
    const ids = placed.map(({ event }) => event.id);
    expect(await walk({ limit: "7" }, "after")).toEqual(ids);
    expect(await walk({ limit: "11", order: "desc" }, "before")).toEqual([...ids].reverse());
    const third = placed.filter(({ event }) => event.type === "third").map(({ event }) => event.id);
    expect(await walk({ limit: "5", type: ["third", "none"] }, "after")).toEqual(third);
    expect(await walk({ limit: "5", type: "third", order: "desc" }, "before")).toEqual([...third].reverse());
    const since = { since: "1970-01-01T00:00:20Z", until: "1970-01-01T00:01:40.000Z" };
    expect(await walk({ limit: "30", ...since }, "after")).toEqual(ids.slice(20, 100));
    const [from, to] = [placed[70] as Placed, placed[90] as Placed];
    const between = { after: from.cursor, before: to.cursor };
    expect(await walk({ limit: "1000", ...between }, "after")).toEqual(ids.slice(71, 90));
  });

  it("shows an id once, on whichever side of the checkpoint its copies lie", async () => {
    const first = given.event("copies");
    const [one] = (await given.append(first)) as [Placed];
    const again = { ...first, type: "again", receivedAtMs: first.receivedAtMs + 9 };
    await given.append(again);
    const [last] = (await given.append(given.event("copies"))) as [Placed];
    for (const below of [one.offset, one.offset + 1n, one.offset + 2n, last.offset + 1n]) {
      await given.save(one.partition, below);
      expect((await page(node, { clientId: "copies" })).text).toBe(bodyOf([one, last], last.cursor));
      expect((await page(node, { clientId: "copies", type: "again" })).events).toEqual([]);
    }
    await given.append(again);
    expect((await page(node, { clientId: "copies" })).events).toHaveLength(2);
    expect((await page(node, { clientId: "copies", view: "unsaved" })).events).toEqual([]);
  });

  it("passes over records that are no events, and waits for none of them", async () => {
    const [one] = (await given.append(given.event("poisoned"))) as [Placed];
    await given.appendRaw("poisoned", "not Avro at all");
    const answer = await page(node, { clientId: "poisoned" });
    expect(answer.events).toHaveLength(1);
    const { partition } = one;
    expect(answer.next).toBe(encodeCursor({ epoch: 1, partition, offset: one.offset + 1n }));
  });

  it("reads a partition again when its checkpoint goes back, and shows everything all the while", async () => {
    const placed = await given.append(...Array.from({ length: 20 }, () => given.event("rewound")));
    const [{ partition, offset }] = placed.slice(-1) as [Placed];
    const [first] = placed as [Placed];
    await given.save(partition, offset + 1n);
    const whole = bodyOf(placed, (placed.at(-1) as Placed).cursor);
    expect((await page(node, { clientId: "rewound" })).text).toBe(whole);
    // Saved records leave the tail a second after they were seen as saved.
    await until("the tail let go of what is saved", async () => {
      await page(node, { clientId: "rewound" });
      const numbers = await (await fetch(`${node.url}/metrics`)).text();
      return /^spillway_query_tail_records ([0-4])$/m.test(numbers);
    });
    await given.rewind(partition, first.offset + 5n);
    expect((await page(node, { clientId: "rewound" })).text).toBe(whole);
    expect(node.lines.some((line) => line.includes("checkpoint went back"))).toBe(true);
    await given.save(partition, offset + 1n);
    expect((await page(node, { clientId: "rewound" })).text).toBe(whole);
  });

  it("omits rows that their owner has erased, and takes such an id again", async () => {
    const [one] = (await given.append(given.event("erased"))) as [Placed];
    await given.save(one.partition, one.offset + 1n);
    await given.database.query("DELETE FROM spillway.event WHERE client_id = 'erased'");
    expect((await page(node, { clientId: "erased" })).events).toEqual([]);
  });

  it("answers atLeast for an event that is there, 410 for one beyond the log's end, and 503 behind for one not saved yet", async () => {
    const [one] = (await given.append(given.event("token"))) as [Placed];
    expect((await page(node, { clientId: "token", atLeast: one.cursor })).text).toBe(bodyOf([one], one.cursor));
    const future = encodeCursor({ epoch: 1, partition: one.partition, offset: one.offset + 100n });
    const beyond = await page(node, { clientId: "token", atLeast: future });
    expect([beyond.status, beyond.code]).toEqual([410, "cursor-gone"]);
    const notSaved = await page(node, { clientId: "token", atLeast: one.cursor, view: "saved", timeoutMs: "50" });
    expect([notSaved.status, notSaved.code, notSaved.headers.get("retry-after")]).toEqual([503, "behind", "1"]);
    await given.save(one.partition, one.offset + 1n);
    expect((await page(node, { clientId: "token", atLeast: one.cursor, view: "saved" })).events).toHaveLength(1);
  });

  it("refuses wrong parameters by name", async () => {
    const [one] = (await given.append(given.event("params"))) as [Placed];
    const foreign = encodeCursor({ epoch: 1, partition: 1 - one.partition, offset: 0n });
    const gone = encodeCursor({ epoch: 7, partition: 0, offset: 0n });
    const cases: [Record<string, string | string[]>, number, string, string?][] = [
      [{}, 400, "invalid-parameter", "clientId"],
      [{ clientId: ["a", "b"] }, 400, "invalid-parameter", "clientId"],
      [{ clientId: "" }, 400, "invalid-parameter", "clientId"],
      [{ clientId: "a\0b" }, 400, "invalid-parameter", "clientId"],
      [{ clientId: "é".repeat(128) }, 400, "invalid-parameter", "clientId"],
      [{ clientId: "params", limit: "0" }, 400, "invalid-parameter", "limit"],
      [{ clientId: "params", limit: "1001" }, 400, "invalid-parameter", "limit"],
      [{ clientId: "params", order: "up" }, 400, "invalid-parameter", "order"],
      [{ clientId: "params", since: "yesterday" }, 400, "invalid-parameter", "since"],
      [{ clientId: "params", timeoutMs: "25001" }, 400, "invalid-parameter", "timeoutMs"],
      [{ clientId: "params", offset: "1" }, 400, "invalid-parameter", "offset"],
      [{ clientId: "params", after: "nonsense" }, 400, "invalid-cursor", "after"],
      [{ clientId: "params", before: foreign }, 400, "invalid-cursor", "before"],
      [{ clientId: "params", atLeast: gone }, 410, "cursor-gone", "atLeast"],
    ];
    for (const [parameters, status, code, field] of cases) {
      const answer = await page(node, parameters);
      expect([parameters, answer.status, answer.code]).toEqual([parameters, status, code]);
      expect(answer.text).toContain(`"field":"${field}"`);
      expect(answer.headers.get("content-type")).toMatch("application/problem+json");
    }
  });

  it("tells the lag, and describes itself", async () => {
    const lag = (await (await fetch(`${node.url}/api/v1/lag`)).json()) as { lagRecords: number; partitions: unknown[] };
    expect(lag.partitions).toHaveLength(2);
    expect(lag.lagRecords).toBeGreaterThan(0);
    const document = (await (await fetch(`${node.url}/openapi.json`)).json()) as { paths: object };
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining(["/api/v1/events", "/api/v1/events/live", "/api/v1/lag"]),
    );
    expect(await (await fetch(`${node.url}/readyz`)).json()).toEqual({ ready: true, missing: [], degraded: [] });
    const plain = await fetch(`${node.url}/api/v1/events/live?clientId=a`);
    expect([plain.status, ((await plain.json()) as { code: string }).code]).toEqual([426, "upgrade-required"]);
  });
});

describe("without the database", () => {
  it("serves what needs none, says 503 for the rest, and recovers by itself", async () => {
    await using given = await Given.create();
    const url = new URL(given.database.url);
    await using proxy = await createProxy({ host: url.hostname, port: Number(url.port) });
    url.port = String(proxy.port);
    await using node = await given.node({ DATABASE_URL: url.href });
    await node.ready();
    const [one, two] = (await given.append(given.event("x"), given.event("x"))) as [Placed, Placed];
    await given.save(one.partition, one.offset + 1n);
    expect((await page(node, { clientId: "x" })).text).toBe(bodyOf([one, two], two.cursor));
    proxy.mode = "refuse";
    const lost = await page(node, { clientId: "x" });
    expect([lost.status, lost.code]).toEqual([503, "store-unreachable"]);
    expect((await page(node, { clientId: "x", view: "unsaved" })).text).toBe(bodyOf([two], two.cursor));
    expect((await page(node, { clientId: "x", after: one.cursor })).text).toBe(bodyOf([two], two.cursor));
    expect((await (await fetch(`${node.url}/readyz`)).json()) as object).toMatchObject({ ready: true });
    proxy.mode = "swallow";
    // A node that starts now knows the checkpoints from the control topic, here none: all is unsaved.
    await using late = await given.node({ DATABASE_URL: url.href });
    await late.ready();
    expect((await page(late, { clientId: "x", view: "unsaved" })).text).toBe(bodyOf([one, two], two.cursor));
    proxy.mode = "pass";
    for (const one of [node, late])
      await until("the database is back", async () => (await page(one, { clientId: "x" })).status === 200);
    expect((await page(late, { clientId: "x" })).text).toBe(bodyOf([one, two], two.cursor));
  });
});

describe("while the events' table is locked", () => {
  it("says 503 to a reader with less patience than a look-up for copies may take, and never shows a copy", async () => {
    await using given = await Given.create();
    await using node = await given.node();
    await node.ready();
    const event = given.event("hasty");
    const [one] = (await given.append(event)) as [Placed];
    await given.save(one.partition, one.offset + 1n);
    await given.append(event);
    const hasty = { clientId: "hasty", after: one.cursor, timeoutMs: "700" };
    expect((await page(node, hasty)).events).toEqual([]);
    // The checkpoints can be read all the while: the database is not away.
    await using _lock = await holdTransaction(given.database.url, "LOCK TABLE spillway.event IN ACCESS EXCLUSIVE MODE");
    for (const parameters of [hasty, { ...hasty, view: "unsaved" }, { ...hasty, consistency: "known" }]) {
      const answer = await page(node, parameters);
      expect([parameters, answer.status, answer.code]).toEqual([parameters, 503, "store-unreachable"]);
    }
  });
});

describe("with keys", () => {
  it("denies other clients alike, whether or not they exist", async () => {
    await using given = await Given.create();
    const keys = JSON.stringify([
      { name: "one", sha256: tokenHash("token-one"), clients: [{ exact: "one" }], verbs: ["read"] },
      { name: "writer", sha256: tokenHash("token-writer"), clients: [{ exact: "one" }], verbs: ["append"] },
    ]);
    await using node = await given.node({ SPILLWAY_KEYS: keys });
    await node.ready();
    await given.append(given.event("one"), given.event("two"));
    expect((await page(node, { clientId: "one" }, "token-one")).events).toHaveLength(1);
    const denied = await page(node, { clientId: "two" }, "token-one");
    const nobody = await page(node, { clientId: "nobody" }, "token-one");
    expect([denied.status, denied.text]).toEqual([403, nobody.text]);
    expect((await page(node, { clientId: "one" }, "token-writer")).status).toBe(403);
    expect((await page(node, { clientId: "one" })).status).toBe(401);
    expect((await page(node, { clientId: "One" }, "token-one")).status).toBe(403);
    expect((await page(node, { clientId: "two", after: "nonsense" }, "token-one")).status).toBe(403);
    const lag = await fetch(`${node.url}/api/v1/lag`, { headers: { authorization: "Bearer token-one" } });
    expect(lag.status).toBe(403);
  });
});
