/** What does an event cost each part, from its POST until it is saved? The figures that sizing is reckoned from. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { whole } from "../infra/figures.ts";
import type { LoadOrder, LoadResult } from "./load.ts";
import { createProgress } from "./progress.ts";
import type { Report } from "./report.ts";
import type { BenchStack } from "./stack.ts";

type Load = Pick<LoadOrder, "connections" | "eventsPerBody" | "requestsPerSecond">;

const LOADS: readonly (Load & { readonly what: string })[] = [
  { what: "1,000 single events/s", connections: 64, eventsPerBody: 1, requestsPerSecond: 1_000 },
  { what: "2,000 single events/s", connections: 64, eventsPerBody: 1, requestsPerSecond: 2_000 },
  { what: "arrays of 100, 10,000 events/s", connections: 8, eventsPerBody: 100, requestsPerSecond: 100 },
  { what: "arrays of 500, as fast as they go", connections: 8, eventsPerBody: 500 },
];
const BODIES = 32;
const WARM_UP_S = 3;
const SAVED_LOOK_MS = 100;
/** Of the kernel's clock in /proc/PID/stat: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html */
const TICKS_PER_SECOND = 100;
const ROLES = ["ingest", "query", "sink"] as const;

/** Processor seconds so far, by part. */
type Spent = Readonly<Record<(typeof ROLES)[number] | "kafka" | "postgres", number>>;

interface Measured {
  readonly what: string;
  readonly events: number;
  readonly perSecond: number;
  /** µs of a processor for each event, by part. */
  readonly micros: Readonly<Record<string, number>>;
  readonly walBytes: number;
}

/** @param seconds of each load, after a warm-up; what it left unsaved is waited for, and counts */
export async function benchCosts(stack: BenchStack, seconds: number): Promise<Report> {
  const progress = createProgress(LOADS.length + 1);
  progress.step("starting ingest, query and sink");
  const urls: string[] = [];
  for (const role of ROLES) urls.push((await stack.serve(`apps/${role}/main.ts`)).url);
  const database = new pg.Client({ connectionString: stack.databaseUrl });
  await database.connect();
  const one = async (text: string): Promise<number> => {
    const { rows } = await database.query<{ n: string }>(text);
    return Number(rows[0]?.n);
  };
  const spent = async (): Promise<Spent> => {
    const [ingest = 0, query = 0, sink = 0] = await Promise.all(urls.map(processorSeconds));
    return { ingest, query, sink, kafka: spentBy(stack.kafka?.pid), postgres: spentBy(stack.postgres?.pid) };
  };
  const run = async (load: Load, forSeconds: number): Promise<number> => {
    const order: LoadOrder = { url: `${urls[0]}/api/v1/events`, seconds: forSeconds, bodies: BODIES, ...load };
    const { eventsPerSecond, failures } = await stack.measure<LoadResult>("bench/load.ts", order);
    if (failures > 0) throw new Error(`${failures} requests failed: costs an event would mean nothing`);
    await saved(urls[2] ?? "");
    return eventsPerSecond;
  };
  const measured: Measured[] = [];
  for (const { what, ...load } of LOADS) {
    progress.step(what);
    await run(load, WARM_UP_S);
    const [before, rowsBefore, walBefore] = [await spent(), await one(ROWS), await one(WAL)];
    const perSecond = await run(load, seconds);
    const [after, rowsAfter, walAfter] = [await spent(), await one(ROWS), await one(WAL)];
    const events = rowsAfter - rowsBefore;
    const parts = Object.keys(after) as (keyof Spent)[];
    const micros = Object.fromEntries(parts.map((part) => [part, ((after[part] - before[part]) * 1e6) / events]));
    measured.push({ what, events, perSecond, micros, walBytes: (walAfter - walBefore) / events });
  }
  const rowBytes = await one(
    "SELECT pg_total_relation_size('spillway.event') / (SELECT count(*) FROM spillway.event) AS n",
  );
  await database.end();
  progress.end();
  return {
    title: `Costs: processor time of an event by part, ${seconds} s each`,
    rows: measured.map(({ what, perSecond, micros, walBytes }) => ({
      what,
      figure: `${whole(perSecond)} events/s`,
      detail: `${Object.entries(micros)
        .map(([part, value]) => `${part} ${value.toFixed(1)}`)
        .join(", ")} µs an event; ${whole(walBytes)} bytes of WAL`,
    })),
    bars: [],
    notes: [
      `A row of the event table takes ${whole(rowBytes)} bytes with its indexes; docs/growth tells what it costs as the table grows.`,
      "The query node reads all events and has no reader. What each role does at rest is in its figure.",
    ],
    raw: { measured, rowBytes },
  };
}

const ROWS = "SELECT count(*) AS n FROM spillway.event";
const WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS n";

async function metric(url: string, name: string): Promise<number[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "gm"))].map(([, value]) => Number(value));
}

async function processorSeconds(url: string): Promise<number> {
  const [seconds = Number.NaN] = await metric(url, "process_cpu_seconds_total");
  return seconds;
}

async function saved(sinkUrl: string): Promise<void> {
  while ((await metric(sinkUrl, "spillway_sink_lag_records")).some((records) => records > 0))
    await delay(SAVED_LOOK_MS);
}

/** Of a server and its children, those that have ended included; NaN where that cannot be known. */
function spentBy(pid: number | undefined): number {
  if (pid === undefined) return Number.NaN;
  const stats = readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? (statOf(name) ?? []) : []));
  const own = stats.find((stat) => stat.pid === pid);
  const children = stats.filter(({ parent }) => parent === pid);
  return (
    ((own?.ticks ?? Number.NaN) + (own?.endedTicks ?? 0) + children.reduce((sum, { ticks }) => sum + ticks, 0)) /
    TICKS_PER_SECOND
  );
}

interface Stat {
  readonly pid: number;
  readonly parent: number;
  readonly ticks: number;
  /** Of children that have ended. */
  readonly endedTicks: number;
}

function statOf(pid: string): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name may hold anything; numbers begin behind its last parenthesis, with the third field.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const field = (number: number): number => Number(fields[number - 3]);
    return { pid: Number(pid), parent: field(4), ticks: field(14) + field(15), endedTicks: field(16) + field(17) };
  } catch {
    return undefined;
  }
}
