/**
 * Sends single events at a steady rate, whatever becomes of them, and reads many clients' newest; then looks which of the
 * acknowledged ones the database holds. A process of its own; prints one JSON line.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { quantile } from "../../infra/figures.ts";
import { Client } from "../client.ts";
import { type BenchEvent, benchEvents } from "../events.ts";

export interface PlainEvent extends BenchEvent {
  readonly id: string;
}

export interface OverloadOrder {
  readonly postUrl: string;
  readonly readUrl: string;
  /** Not through what makes it far. */
  readonly databaseUrl: string;
  /** With the columns id and client_id. */
  readonly table: string;
  readonly eventsPerSecond: number;
  readonly readsPerSecond: number;
  readonly seconds: number;
}

/** One second of it. */
interface Second {
  readonly second: number;
  readonly acknowledged: number;
  readonly errors: number;
  /** From when it was due until its acknowledgement, of those acknowledged in that second; null without one. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

export interface OverloadResult {
  readonly seconds: readonly Second[];
  readonly sent: number;
  readonly acknowledged: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Acknowledged, and not in the database in the end. */
  readonly lost: number;
  readonly reads: {
    readonly answered: number;
    readonly failed: number;
    readonly p50Ms: number;
    readonly p99Ms: number;
  };
  /** Answered reads that did not show an event of theirs that had been acknowledged before. */
  readonly unreadable: number;
  /** What went wrong, by what it was. */
  readonly failures: Readonly<Record<string, number>>;
}

const order = JSON.parse(process.argv[2] ?? "null") as OverloadOrder;

const TICK_MS = 5;
const CONNECTIONS = 500;
/** Of requests on their way: what comes on top waits in nobody's memory, and is an error. */
const IN_FLIGHT_MAX = 20_000;
const READS_AT_ONCE_MAX = 500;
const PAGE_EVENTS = 50;
const SETTLED_MS = 5_000;
const SETTLE_LIMIT_MS = 300_000;

const producer = new Client(order.postUrl, CONNECTIONS);
const reader = new Client(order.readUrl, READS_AT_ONCE_MAX);
const failures: Record<string, number> = {};
const acknowledged: { readonly id: string; readonly atMs: number; readonly tookMs: number }[] = [];
const errors: number[] = [];
const readMs: number[] = [];
/** The newest event of each client that was acknowledged. */
const newest = new Map<string, string>();
const counts = { inFlight: 0, reads: 0, readsFailed: 0, unreadable: 0 };
const begun = performance.now();

function failed(what: string): void {
  failures[what] = (failures[what] ?? 0) + 1;
}

async function post(n: number, dueMs: number): Promise<void> {
  const [made] = benchEvents(n, 1);
  if (made === undefined) return;
  const event: PlainEvent = { id: `e${n}`, ...made };
  if (counts.inFlight >= IN_FLIGHT_MAX) {
    failed("POST not sent: too many on their way");
    errors.push(dueMs);
    return;
  }
  counts.inFlight += 1;
  try {
    const { status } = await producer.once("/api/v1/events", JSON.stringify(event));
    if (status !== 201) throw new Error(`answered ${status}`);
    const atMs = performance.now() - begun;
    acknowledged.push({ id: event.id, atMs, tookMs: atMs - dueMs });
    newest.set(event.clientId, event.id);
  } catch (error) {
    failed(`POST ${(error as Error).message}`);
    errors.push(performance.now() - begun);
  } finally {
    counts.inFlight -= 1;
  }
}

async function read(clientId: string): Promise<void> {
  const expected = newest.get(clientId);
  if (counts.reads >= READS_AT_ONCE_MAX) {
    failed("GET not sent: too many on their way");
    counts.readsFailed += 1;
    return;
  }
  counts.reads += 1;
  const beganMs = performance.now();
  try {
    const parameters = new URLSearchParams({ clientId, order: "desc", limit: String(PAGE_EVENTS) });
    const { status, text } = await reader.once(`/api/v1/events?${parameters}`);
    if (status !== 200) throw new Error(`answered ${status}`);
    readMs.push(performance.now() - beganMs);
    if (expected !== undefined && !text.includes(`"${expected}"`)) counts.unreadable += 1;
  } catch (error) {
    failed(`GET ${(error as Error).message}`);
    counts.readsFailed += 1;
  } finally {
    counts.reads -= 1;
  }
}

/** What is queued somewhere is waited for, as long as rows come. */
async function stored(): Promise<Set<string>> {
  const database = new pg.Client({ connectionString: order.databaseUrl });
  await database.connect();
  let count = -1;
  for (let quietMs = 0, waitedMs = 0; quietMs < SETTLED_MS && waitedMs < SETTLE_LIMIT_MS; waitedMs += 500) {
    const { rows } = await database.query<{ n: string }>(`SELECT count(*) AS n FROM ${order.table}`);
    quietMs = Number(rows[0]?.n) === count ? quietMs + 500 : 0;
    count = Number(rows[0]?.n);
    await delay(500);
  }
  const { rows } = await database.query<{ id: string }>(`SELECT id FROM ${order.table}`);
  await database.end();
  return new Set(rows.map(({ id }) => id));
}

function secondOf(second: number): Second {
  const within = (ms: number): boolean => ms >= second * 1_000 && ms < (second + 1) * 1_000;
  const times = acknowledged.filter(({ atMs }) => within(atMs)).map(({ tookMs }) => tookMs);
  return {
    second,
    acknowledged: times.length,
    errors: errors.filter(within).length,
    p50Ms: times.length > 0 ? quantile(times, 0.5) : null,
    p99Ms: times.length > 0 ? quantile(times, 0.99) : null,
  };
}

let sent = 0;
let asked = 0;
const clientIds = [...new Set(benchEvents(0, 1_000).map(({ clientId }) => clientId))];
for (let nowMs = 0; nowMs < order.seconds * 1_000; nowMs = performance.now() - begun) {
  for (; sent < (nowMs / 1_000) * order.eventsPerSecond; sent++)
    void post(sent, (sent / order.eventsPerSecond) * 1_000);
  for (; asked < (nowMs / 1_000) * order.readsPerSecond; asked++)
    void read(clientIds[(asked * 7) % clientIds.length] ?? "");
  await delay(TICK_MS);
}
while (counts.inFlight + counts.reads > 0) await delay(TICK_MS);
const held = await stored();
const took = acknowledged.map(({ tookMs }) => tookMs);
const result: OverloadResult = {
  seconds: Array.from({ length: order.seconds }, (_, second) => secondOf(second)),
  sent,
  acknowledged: acknowledged.length,
  p50Ms: quantile(took, 0.5),
  p99Ms: quantile(took, 0.99),
  lost: acknowledged.filter(({ id }) => !held.has(id)).length,
  reads: {
    answered: readMs.length,
    failed: counts.readsFailed,
    p50Ms: quantile(readMs, 0.5),
    p99Ms: quantile(readMs, 0.99),
  },
  unreadable: counts.unreadable,
  failures,
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
