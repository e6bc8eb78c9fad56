/**
 * From a transaction's commit until a read shows its event: transactions at a steady rate, whatever becomes of them, and samples
 * looked for by reading. A process of its own, so that one clock measures both; prints one JSON line.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { quantile } from "../../infra/figures.ts";
import { Client } from "../client.ts";

export interface LatencyOrder {
  readonly databaseUrl: string;
  readonly queryUrl: string;
  readonly eventsPerSecond: number;
  readonly seconds: number;
}

export interface LatencyResult {
  readonly committedPerSecond: number;
  readonly samples: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const CONNECTIONS = 8;
const CLIENTS = 500;
const TICK_MS = 5;
const IN_FLIGHT_MAX = 500;
const WARM_UP_MS = 3_000;
const READS_AT_ONCE_MAX = 8;
/** Between two looks for the same event. */
const LOOK_MS = 3;

const order = JSON.parse(process.argv[2] ?? "null") as LatencyOrder;
const pool = new pg.Pool({ connectionString: order.databaseUrl, max: CONNECTIONS });
const query = new Client(order.queryUrl, READS_AT_ONCE_MAX);
const sampleEvery = Math.ceil(order.eventsPerSecond / 50);
const times: number[] = [];
const reading = new Set<Promise<void>>();
let [committed, inFlight, measuring] = [0, 0, false];

async function write(n: number): Promise<void> {
  inFlight++;
  try {
    const clientId = `relayed-${n % CLIENTS}`;
    const values = [clientId, "order.placed", JSON.stringify({ n, note: "left at the door, please ring twice" })];
    const text = "SELECT spillway.emit($1, $2, $3::jsonb) AS id";
    const { rows } = await pool.query<{ id: string }>({ name: "emit", text, values });
    const at = performance.now();
    if (!measuring) return;
    committed++;
    if (n % sampleEvery !== 0 || reading.size >= READS_AT_ONCE_MAX) return;
    const read = look(clientId, rows[0]?.id ?? "", at).finally(() => reading.delete(read));
    reading.add(read);
  } finally {
    inFlight--;
  }
}

async function look(clientId: string, id: string, committedAt: number): Promise<void> {
  const parameters = new URLSearchParams({ clientId, order: "desc", limit: "20" });
  for (;;) {
    const { text } = await query.once(`/api/v1/events?${parameters}`);
    if (text.includes(`"${id}"`)) break;
    await delay(LOOK_MS);
  }
  times.push(performance.now() - committedAt);
}

const begin = performance.now();
const end = begin + WARM_UP_MS + order.seconds * 1_000;
for (let n = 0, now = begin; now < end; now = performance.now()) {
  measuring = now - begin > WARM_UP_MS;
  const due = Math.floor(((now - begin) / 1_000) * order.eventsPerSecond);
  for (; n < due && inFlight < IN_FLIGHT_MAX; n++) void write(n);
  await delay(TICK_MS);
}
await Promise.all(reading);
while (inFlight > 0) await delay(TICK_MS);
await pool.end();
const printed: LatencyResult = {
  committedPerSecond: committed / order.seconds,
  samples: times.length,
  p50Ms: quantile(times, 0.5),
  p99Ms: quantile(times, 0.99),
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
process.exit(0);
