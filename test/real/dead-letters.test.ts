/**
 * Promise: a dead letter is shown with all that is known of it, and a re-driven event is seen once, under its own id. Attack:
 * events that a rule of the user's own refused, re-driven twice, sent again by their producer meanwhile, by a node that is
 * killed between the log and the mark; foreign bytes, a schema that is known too late, a record in the wrong partition.
 */
import avro from "avsc";
import { beforeAll, describe, expect, test } from "vitest";
import { systemClock as clock } from "#lib/clock.ts";
import { encodeEvent, fingerprintOf, WRITER_SCHEMA } from "#lib/codec.ts";
import { ControlWriter } from "#lib/control-writer.ts";
import { decodeCursor, encodeCursor } from "#lib/cursor.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import type { BatchProducer, NewRecord } from "#lib/kafka/ports.ts";
import { partitionOf } from "#lib/partition.ts";
import type { NewEvent } from "../promises/support/content.ts";
import { holdTransaction } from "../promises/support/faults.ts";
import { Follower } from "../promises/support/follower.ts";
import { type Spillway, startSpillway } from "../promises/support/spillway.ts";
import { endSessions } from "../promises/support/store-faults.ts";
import { startApp } from "../support/process.ts";
import { clientOf, silentLog, someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";

const PARTITIONS = 4;
/** Refused by the user's own rule while that stands. */
const forbidden = (clientId: string, n: number): NewEvent => ({
  clientId,
  id: `forbidden-${n}`,
  type: "forbidden",
  occurredAt: "2026-01-31T08:00:00.000Z",
  data: { n, text: "é 😀" },
});

interface Letter {
  readonly position: string;
  readonly partition: number;
  readonly offset: number;
  readonly reason: string;
  readonly detail: string;
  readonly clientId: string | null;
  readonly id: string | null;
  readonly redriven: { readonly at: string; readonly cursor: string } | null;
}
interface LetterPage {
  readonly deadLetters: readonly Letter[];
  readonly next: string;
  readonly hasMore: boolean;
}
interface Outcome {
  readonly redriven: readonly { readonly position: string; readonly cursor: string }[];
  readonly refused: readonly { readonly position: string; readonly reason: string; readonly detail: string }[];
  readonly next: string;
  readonly hasMore: boolean;
}

let spillway: Spillway;
let producer: BatchProducer;

beforeAll(async () => {
  spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1 });
  const kafka = connectKafka({ brokers: spillway.brokers.split(","), clientId: "test", log: silentLog, clock });
  producer = await kafka.producer();
  return async () => {
    await producer.close();
    await spillway[Symbol.asyncDispose]();
  };
});

