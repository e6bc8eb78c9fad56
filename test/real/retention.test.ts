/**
 * Promise: a log with a limit never fills up, and never loses an event for it. Attack: the sink stopped while events arrive
 * until they are refused; then the sink again, with reads all the while and after the log was trimmed.
 */
import { expect, test } from "vitest";
import { EVENT_TOPIC_CONFIG } from "#schemas/topics.ts";
import { type Role, type Spillway, startSpillway } from "../promises/support/spillway.ts";
import { connectTestLog } from "../support/log.ts";
import { until } from "../support/until.ts";

const CLIENTS = ["a", "b", "c", "d"];
const BATCH_EVENTS = 20;
const DATA = "x".repeat(1_000);
/** Some 800 events of a little over 1,000 bytes. */
const BYTES_MAX = 1_000_000;
const DAY_MS = 86_400_000;

interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly body: {
    readonly code?: string;
    readonly stored?: string;
    readonly detail?: string;
    readonly ids?: string[];
  };
}

async function post(ingest: Role, clientId: string, ids: readonly string[]): Promise<Answer> {
  const events = ids.map((id) => ({ clientId, type: "t", id, data: DATA }));
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${ingest.url}/api/v1/events`, { method: "POST", headers, body: JSON.stringify(events) });
  return {
    status: answer.status,
    retryAfter: answer.headers.get("retry-after"),
    body: (await answer.json()) as Answer["body"],
  };
}

/** All ids of a client, page by page. */
async function readAll(query: Role, clientId: string): Promise<string[]> {
  const ids: string[] = [];
  for (let after = "0"; ; ) {
    const answer = await fetch(`${query.url}/api/v1/events?clientId=${clientId}&limit=1000&after=${after}`);
    const page = (await answer.json()) as { events: { id: string }[]; next: string; hasMore: boolean };
    expect(answer.status).toBe(200);
    ids.push(...page.events.map(({ id }) => id));
    if (!page.hasMore) return ids;
    after = page.next;
  }
}

async function metric(role: Role, name: string): Promise<number> {
  const text = await (await fetch(`${role.url}/metrics`)).text();
  return Number(new RegExp(`^spillway_${name} (.+)$`, "m").exec(text)?.[1]);
}

const ready = async (role: Role): Promise<{ ready: boolean; degraded: string[] }> =>
  (await (await fetch(`${role.url}/readyz`)).json()) as { ready: boolean; degraded: string[] };

/** All acknowledged ids, by client; events are sent until one is refused. */
class Sent {
  readonly #acknowledged = new Map(CLIENTS.map((clientId) => [clientId, [] as string[]]));
  #count = 0;

  async some(spillway: Spillway): Promise<Answer> {
    const clientId = CLIENTS[this.#count % CLIENTS.length] ?? "a";
    const ids = Array.from({ length: BATCH_EVENTS }, (_, n) => `${this.#count}-${n}`);
    this.#count++;
    const answer = await post(spillway.ingest, clientId, ids);
    if (answer.status === 201) this.#acknowledged.get(clientId)?.push(...ids);
    return answer;
  }

  /** Every node shows each client just what was acknowledged, in order. */
  async allShown(spillway: Spillway): Promise<void> {
    for (const query of spillway.queries)
      for (const [clientId, ids] of this.#acknowledged) expect(await readAll(query, clientId)).toEqual(ids);
  }
}

test("near its limit the log takes no more events, gives way once they are saved, is trimmed, and loses nothing", async () => {
  const env = { SPILLWAY_LOG_BYTES_MAX: String(BYTES_MAX) };
  await using spillway = await startSpillway({ ingests: 1, queries: 1, env });
  const sent = new Sent();
  await sent.some(spillway);
  await until("the log was looked into", async () => (await metric(spillway.ingest, "log_retained_bytes")) > 0);
  const refused = await until("an event is refused", async () => {
    const answer = await sent.some(spillway);
    return answer.status !== 201 && answer;
  });
  expect(refused.status).toBe(503);
  expect(refused.body).toMatchObject({ code: "overloaded", stored: "no" });
  expect(refused.body.ids).toHaveLength(BATCH_EVENTS);
  expect(refused.body.detail).toMatch(/of the 1000000 bytes that it may .* nothing is being saved: try again in 60 s/);
  expect(refused.retryAfter).toBe("60");
  expect(await metric(spillway.ingest, "ingest_log_full")).toBe(1);
  const state = await ready(spillway.ingest);
  expect(state.ready).toBe(true);
  expect(state.degraded.join()).toContain("new events: refused");
  await sent.allShown(spillway);

  const sink = await spillway.start("sink");
  await spillway.saved();
  await spillway.ingest.app.line("log has room again: new events are taken");
  await until("events are taken again", async () => (await sent.some(spillway)).status === 201);
  await spillway.saved();
  await sent.allShown(spillway);

  // Saved a moment ago: nothing goes, however full the log is.
  await sink.app.line("log fills up");
  await until("the sink has twice seen everything saved, and had the occasion to delete it", async () => {
    const [row] = await spillway.database.query<{ n: number }>(
      `SELECT min(n)::int AS n FROM (
         SELECT count(m) AS n FROM spillway.checkpoint c
           LEFT JOIN spillway.checkpoint_mark m USING (log_epoch, partition, next_offset) GROUP BY c.partition) AS counted`,
    );
    return (row?.n ?? 0) >= 3;
  });
  const { ranges: before } = await standings(spillway);
  expect([...before.values()].map(({ low }) => low)).toEqual([0n, 0n, 0n, 0n]);
  // The margin goes by.
  await spillway.database.query(
    "UPDATE spillway.checkpoint_mark SET marked_at = marked_at - $1::float8 * interval '1 millisecond'",
    [DAY_MS],
  );
  await sink.app.line("log trimmed");
  const { ranges, checkpoints } = await standings(spillway);
  for (const [partition, { low, high }] of ranges) {
    expect(low).toBeLessThanOrEqual(checkpoints.get(partition) ?? 0n);
    expect(low === 0n).toBe(high === 0n);
  }
  expect(await metric(sink, "sink_trimmed_records_total")).toBeGreaterThan(0);
  await sink.app.line("log has room again");

  // A trimmed log is no lost one: not for the nodes that read it before, nor for new ones.
  await sent.allShown(spillway);
  await sink.restart();
  await spillway.start("query");
  expect((await sent.some(spillway)).status).toBe(201);
  await spillway.saved();
  await sent.allShown(spillway);
  expect(spillway.roles.map(({ app }) => app.ended)).toEqual(spillway.roles.map(() => undefined));
});

async function standings(spillway: Spillway) {
  const rows = await spillway.database.query<{ partition: number; next: string }>(
    "SELECT partition, next_offset::text AS next FROM spillway.checkpoint",
  );
  const checkpoints = new Map(rows.map(({ partition, next }) => [partition, BigInt(next)]));
  return { ranges: await (await spillway.log()).offsets(), checkpoints };
}

test("what had to be saved again after a checkpoint went back is not trimmed, however soon it was saved again", async () => {
  await using spillway = await startSpillway({ ingests: 1, sinks: 1 });
  const ids = Array.from({ length: 10 }, (_, n) => `${n}`);
  expect((await post(spillway.ingest, "a", ids)).status).toBe(201);
  await spillway.saved();
  await spillway.sink.kill();
  // As far as the marks can tell, all was saved long ago.
  await spillway.database.query(
    `WITH gone AS (DELETE FROM spillway.checkpoint_mark)
     INSERT INTO spillway.checkpoint_mark
     SELECT log_epoch, partition, next_offset, now() - interval '30 hours' FROM spillway.checkpoint`,
  );
  await spillway.database.query(
    `WITH back AS (UPDATE spillway.checkpoint SET next_offset = 3 WHERE next_offset = 10)
     DELETE FROM spillway.event WHERE "offset" >= 3`,
  );
  // A log that is full at once is trimmed at each look.
  const sink = await spillway.start("sink", { SPILLWAY_LOG_BYTES_MAX: "1" });
  await spillway.saved();
  await sink.app.line("log trimmed");
  const { ranges } = await standings(spillway);
  expect([...ranges.values()].map(({ low }) => low).filter((low) => low > 0n)).toEqual([3n]);
});

test("a query node and a sink that slept while the log was trimmed beyond them go on where the others are", async () => {
  // A log that is full at once is trimmed at each look.
  const env = { SPILLWAY_LOG_BYTES_MAX: "1" };
  await using spillway = await startSpillway({ ingests: 1, queries: 1 });
  const awake = await spillway.start("sink", env);
  const sleeper = await spillway.start("sink", env);
  const sent = new Sent();
  for (const _ of CLIENTS) await sent.some(spillway);
  await spillway.saved();
  await sent.allShown(spillway);
  sleeper.app.freeze();
  spillway.query.app.freeze();
  for (const _ of CLIENTS) await sent.some(spillway);
  await spillway.saved();
  await until("the log is trimmed beyond what the sleepers had read", async () => {
    await spillway.database.query(
      "UPDATE spillway.checkpoint_mark SET marked_at = marked_at - interval '1 hour' WHERE marked_at > now() - interval '1 hour'",
    );
    const { ranges } = await standings(spillway);
    return [...ranges.values()].every(({ low, high }) => high === 0n || low === high - 1n);
  });
  sleeper.app.thaw();
  spillway.query.app.thaw();
  await sent.allShown(spillway);
  for (const _ of CLIENTS) expect((await sent.some(spillway)).status).toBe(201);
  await awake.kill();
  await spillway.saved();
  await sent.allShown(spillway);
  expect([sleeper, spillway.query].map(({ app }) => app.ended)).toEqual([undefined, undefined]);
});

test("a topic whose time limit a platform has set is warned of when unsaved events are older than half of it", async () => {
  await using log = await connectTestLog();
  const limited = { ...EVENT_TOPIC_CONFIG, "retention.ms": "20000" };
  await log.admin.ensureTopic({ topic: log.topic, partitions: 4, config: limited });
  await using spillway = await startSpillway({ ingests: 1, topic: log.topic });
  await spillway.ingest.app.line("the broker deletes events by itself");
  expect((await post(spillway.ingest, "a", ["early"])).status).toBe(201);
  await spillway.ingest.app.line("unsaved events near the topic's time limit");
  const { ready: able, degraded } = await ready(spillway.ingest);
  expect(able).toBe(true);
  expect(degraded.join()).toMatch(/the oldest unsaved event is .* old, and the topic's retention.ms deletes it/);
  expect(await metric(spillway.ingest, "log_lag_ms")).toBeGreaterThan(10_000);
  await spillway.start("sink");
  await spillway.ingest.app.line("unsaved events are young again");
});
