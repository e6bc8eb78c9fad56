/** Streams of lines in and out, against the real log and database. */
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { createProxy } from "../../infra/proxy.ts";
import { eventTexts } from "../promises/support/content.ts";
import { proxiedKafka } from "../promises/support/faults.ts";
import type { Node } from "../promises/support/producer.ts";
import { type Spillway, startSpillway } from "../promises/support/spillway.ts";
import { EventMaker, newSeed, produce, seeded } from "../promises/support/workload.ts";
import { bodyOf, HOSTILE_EVENTS } from "../support/corpus.ts";
import { until } from "../support/until.ts";
import { Given, type Placed, page } from "./query/given.ts";

const NDJSON = "application/x-ndjson";
const CLIENTS = [...new Set(HOSTILE_EVENTS.map(({ clientId }) => clientId))];

interface Streamed {
  /** As printed. */
  readonly texts: readonly string[];
  readonly last: { readonly next?: string; readonly hasMore?: boolean; readonly problem?: { readonly code: string } };
  readonly savedThrough: string;
}

/** A client's whole range. */
async function streamed(node: Pick<Node, "url">, parameters: Readonly<Record<string, string>>): Promise<Streamed> {
  const search = new URLSearchParams(parameters);
  const answer = await fetch(`${node.url}/api/v1/events?${search}`, { headers: { accept: NDJSON } });
  expect([answer.status, answer.headers.get("content-type")]).toEqual([200, NDJSON]);
  const texts = (await answer.text()).split("\n");
  expect(texts.pop()).toBe("");
  const savedThrough = answer.headers.get("spillway-saved-through") ?? "";
  return { last: JSON.parse(texts.pop() ?? "") as Streamed["last"], texts, savedThrough };
}

async function allStreamed(node: Node, more: Readonly<Record<string, string>> = {}): Promise<string[]> {
  const texts: string[] = [];
  for (const clientId of CLIENTS) {
    const { texts: some, last } = await streamed(node, { clientId, ...more });
    expect(last).toMatchObject({ hasMore: false });
    texts.push(...(more["order"] === "desc" ? some.toReversed() : some));
  }
  return texts;
}

async function post(spillway: Spillway, body: string, accept: string): Promise<string> {
  const headers = { "content-type": `${NDJSON}; charset=utf-8`, accept };
  const answer = await fetch(`${spillway.ingest.url}/api/v1/events`, { method: "POST", headers, body });
  expect(answer.status).toBe(200);
  return answer.text();
}

test("every hostile event is the same by line as by page, unsaved, saved, and on a node that never saw it unsaved", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 1 });
  const { query } = spillway;
  // A line break is space between tokens there: in a string it must be escaped.
  const lines = HOSTILE_EVENTS.map((event) => bodyOf(event).replaceAll("\n", " "));
  const told = await post(spillway, `${lines.join("\n")}\nnonsense`, NDJSON);
  const answers = told
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { line: number; id?: string });
  expect(answers.map(({ line, id }) => [line, id])).toEqual([
    ...HOSTILE_EVENTS.map(({ id }, at) => [at + 1, id]),
    [HOSTILE_EVENTS.length + 1, undefined],
  ]);
  expect(JSON.parse(await post(spillway, lines.join("\n"), "*/*"))).toEqual({
    accepted: lines.length,
    rejected: 0,
    problems: [],
  });

  const unsaved = await allStreamed(query);
  expect(unsaved.length).toBe(HOSTILE_EVENTS.length);
  const paged: string[] = [];
  for (const clientId of CLIENTS) paged.push(...eventTexts((await page(query.app, { clientId, limit: "1000" })).text));
  expect(unsaved).toEqual(paged);
  for (const { canonical, id } of HOSTILE_EVENTS) {
    const text = unsaved.find((one) => (JSON.parse(one) as { id: string }).id === id) ?? "";
    const [, data] = /^\{.*?"receivedAt":"[^"]*"(?:,"data":(.*))?,"cursor":"[0-9a-v]{24}"\}$/s.exec(text) ?? [];
    expect([id, data]).toEqual([id, canonical ?? undefined]);
  }

  await spillway.start("sink");
  await spillway.saved();
  const fresh = await spillway.start("query");
  for (const node of [query, fresh]) {
    expect(await allStreamed(node)).toEqual(unsaved);
    expect(await allStreamed(node, { order: "desc" })).toEqual(unsaved);
    expect(await allStreamed(node, { view: "saved" })).toEqual(unsaved);
  }
});

test("streams that are cut anywhere, by their senders and by ingest's death, lose no line that was answered", async () => {
  await using spillway = await startSpillway({ ingests: 2, sinks: 1, queries: 1 });
  const { producer, ingests, history } = spillway;
  const random = seeded(newSeed("streams are cut"));
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const maker = new EventMaker("stream");
  let cut = 0;
  for (let n = 0; n < 24; n++) {
    const events = Array.from({ length: 2_000 }, () => maker.make(`client-${Math.floor(random() * 7)}`));
    const cutAt = 1 + Math.floor(random() * 1_999);
    const victim = n % 6 === 5 ? pick(ingests) : null;
    const target = victim ?? pick(ingests);
    const killed: Promise<unknown>[] = [];
    const { outcomes = [] } = await producer.append(target, events, "lines", (told) => {
      if (told < cutAt) return false;
      if (victim === null) return true;
      if (killed.length === 0) killed.push(victim.kill());
      return false;
    });
    await Promise.all(killed);
    if (outcomes.includes("ok") && outcomes.includes("info")) cut++;
    await producer.deliver(ingests, events, undefined, "lines");
    if (victim !== null) await victim.start();
  }
  expect(cut).toBeGreaterThan(10);
  expect(history.unknowns).toBeGreaterThan(1_000);
  await spillway.saved();
  await spillway.check({ okIds: 48_000, resentIds: 40_000, copies: 1_000 });
});