async function ask<T>(path: string, body?: object): Promise<{ status: number; text: string; answer: T }> {
  const response = await fetch(`${spillway.query.url}/api/v1/dead-letters${path}`, {
    ...(body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, text, answer: JSON.parse(text) as T };
}

async function list(filters: Readonly<Record<string, string>> = {}): Promise<LetterPage> {
  const { status, text, answer } = await ask<LetterPage>(`?${new URLSearchParams(filters)}`);
  expect(status, text).toBe(200);
  return answer;
}

async function redrive(order: object): Promise<Outcome> {
  const { status, text, answer } = await ask<Outcome>("/redrive", order);
  expect(status, text).toBe(200);
  return answer;
}

const lettersOf = async (clientId: string): Promise<Letter[]> =>
  (await list({ limit: "1000" })).deadLetters.filter((letter) => letter.clientId === clientId);

/** Has them refused by a rule that is gone afterwards. @returns their dead letters, in order */
async function refused(events: readonly NewEvent[]): Promise<Letter[]> {
  const [first] = events;
  if (first === undefined) throw new Error("no events");
  await spillway.database.query("ALTER TABLE spillway.event ADD CONSTRAINT mine CHECK (type <> 'forbidden') NOT VALID");
  await spillway.producer.deliver(spillway.ingest, events);
  await spillway.saved();
  await spillway.database.query("ALTER TABLE spillway.event DROP CONSTRAINT mine");
  const letters = await lettersOf(first.clientId);
  expect(letters.map(({ id }) => id)).toEqual(events.map(({ id }) => id));
  return letters;
}

/** What a page shows of a client: ids, in order. */
async function shown(clientId: string): Promise<string[]> {
  const { texts } = await spillway.reader.walk(spillway.query, { clientId });
  return texts.map((text) => (JSON.parse(text) as { id: string }).id);
}

/** What a follower from the beginning is shown by the time it is caught up. */
async function followed(clientId: string): Promise<string[]> {
  const follower = new Follower({ clientId, after: "0" });
  await follower.connect(spillway.query);
  await follower.caughtUp();
  follower.cut();
  return follower.events.map(({ id }) => id);
}

const positions = (letters: readonly { readonly position: string }[]): string[] => letters.map((one) => one.position);

async function append(partition: number, record: NewRecord): Promise<string> {
  const bases = await producer.append(spillway.topic, [{ partition, records: [record] }]);
  await spillway.saved();
  return encodeCursor({ epoch: 1, partition, offset: bases.get(partition) ?? -1n });
}

describe("an event that the user's own constraint refused", () => {
  test("is re-driven when the constraint is gone, and is seen once, on pages and live, saved and unsaved", async () => {
    const client = clientOf(0, PARTITIONS, "once");
    await spillway.producer.deliver(spillway.ingest, [{ ...forbidden(client, 0), id: "before", type: "fine" }]);
    const [letter] = await refused([forbidden(client, 1)]);
    expect(letter).toMatchObject({ reason: "refused-23514", partition: 0, redriven: null });
    expect(letter?.detail).toContain("mine");
    expect(await shown(client)).toEqual(["before"]);
    const { answer: whole } = await ask<{ event: object }>(`/${letter?.position}`);
    const { redriven, refused: not, hasMore } = await redrive({ positions: [letter?.position] });
    expect([redriven.length, not, hasMore]).toEqual([1, [], false]);
    expect(await shown(client)).toEqual(["before", "forbidden-1"]);
    await spillway.saved();
    expect(await shown(client)).toEqual(["before", "forbidden-1"]);
    expect(await followed(client)).toEqual(["before", "forbidden-1"]);
    // The same event, its time of arrival too, at a new place.
    const { texts } = await spillway.reader.walk(spillway.query, { clientId: client });
    expect(JSON.parse(texts[1] ?? "")).toEqual({ ...whole.event, cursor: redriven[0]?.cursor });
    const [{ redriven: told } = { redriven: null }] = await lettersOf(client);
    expect(told?.cursor).toBe(redriven[0]?.cursor);
  });

  test("is seen once when it is re-driven twice and its producer sends it again meanwhile", async () => {
    const client = clientOf(1, PARTITIONS, "twice");
    const event = forbidden(client, 2);
    const [letter] = await refused([event]);
    const names = { positions: [letter?.position] };
    await redrive(names);
    await spillway.producer.deliver(spillway.ingest, [event]);
    // By name again, and by nothing else.
    expect((await redrive(names)).redriven.length).toBe(1);
    expect((await redrive({ after: "0", reason: "refused-23514" })).redriven).toEqual([]);
    expect(await shown(client)).toEqual([event.id]);
    await spillway.saved();
    expect((await redrive(names)).redriven.length).toBe(1);
    expect(await shown(client)).toEqual([event.id]);
    await spillway.saved();
    expect(await shown(client)).toEqual([event.id]);
    expect(await followed(client)).toEqual([event.id]);
    const rows = await spillway.database.query("SELECT FROM spillway.event WHERE client_id = $1", [client]);
    expect(rows.length).toBe(1);
  });

  test("is re-driven with all of its reason, so many a request, in the order of the log", async () => {
    const client = clientOf(2, PARTITIONS, "many");
    const events = Array.from({ length: 25 }, (_, n) => forbidden(client, 100 + n));
    const fine = Array.from({ length: 25 }, (_, n) => ({
      ...forbidden(client, 200 + n),
      type: "fine",
      id: `fine-${n}`,
    }));
    const mixed = events.flatMap((event, n) => [event, fine[n] as NewEvent]);
    await spillway.database.query(
      "ALTER TABLE spillway.event ADD CONSTRAINT mine CHECK (type <> 'forbidden') NOT VALID",
    );
    await spillway.producer.deliver(spillway.ingest, mixed);
    await spillway.saved();
    await spillway.database.query("ALTER TABLE spillway.event DROP CONSTRAINT mine");
    expect(await redrive({ after: "0", reason: "no-such-reason" })).toMatchObject({ redriven: [], hasMore: false });
    const taken: string[] = [];
    let page: Outcome | undefined;
    for (const expected of [10, 10, 5]) {
      page = await redrive({ after: page?.next ?? "0", reason: "refused-23514", limit: 10 });
      expect([page.redriven.length, page.hasMore]).toEqual([expected, expected === 10]);
      taken.push(...positions(page.redriven));
    }
    expect(taken).toEqual(positions(await lettersOf(client)));
    await spillway.saved();
    expect(await shown(client)).toEqual([...fine, ...events].map(({ id }) => id));
  });

  test("is re-driven by a range, and no other", async () => {
    const client = clientOf(3, PARTITIONS, "range");
    const letters = await refused(Array.from({ length: 6 }, (_, n) => forbidden(client, n)));
    const [first, , , fourth] = positions(letters);
    const { redriven } = await redrive({ after: first, through: fourth });
    expect(positions(redriven)).toEqual(positions(letters.slice(1, 4)));
    expect((await list({ partition: "3", redriven: "true" })).deadLetters.length).toBe(3);
    expect(positions((await list({ partition: "3", redriven: "false" })).deadLetters)).toEqual(
      positions([...letters.slice(0, 1), ...letters.slice(4)]),
    );
  });

  test("is seen once when the node dies between the log and the mark", async () => {
    const client = clientOf(0, PARTITIONS, "crash");
    const [letter] = await refused([forbidden(client, 7)]);
    const copies = async (): Promise<number> =>
      (await (await spillway.log()).records()).filter(({ event }) => event?.clientId === client).length;
    {
      // Reads pass, and the mark waits.
      await using _lock = await holdTransaction(spillway.database.url, "LOCK TABLE spillway.dead_letter IN SHARE MODE");
      const asked = ask("/redrive", { positions: [letter?.position] }).catch((error: unknown) => error);
      await until("the event is on the log again", async () => (await copies()) === 2);
      await spillway.query.kill();
      expect(await asked).toBeInstanceOf(TypeError);
      // Left to itself, the server would finish the dead node's last statement.
      await endSessions(spillway.database.url);
    }
    await spillway.query.restart();
    expect((await lettersOf(client))[0]?.redriven).toBeNull();
    await redrive({ positions: [letter?.position] });
    expect(await copies()).toBe(3);
    expect((await lettersOf(client))[0]?.redriven).not.toBeNull();
    await spillway.saved();
    expect(await shown(client)).toEqual(["forbidden-7"]);
  });
});

describe("a record of somebody else's", () => {
  test("that is no event is shown with its bytes, and refused with its reason", async () => {
    const value = Buffer.from("no event \u0000 at all");
    const position = await append(1, { key: Buffer.from("somebody"), value });
    const { answer } = await ask<Record<string, unknown>>(`/${position}`);
    expect(answer).toMatchObject({
      position,
      reason: "undecodable",
      clientId: null,
      id: null,
      key: Buffer.from("somebody").toString("base64"),
      value: value.toString("base64"),
      event: null,
    });
    expect(answer["refused"]).toMatchObject({ reason: "undecodable" });
    const before = (await (await spillway.log()).records()).length;
    const { redriven, refused: not } = await redrive({ positions: [position] });
    expect([redriven, not.map(({ reason }) => reason)]).toEqual([[], ["undecodable"]]);
    expect((await (await spillway.log()).records()).length).toBe(before);
    expect((await list({ reason: "undecodable" })).deadLetters.map(({ redriven: told }) => told)).toEqual([null]);
  });

  test("whose schema is known by now is re-driven", async () => {
    const client = clientOf(2, PARTITIONS, "newer");
    const schema = JSON.parse(WRITER_SCHEMA) as { fields: object[] };
    const newer = JSON.stringify({ ...schema, fields: [...schema.fields, { name: "more", type: "string" }] });
    const type = avro.Type.forSchema(JSON.parse(newer), { wrapUnions: false });
    const event = someEvent({ clientId: client, id: "from-the-future" });
    const { occurredAtMs: occurredAt, receivedAtMs: receivedAt, ...names } = event;
    const body = type.toBuffer({ ...names, occurredAt, receivedAt, more: "unknown here" });
    const value = Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.from(fingerprintOf(newer), "hex"), body]);
    const position = await append(2, { key: Buffer.from(client), value });
    expect((await redrive({ positions: [position] })).refused.map(({ reason }) => reason)).toEqual(["unknown-schema"]);
    await new ControlWriter(`${spillway.topic}.control`, producer).schema(fingerprintOf(newer), newer);
    expect(await ask(`/${position}`)).toMatchObject({ answer: { event: { id: "from-the-future" }, clientId: client } });
    expect((await redrive({ positions: [position] })).redriven.length).toBe(1);
    expect(await shown(client)).toEqual(["from-the-future"]);
  });

  test("in the wrong partition is re-driven into the right one, and under the right key", async () => {
    const client = clientOf(3, PARTITIONS, "astray");
    const place = partitionOf(Buffer.from(client), PARTITIONS);
    const value = encodeEvent(someEvent({ clientId: client, id: "astray" }));
    const wrongPlace = await append(0, { key: Buffer.from(client), value });
    const wrongKey = await append(0, { key: Buffer.from("another"), value });
    const { redriven, refused: not } = await redrive({ positions: [wrongPlace, wrongKey] });
    expect(not).toEqual([]);
    expect(redriven.map(({ cursor }) => decodeCursor(cursor)?.partition)).toEqual([place, place]);
    expect(await shown(client)).toEqual(["astray"]);
    await spillway.saved();
    expect(await shown(client)).toEqual(["astray"]);
  });
});

