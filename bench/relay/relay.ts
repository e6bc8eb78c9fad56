/**
 * What the event buffer costs its writers, how fast the relay empties it next to the loop that most write first, and how long
 * after its commit an event is readable.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { systemClock } from "#lib/clock.ts";
import { createLog } from "#lib/log.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { install } from "../../infra/buffer/install.ts";
import { median, ms, whole } from "../../infra/figures.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BenchStack } from "../stack.ts";
import type { LatencyOrder, LatencyResult } from "./latency.ts";
import type { NaiveOrder, NaiveResult } from "./naive.ts";
import type { Kind, WritersOrder, WritersResult } from "./writers.ts";

const CONNECTIONS = [1, 8];
const KINDS: Readonly<Record<Exclude<Kind, "without">, string>> = {
  within: "with emit in the statement of the change",
  own: "with emit as a statement of its own",
  nothing: "with one more statement that does nothing",
};
const RATES = [500, 2_000];
const BACKLOG = 200_000;
const NAIVE_SECONDS = 5;
const LOOK_MS = 100;
const DRAIN_LIMIT_MS = 300_000;

/** @param rounds of the writers' turns. @param seconds of each turn, and of each rate */
export async function benchRelay(stack: BenchStack, rounds: number, seconds: number): Promise<Report> {
  const { databaseUrl = "", brokers, topic, partitions, measure } = stack;
  const progress = createProgress(3 + CONNECTIONS.length + RATES.length);
  progress.step("a query node, and the event buffer in a database");
  const { url: queryUrl } = await stack.serve("apps/query/main.ts");
  await installBuffer(databaseUrl);
  const writers: WritersResult[] = [];
  for (const connections of CONNECTIONS) {
    progress.step(`${connections} ${connections === 1 ? "writer" : "writers"} with and without emit`);
    const order: WritersOrder = { databaseUrl, connections, rounds, seconds };
    writers.push(await measure<WritersResult>("bench/relay/writers.ts", order));
  }
  progress.step("the naive loop");
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await fill(client);
    const naiveOrder: NaiveOrder = { brokers, topic, partitions, databaseUrl, seconds: NAIVE_SECONDS };
    const naive = await measure<NaiveResult>("bench/relay/naive.ts", naiveOrder);
    progress.step(`the relay, ${whole(BACKLOG)} rows`);
    await fill(client);
    const drained = await drain(stack, client);
    const latencies: LatencyResult[] = [];
    for (const eventsPerSecond of RATES) {
      progress.step(`${whole(eventsPerSecond)} events a second`);
      const order: LatencyOrder = { databaseUrl, queryUrl, eventsPerSecond, seconds: 2 * seconds };
      latencies.push(await measure<LatencyResult>("bench/relay/latency.ts", order));
    }
    progress.end();
    return report(writers, naive.rows / naive.seconds, drained, latencies);
  } finally {
    await client.end();
  }
}

async function installBuffer(url: string): Promise<void> {
  const log = createLog("bench", "silent");
  const pool = new Pool({ url, max: 1, name: "bench", connectTimeoutMs: 10_000, log, clock: systemClock });
  await install(pool, { relay: [], writers: [] });
  await pool.close();
}

/** Exactly BACKLOG rows wait, of 1,000 clients. */
async function fill(client: pg.Client): Promise<void> {
  await client.query("UPDATE spillway.event_buffer SET recorded = now() WHERE recorded IS NULL");
  await client.query(
    `INSERT INTO spillway.event_buffer (client_id, id, type, occurred_at, data)
     SELECT 'client-' || n % 1000, gen_random_uuid()::text, 'order.placed', now(),
            jsonb_build_object('order', n, 'currency', 'EUR', 'note', repeat('left at the door, please ring twice ', 4))
       FROM generate_series(1, $1::int) AS n`,
    [BACKLOG],
  );
  await client.query("VACUUM ANALYZE spillway.event_buffer");
}

/** @returns rows a second between the first and the last stamp */
async function drain(stack: BenchStack, client: pg.Client): Promise<number> {
  const { rows: begun } = await client.query<{ at: string }>("SELECT now()::text AS at");
  await stack.serve("apps/relay/main.ts");
  for (let waitedMs = 0; ; waitedMs += LOOK_MS) {
    const waiting = "SELECT 1 FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL LIMIT 1";
    if ((await client.query(waiting)).rowCount === 0) break;
    if (waitedMs > DRAIN_LIMIT_MS) throw new Error("the relay did not publish all rows in time");
    await delay(LOOK_MS);
  }
  const { rows } = await client.query<{ count: number; seconds: number }>(
    `SELECT count(*)::int AS count, extract(epoch FROM max(recorded) - min(recorded))::float8 AS seconds
       FROM spillway.event_buffer WHERE recorded > $1::timestamptz`,
    [begun[0]?.at],
  );
  return (rows[0]?.count ?? 0) / (rows[0]?.seconds ?? Number.NaN);
}

function report(
  writers: readonly WritersResult[],
  naive: number,
  drained: number,
  latencies: readonly LatencyResult[],
): Report {
  const costs = writers.flatMap(({ rates, ratios }, nth) =>
    (["within", "own", "nothing"] as const).map((kind) => ({
      kind,
      what: `writing transactions ${KINDS[kind]}, ${CONNECTIONS[nth]} at once`,
      rate: rates[kind],
      without: rates.without,
      ratio: median(ratios[kind]),
      ratios: ratios[kind],
    })),
  );
  return {
    title: "Relay: an application's event buffer on its way to the log",
    rows: [
      ...costs.map(({ what, rate, without, ratio, ratios }) => ({
        what,
        figure: `${whole(rate)} a second`,
        detail: `${whole(without)} without; times ${ratio.toFixed(2)} (${ratios.map((one) => one.toFixed(2)).join(", ")})`,
      })),
      { what: "relay", figure: `${whole(drained)} rows/s`, detail: `${whole(BACKLOG)} rows that waited` },
      { what: "naive loop", figure: `${whole(naive)} rows/s`, detail: "one publish and one UPDATE a row" },
      ...latencies.map((result, nth) => ({
        what: `commit → readable, ${whole(RATES[nth] ?? 0)} events/s`,
        figure: `p50 ${ms(result.p50Ms)}, p99 ${ms(result.p99Ms)}`,
        detail: `${whole(result.committedPerSecond)} committed a second, ${whole(result.samples)} looked for`,
      })),
    ],
    bars: [
      { what: "relay to the naive loop", value: drained / naive, least: 10, unit: "ratio" },
      { what: "commit → readable, p99 at 500/s", value: latencies[0]?.p99Ms ?? Number.NaN, most: 250, unit: "ms" },
      ...costs
        .filter(({ kind }) => kind !== "nothing")
        .map(({ what, ratio: value }) => ({
          what: `time of ${what}, to those without`,
          value,
          most: 1.15,
          unit: "ratio" as const,
        })),
    ],
    notes: [
      "A transaction reads, updates and inserts one row each, over a connection on loopback; emit as a statement of its own is one round trip more.",
      "Load, processes, broker and database share the cores.",
    ],
    raw: { writers, naive, drained, latencies },
  };
}