test("producers of lines and of arrays at once: one order, and each event once", async () => {
  await using spillway = await startSpillway({ ingests: 2, sinks: 1, queries: 1 });
  const clients = ["a", "b", "c", "d", "e"];
  const seed = newSeed("lines and arrays");
  await produce(spillway.producer, {
    nodes: spillway.ingests,
    clients,
    requests: 300,
    eventsMax: 20,
    streams: 0.5,
    seed,
  });
  await spillway.saved();
  await spillway.check({ okIds: 1_000, resentIds: 20 });
});

test("a stream that meets a silent log tells what is left within the time for appends, and is there once when sent again", async () => {
  await using proxied = await proxiedKafka();
  const env = { SPILLWAY_APPEND_TIMEOUT_MS: "1000" };
  await using spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1, brokers: proxied.kafka.brokers, env });
  const { producer, ingest } = spillway;
  const maker = new EventMaker("silent");
  const events = Array.from({ length: 3_000 }, () => maker.make("a"));
  await producer.deliver(ingest, events.slice(0, 10), undefined, "lines");
  proxied.proxy.mode = "swallow";
  const body = events.map((event) => `${JSON.stringify(event)}\n`).join("");
  const headers = { "content-type": NDJSON };
  const answer = await fetch(`${ingest.url}/api/v1/events`, { method: "POST", headers, body });
  expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "5"]);
  const told = (await answer.json()) as { readonly ids: readonly string[]; readonly lines: readonly number[] };
  expect(told).toMatchObject({ code: "log-unreachable", accepted: 0, rejected: 0, line: 1, stored: "unknown" });
  // What it had read: the rest it does not know of.
  expect(told.ids.length).toBeGreaterThan(0);
  expect(told.ids).toEqual(events.slice(0, told.ids.length).map(({ id }) => id));
  expect(told.lines).toEqual(told.ids.map((_, at) => at + 1));
  proxied.proxy.mode = "pass";
  await producer.deliver(ingest, events, undefined, "lines");
  await spillway.saved();
  await spillway.check({ okIds: 3_000, resentIds: 10 });
});

/** All streams that it takes, each going on from where the last one says that it ended. */
async function walked(
  node: Pick<Node, "url">,
  clientId: string,
  came: (texts: number) => Promise<void>,
  failed: () => void = () => undefined,
): Promise<{ readonly texts: readonly string[]; readonly next: string; readonly problems: readonly string[] }> {
  const texts: string[] = [];
  const problems: string[] = [];
  let after = "0";
  return until(
    `a walk of ${clientId}`,
    async () => {
      const url = `${node.url}/api/v1/events?clientId=${clientId}&after=${after}`;
      const [answer] = (await once(get(url, { headers: { accept: NDJSON } }), "response")) as [IncomingMessage];
      if (answer.statusCode !== 200) {
        answer.destroy();
        failed();
        return false;
      }
      let rest = "";
      const lines: string[] = [];
      for await (const chunk of answer) {
        const some = `${rest}${String(chunk)}`.split("\n");
        rest = some.pop() ?? "";
        lines.push(...some);
        await came(texts.length + lines.length);
      }
      const last = JSON.parse(lines.pop() ?? "") as Streamed["last"];
      texts.push(...lines);
      after = last.next ?? after;
      if (last.problem === undefined) return { texts, next: after, problems };
      problems.push(last.problem.code);
      failed();
      return false;
    },
    { limitMs: 60_000 },
  );
}

/** An answer of 20 MB is not in anybody's buffers as a whole. */
async function long(given: Given): Promise<Placed[]> {
  const data = JSON.stringify("x".repeat(1_000));
  return given.append(...Array.from({ length: 20_000 }, () => given.event("long", { data })));
}

test("a stream goes over the seam while it moves on and back, without a gap or a repeat", async () => {
  await using given = await Given.create();
  await using node = await given.node();
  await node.ready();
  const placed = await long(given);
  const [{ partition, cursor }] = [placed.at(-1) as Placed];
  await given.save(partition, 5_000n);
  const steps = [
    { texts: 1, work: () => given.save(partition, 9_000n) },
    { texts: 7_000, work: () => given.rewind(partition, 3_000n) },
    { texts: 9_000, work: () => given.save(partition, 12_000n) },
    { texts: 14_000, work: () => given.save(partition, 20_000n) },
  ];
  const { texts, next } = await walked(node, "long", async (count) => {
    while (steps[0] && count >= steps[0].texts) await steps.shift()?.work();
  });
  expect(steps).toEqual([]);
  expect(next).toBe(cursor);
  expect(texts).toEqual(placed.map(({ json }) => json));
});

test("a stream whose database goes away says so, and goes on from there when it is back", async () => {
  await using given = await Given.create();
  const placed = await long(given);
  const [{ partition, cursor }] = [placed.at(-1) as Placed];
  const url = new URL(given.database.url);
  await using proxy = await createProxy({ host: url.hostname, port: Number(url.port) });
  url.host = `127.0.0.1:${proxy.port}`;
  await using node = await given.node({ DATABASE_URL: url.href });
  await node.ready();
  await given.save(partition, 20_000n);
  await using fresh = await given.node({ DATABASE_URL: url.href });
  await fresh.ready();
  let left = false;
  const leave = (): Promise<void> => {
    if (!left) proxy.mode = "refuse";
    left = true;
    return Promise.resolve();
  };
  const { texts, next, problems } = await walked(fresh, "long", leave, () => {
    proxy.mode = "pass";
  });
  expect(problems).toContain("store-unreachable");
  expect(next).toBe(cursor);
  expect(texts).toEqual(placed.map(({ json }) => json));
});