test("what nobody can mean is refused, and does nothing", async () => {
  const before = (await (await spillway.log()).records()).length;
  const gone = encodeCursor({ epoch: 1, partition: 0, offset: 1_000_000n });
  const wrong: [body: object, status: number][] = [
    [{}, 400],
    [{ positions: [] }, 400],
    [{ positions: ["nonsense"] }, 400],
    [{ positions: [gone], reason: "undecodable" }, 400],
    [{ positions: Array.from({ length: 1_001 }, () => gone) }, 400],
    [{ reason: "" }, 400],
    [{ after: "0", limit: 1_001 }, 400],
    [{ after: "0", all: true }, 400],
    [[gone], 400],
  ];
  for (const [body, status] of wrong) expect([body, (await ask("/redrive", body)).status]).toEqual([body, status]);
  expect((await redrive({ positions: [gone] })).refused.map(({ reason }) => reason)).toEqual(["not-found"]);
  expect((await ask(`/${gone}`)).status).toBe(404);
  expect((await ask("/nonsense")).status).toBe(400);
  expect((await ask("?redriven=maybe")).status).toBe(400);
  expect((await (await spillway.log()).records()).length).toBe(before);
});

describe("npm run dead-letters", () => {
  /** Its exit code, and what it said. */
  async function run(...args: string[]): Promise<{ code: number | null; said: string }> {
    const app = await startApp("infra/dead-letters/main.ts", {}, [...args, "--url", spillway.query.url]);
    const code = await app.exit();
    return { code, said: app.lines.join("\n") };
  }

  test("lists, shows and re-drives, and ends with 1 when something was refused", async () => {
    const client = clientOf(1, PARTITIONS, "person");
    const letters = await refused(Array.from({ length: 3 }, (_, n) => forbidden(client, n)));
    const [first = ""] = positions(letters);
    const listed = await run("list", "--reason", "refused-23514", "--redriven", "false", "--partition", "1");
    expect(listed.code).toBe(0);
    for (const { position, id } of letters)
      expect(listed.said).toMatch(new RegExp(`${position} .*${client} +${id} +no`));
    const one = await run("show", first);
    expect(JSON.parse(one.said)).toMatchObject({ position: first, event: { id: "forbidden-0", data: { n: 0 } } });
    expect(await run("redrive", first)).toMatchObject({ code: 0, said: "1 re-driven, 0 refused." });
    const rest = await run("redrive", "--reason", "refused-23514", "--partition", "1");
    expect(rest).toMatchObject({ code: 0, said: "2 re-driven, 0 refused." });
    const bytes = await append(1, { key: null, value: Buffer.from("\u001b[2Jno event") });
    const not = await run("redrive", bytes);
    expect([not.code, not.said]).toEqual([1, expect.stringContaining(`${bytes}  undecodable: `)]);
    expect(not.said).toContain("0 re-driven, 1 refused: see above.");
    expect(await shown(client)).toEqual(letters.map(({ id }) => id));
  });

  test.each([
    [["list", "--nonsense"], "--nonsense"],
    [["list", "--through", "0"], "--through means nothing here"],
    [["redrive"], "redrive takes positions, or --all"],
    [["redrive", "--all", "x"], "redrive takes positions, or --all"],
    [["show"], "show takes one position"],
    [["bury"], '"bury" is not known'],
    [["redrive", "nonsense"], "is no position"],
  ])("%j is refused with the way to say it right", async (args, said) => {
    const answered = await run(...args);
    expect(answered.code).toBe(1);
    expect(answered.said).toContain(said);
  });
});
