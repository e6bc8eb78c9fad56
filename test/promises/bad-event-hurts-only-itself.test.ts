/**
 * A bad event is refused with its reason, or set aside with its bytes, its origin and its reason, and the partition goes on.
 * Attack: every way to be wrong over HTTP; bytes that no ingest would write, put into the topic between good events; rows
 * that the user's own constraint refuses.
 */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { beforeAll, describe, expect, test } from "vitest";
import { systemClock as clock } from "#lib/clock.ts";
import { encodeEvent, WRITER_FINGERPRINT } from "#lib/codec.ts";
import { LIMITS } from "#lib/event.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import type { BatchProducer, NewRecord } from "#lib/kafka/ports.ts";
import { partitionOf } from "#lib/partition.ts";
import { BAD_BODIES } from "../support/corpus.ts";
import { clientOf, silentLog, someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";
import type { NewEvent } from "./support/content.ts";
import { Follower } from "./support/follower.ts";
import { type Spillway, startSpillway } from "./support/spillway.ts";

const PARTITIONS = 4;
const PARTITION = 2;
const good = (clientId: string, n: number, type = "t"): NewEvent => ({
  clientId,
  id: `good-${n}`,
  type,
  occurredAt: "2026-01-31T08:00:00.000Z",
  data: { n },
});

interface Dead {
  readonly partition: number;
  readonly o: string;
  readonly reason: string;
  readonly detail: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}
const deadLetters = (spillway: Spillway): Promise<Dead[]> =>
  spillway.database.query<Dead>(
    'SELECT partition, "offset"::text AS o, reason, detail, key, value FROM spillway.dead_letter ORDER BY partition, "offset"',
  );

describe("over HTTP", () => {
  let spillway: Spillway;
  beforeAll(async () => {
    spillway = await startSpillway({ ingests: 1 });
    return () => spillway[Symbol.asyncDispose]();
  });

  const post = async (body: Uint8Array | string, headers: Record<string, string>) => {
    const response = await fetch(`${spillway.ingest.url}/api/v1/events`, { method: "POST", headers, body });
    return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
  };
  const json = { "content-type": "application/json" };
  /** The status that a body of so many bytes gets by its announcement alone: the answer comes before the body. */
  const announce = async (bytes: number): Promise<number | undefined> => {
    const headers = { ...json, "content-length": bytes };
    const sent = request(`${spillway.ingest.url}/api/v1/events`, { method: "POST", headers });
    sent.write("[");
    const [answer] = (await once(sent, "response")) as [IncomingMessage];
    sent.on("error", () => undefined).destroy();
    return answer.statusCode;
  };

  test("a bad body is refused with its reason, and nothing of it reaches the log", async () => {
    const wrong: string[] = [];
    let accepted = 0;
    for (const [index, { name, body, status, code }] of BAD_BODIES.entries()) {
      const answer = await post(body, json);
      const told = answer.text.startsWith("{") ? (JSON.parse(answer.text) as { code?: string; detail?: string }) : {};
      const said = `${answer.status} ${told.code}`;
      if (said !== `${status} ${code}` || !told.detail || !answer.type?.startsWith("application/problem+json"))
        wrong.push(`${name}: ${said}, not ${status} ${code}; ${answer.type}; ${answer.text.slice(0, 200)}`);
      // In between, the node still does its work.
      if (index % 10 === 0) await spillway.producer.deliver(spillway.ingest, [good("neighbour", accepted++)]);
    }
    expect(wrong).toEqual([]);
    expect(accepted).toBeGreaterThan(5);
    const records = await (await spillway.log()).records();
    expect(records.map(({ event }) => event?.id)).toEqual(Array.from({ length: accepted }, (_, n) => `good-${n}`));
  });

  test("one bad event refuses its whole array, by index", async () => {
    const before = (await (await spillway.log()).records()).length;
    const array = [good("array", 0), { ...good("array", 1), occurredAt: "yesterday" }, good("array", 2)];
    const answer = await post(JSON.stringify(array), json);
    const { problems } = JSON.parse(answer.text) as { problems: { index: number; field: string }[] };
    expect(answer.status).toBe(400);
    expect(problems.map(({ index, field }) => [index, field])).toEqual([[1, "/occurredAt"]]);
    expect((await (await spillway.log()).records()).length).toBe(before);
  });

  test("what is too large, compressed or of another type is refused as such", async () => {
    const before = (await (await spillway.log()).records()).length;
    const large = await announce(LIMITS.bodyBytesMax + 1);
    const packed = await post(JSON.stringify(good("packed", 0)), { ...json, "content-encoding": "gzip" });
    const text = await post(JSON.stringify(good("text", 0)), { "content-type": "text/plain" });
    expect([large, packed.status, text.status]).toEqual([413, 415, 415]);
    expect((await (await spillway.log()).records()).length).toBe(before);
  });
});

describe("in the topic", () => {
  let spillway: Spillway;
  let producer: BatchProducer;
  beforeAll(async () => {
    spillway = await startSpillway({ ingests: 1, queries: 1 });
    const kafka = connectKafka({ brokers: spillway.brokers.split(","), clientId: "test", log: silentLog, clock });
    producer = await kafka.producer();
    return async () => {
      await producer.close();
      await spillway[Symbol.asyncDispose]();
    };
  });

  const client = clientOf(PARTITION, PARTITIONS, "neighbour");
  const key = Buffer.from(client);
  const header = Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.from(WRITER_FINGERPRINT, "hex")]);
  const valid = encodeEvent(someEvent({ clientId: client, id: "never-shown" }));
  const event = (given: Parameters<typeof someEvent>[0]): Buffer =>
    encodeEvent(someEvent({ clientId: client, id: "never-shown", ...given }));
  const elsewhere = clientOf((PARTITION + 1) % PARTITIONS, PARTITIONS);
  /** A varint of ten bytes: the length 2^62. */
  const hugeLength = Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);

  const BAD_RECORDS: [name: string, record: NewRecord, reason: string][] = [
    ["a tombstone", { key, value: null }, "undecodable"],
    ["neither key nor value", { key: null, value: null }, "undecodable"],
    ["an empty value", { key, value: Buffer.alloc(0) }, "undecodable"],
    ["JSON", { key, value: Buffer.from(JSON.stringify(good(client, 0))) }, "undecodable"],
    ["no header", { key, value: valid.subarray(10) }, "undecodable"],
    ["half a header", { key, value: valid.subarray(0, 7) }, "undecodable"],
    ["only a header", { key, value: header }, "undecodable"],
    ["another format's header", { key, value: Buffer.concat([Buffer.alloc(5), valid.subarray(10)]) }, "undecodable"],
    [
      "an unknown fingerprint",
      { key, value: Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.alloc(8, 0xab), valid.subarray(10)]) },
      "unknown-schema",
    ],
    ["a value cut in its last byte", { key, value: valid.subarray(0, -1) }, "undecodable"],
    ["a value cut in its middle", { key, value: valid.subarray(0, 20) }, "undecodable"],
    ["a byte more", { key, value: Buffer.concat([valid, Buffer.from([0])]) }, "undecodable"],
    ["the event twice", { key, value: Buffer.concat([valid, valid]) }, "undecodable"],
    ["a text of 2^62 bytes", { key, value: Buffer.concat([header, hugeLength]) }, "undecodable"],
    [
      "a text of 100 MB in 7 bytes",
      { key, value: Buffer.concat([header, Buffer.from("80e1eb17", "hex")]) },
      "undecodable",
    ],
    ["a text of -1 bytes", { key, value: Buffer.concat([header, Buffer.from([0x01])]) }, "undecodable"],
    ["a branch that the union does not have", { key, value: replaceUnion(valid, 0x04) }, "undecodable"],
    ["a negative branch", { key, value: replaceUnion(valid, 0x01) }, "undecodable"],
    ["random bytes after the header", { key, value: Buffer.concat([header, Buffer.alloc(300, 0xff)]) }, "undecodable"],
    ["a value larger than any event", { key, value: Buffer.concat([valid, Buffer.alloc(400 * 1024)]) }, "undecodable"],
    ["no key", { key: null, value: valid }, "key-mismatch"],
    ["an empty key", { key: Buffer.alloc(0), value: valid }, "key-mismatch"],
    ["another client's key", { key: Buffer.from(elsewhere), value: valid }, "key-mismatch"],
    [
      "a key that is the client's only as text",
      { key: Buffer.from([0xff]), value: event({ clientId: "\ufffd" }) },
      "key-mismatch",
    ],
    [
      "an event of another partition",
      { key: Buffer.from(elsewhere), value: event({ clientId: elsewhere }) },
      "wrong-partition",
    ],
    ["an empty id", { key, value: event({ id: "" }) }, "invalid-event"],
    ["an id of 129 bytes", { key, value: event({ id: "i".repeat(129) }) }, "invalid-event"],
    ["an empty type", { key, value: event({ type: "" }) }, "invalid-event"],
    ["NUL in the type", { key, value: event({ type: "a\0b" }) }, "unstorable-text"],
    ["a time beyond the year 9999", { key, value: event({ occurredAtMs: 253_402_300_800_000 }) }, "invalid-event"],
    ["a time before the year 1", { key, value: event({ occurredAtMs: -62_135_596_800_001 }) }, "invalid-event"],
    [
      "a receivedAt beyond the year 9999",
      { key, value: event({ receivedAtMs: 253_402_300_800_000 }) },
      "invalid-event",
    ],
    ["data that is no JSON", { key, value: event({ data: "{" }) }, "malformed-json"],
    ["empty data", { key, value: event({ data: "" }) }, "malformed-json"],
    ["data with NUL", { key, value: event({ data: '"\\u0000"' }) }, "unstorable-text"],
    ["data with a lone surrogate", { key, value: event({ data: '"\\ud800"' }) }, "unstorable-text"],
    ["data with a repeated key", { key, value: event({ data: '{"a":1,"a":2}' }) }, "duplicate-key"],
    ["data with __proto__", { key, value: event({ data: '{"__proto__":{}}' }) }, "forbidden-key"],
    ["data of 65 levels", { key, value: event({ data: "[".repeat(65) + "]".repeat(65) }) }, "too-deep"],
    ["data with a number that changes", { key, value: event({ data: "9007199254740993" }) }, "inexact-number"],
  ];

  /** The union's branch is the byte before the length of `data`, which is 7 bytes long. */
  function replaceUnion(value: Buffer, branch: number): Buffer {
    const changed = Buffer.from(value);
    changed[value.length - 9] = branch;
    return changed;
  }

  test("a bad record is set aside with its bytes, and its neighbours are shown and saved alike", async () => {
    const { ingest, query } = spillway;
    const follower = new Follower({ clientId: client, after: "0" });
    await follower.connect(query);
    const expected: { o: string; reason: string; key: Buffer | null; value: Buffer | null }[] = [];
    const ids: string[] = [];
    for (const [index, [, record, reason]] of BAD_RECORDS.entries()) {
      await spillway.producer.deliver(ingest, [good(client, index)]);
      ids.push(`good-${index}`);
      const offsets = await producer.append(spillway.topic, [{ partition: PARTITION, records: [record] }]);
      expected.push({ o: String(offsets.get(PARTITION)), reason, key: record.key, value: record.value });
    }
    await spillway.producer.deliver(ingest, [good(client, BAD_RECORDS.length)]);
    ids.push(`good-${BAD_RECORDS.length}`);

    await follower.shows(ids);
    await follower.caughtUp();
    const unsaved = await spillway.reader.walk(query, { clientId: client, limit: 7 });
    expect(unsaved.texts.map((text) => (JSON.parse(text) as NewEvent).id)).toEqual(ids);
    expect(unsaved.pages.every((page) => page.savedThrough === null)).toBe(true);

    await spillway.start("sink");
    await spillway.saved();
    const dead = await deadLetters(spillway);
    expect(dead.map(({ partition }) => partition)).toEqual(expected.map(() => PARTITION));
    expect(dead.map(({ o, reason }, index) => [BAD_RECORDS[index]?.[0], o, reason])).toEqual(
      expected.map(({ o, reason }, index) => [BAD_RECORDS[index]?.[0], o, reason]),
    );
    const same = (a: Buffer | null, b: Buffer | null): boolean => (a === null || b === null ? a === b : a.equals(b));
    for (const [index, { key: gotKey, value, detail }] of dead.entries()) {
      expect(same(gotKey, expected[index]?.key ?? null), BAD_RECORDS[index]?.[0]).toBe(true);
      expect(same(value, expected[index]?.value ?? null), BAD_RECORDS[index]?.[0]).toBe(true);
      expect(detail, BAD_RECORDS[index]?.[0]).not.toBe("");
    }

    // Nothing shown and later gone: the same texts from the rows, and from a follower who begins now.
    const saved = await spillway.reader.walk(query, { clientId: client, limit: 7, view: "saved" });
    const merged = await spillway.reader.walk(query, { clientId: client, limit: 7 });
    const late = new Follower({ clientId: client, after: "0" });
    await late.connect(query);
    await late.caughtUp();
    expect(saved.texts).toEqual(unsaved.texts);
    expect(merged.texts).toEqual(unsaved.texts);
    expect(late.texts).toEqual(unsaved.texts);
    expect(follower.texts).toEqual(unsaved.texts);
    // No client of the test has an event that is not there, in particular none that was set aside.
    const [rows] = await spillway.database.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.event");
    expect(rows?.n).toBe(ids.length);
    late.cut();
    follower.cut();
  });

  test("a row that the user's own constraint refuses is set aside alone", async () => {
    await spillway.database.query(
      "ALTER TABLE spillway.event ADD CONSTRAINT no_forbidden CHECK (type <> 'forbidden') NOT VALID",
    );
    const before = (await deadLetters(spillway)).length;
    const constrained = clientOf(PARTITION, PARTITIONS, "constrained");
    const events = Array.from({ length: 300 }, (_, n) => good(constrained, n, n % 100 === 50 ? "forbidden" : "t"));
    await spillway.producer.deliver(spillway.ingest, events);
    await spillway.saved();
    const dead = (await deadLetters(spillway)).slice(before);
    expect(dead.map(({ value }) => value?.includes("forbidden"))).toEqual([true, true, true]);
    expect(
      dead.every(({ key: gotKey, detail }) => gotKey?.toString() === constrained && detail.includes("no_forbidden")),
    ).toBe(true);
    const { texts } = await spillway.reader.walk(spillway.query, { clientId: constrained, limit: 1_000 });
    expect(texts.map((text) => (JSON.parse(text) as NewEvent).id)).toEqual(
      events.filter(({ type }) => type !== "forbidden").map(({ id }) => id),
    );
  });

  test("a table that refuses every event is waited for: nothing is set aside, and everything is saved later", async () => {
    await spillway.database.query("ALTER TABLE spillway.event ADD CONSTRAINT nothing CHECK (false) NOT VALID");
    const before = (await deadLetters(spillway)).length;
    const waiting = clientOf(PARTITION, PARTITIONS, "waiting");
    expect(partitionOf(Buffer.from(waiting), PARTITIONS)).toBe(PARTITION);
    const events = Array.from({ length: 50 }, (_, n) => good(waiting, n));
    await spillway.producer.deliver(spillway.ingest, events);
    await spillway.sink.app.line("all of 50 events were refused");
    expect((await deadLetters(spillway)).length).toBe(before);
    expect((await spillway.reader.walk(spillway.query, { clientId: waiting })).texts.length).toBe(50);
    await spillway.database.query("ALTER TABLE spillway.event DROP CONSTRAINT nothing");
    await spillway.saved();
    await until("every event is a row", async () => {
      const [rows] = await spillway.database.query<{ n: number }>(
        "SELECT count(*)::int AS n FROM spillway.event WHERE client_id = $1",
        [waiting],
      );
      return rows?.n === 50;
    });
    expect((await deadLetters(spillway)).length).toBe(before);
  });
});
