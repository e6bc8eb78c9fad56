/**
 * How many database connections thousands of clients need: readers of one query node, most of them idle followers, and then
 * clients of PgBouncer itself, beside Spillway's roles, which all go through it. Its pool is the budget; what the server
 * has open is counted ten times a second.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { ms, whole } from "../../infra/figures.ts";
import { nativePgBouncer, type PgBouncer } from "../../infra/pgbouncer.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BenchStack } from "../stack.ts";
import { writeSvg } from "../svg.ts";
import type { CrowdOrder, CrowdResult } from "./load.ts";
import { type Counted, plot } from "./plot.ts";

const POOL_SIZE = 5;
const CONNECTIONS = 10_000;
const ACTIVE = 1_000;
/** One page a reader in so long: 200 a second. */
const EVERY_MS = 5_000;
const CLIENTS = 100;
const EVENTS_EACH = 200;
const LOOK_MS = 100;
/** So many frames a second as followers, 90 of each client: what one processor sends beside the pages. */
const POST_MS = 1_000;

/** @param seconds for which all are open. @param out folder for the plot */
export async function benchConnections(stack: BenchStack, seconds: number, out: string | undefined): Promise<Report> {
  const progress = createProgress(3);
  progress.step(`${whole(CLIENTS * EVENTS_EACH)} events, saved through PgBouncer`);
  const upstream = stack.databaseUrl ?? "";
  const dataDir = mkdtempSync(join(tmpdir(), "spillway-pgbouncer-"));
  const settings = { max_client_conn: String(CONNECTIONS + 100) };
  const pooler = await nativePgBouncer({ dataDir, upstream, poolSize: POOL_SIZE, settings });
  try {
    await pooler.start();
    const env = { DATABASE_URL: pooler.url };
    const ingest = await stack.serve("apps/ingest/main.ts");
    const [query] = await Promise.all([stack.serve("apps/query/main.ts", env), stack.serve("apps/sink/main.ts", env)]);
    for (let n = 0; n < EVENTS_EACH; n++) await post(ingest.url, n);
    await untilSaved(query.url);
    const crowd = { active: ACTIVE, idle: CONNECTIONS - ACTIVE, everyMs: EVERY_MS, seconds, clients: CLIENTS };
    progress.step(`${whole(CONNECTIONS)} readers of a query node`);
    const readers = await measured(stack, pooler, ingest.url, { ...crowd, kind: "readers", url: query.url });
    progress.step(`${whole(CONNECTIONS)} clients of PgBouncer`);
    const clients = await measured(stack, pooler, ingest.url, { ...crowd, kind: "database clients", url: pooler.url });
    progress.end();
    if (out !== undefined) await writeSvg(out, "connections.svg", plot([readers, clients]));
    return report(readers, clients, seconds);
  } finally {
    await pooler.remove();
  }
}

function report(readers: Counted, clients: Counted, seconds: number): Report {
  const rows = [readers, clients].flatMap(({ what, result, most }) => [
    { what, figure: `${whole(most.clients)} open`, detail: `held for ${seconds} s; ${result.lost} were cut` },
    { what: "  connections of PgBouncer's clients", figure: whole(most.pooled), detail: "Spillway's among them" },
    { what: "  connections of the server", figure: `at most ${whole(most.server)}`, detail: `budget ${POOL_SIZE}` },
    {
      what: `  questions of ${whole(ACTIVE)} of them`,
      figure: `p50 ${ms(result.p50Ms)}, p99 ${ms(result.p99Ms)}`,
      detail: `${whole(result.answers)} answered, ${result.failures} failed`,
    },
  ]);
  const bar = ({ what, most }: Counted) => ({
    what: `server connections of the budget, ${what}`,
    value: most.server / POOL_SIZE,
    most: 1,
    unit: "ratio" as const,
  });
  return {
    title: `Connections: ${whole(CONNECTIONS)} clients, PgBouncer in transaction mode with ${POOL_SIZE} server connections, ${whole(CLIENTS * (1_000 / POST_MS))} events/s meanwhile`,
    rows,
    bars: [bar(readers), bar(clients)],
    notes: ["Load, roles, PgBouncer, broker and database share the cores."],
    raw: { readers, clients },
  };
}

/** The crowd's work, and what is open meanwhile. */
async function measured(stack: BenchStack, pooler: PgBouncer, ingestUrl: string, order: CrowdOrder): Promise<Counted> {
  const server: { atMs: number; count: number }[] = [];
  const most = { clients: 0, pooled: 0, server: 0 };
  const own = new pg.Client({ connectionString: stack.databaseUrl });
  await own.connect();
  const over = new AbortController();
  const look = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const { rows } = await own.query<{ n: number }>(
        "SELECT count(*)::int AS n FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
      );
      const count = rows[0]?.n ?? 0;
      server.push({ atMs: performance.timeOrigin + performance.now(), count });
      most.server = Math.max(most.server, count);
      const lists = await pooler.admin<{ list: string; items: string | number }>("SHOW LISTS");
      most.pooled = Math.max(most.pooled, Number(lists.find(({ list }) => list === "used_clients")?.items ?? 0) - 1);
      await delay(LOOK_MS);
    }
  };
  const write = async (): Promise<void> => {
    for (let n = EVENTS_EACH; !over.signal.aborted; n++) {
      await post(ingestUrl, n);
      await delay(POST_MS);
    }
  };
  const beside = Promise.all([look(), write()]);
  try {
    const result = await stack.measure<CrowdResult>("bench/connections/load.ts", order);
    most.clients = Math.max(...result.open.map(({ count }) => count));
    return { what: order.kind, result, server, most };
  } finally {
    over.abort();
    await beside;
    await own.end();
  }
}

/** One event of each client. */
async function post(url: string, nth: number): Promise<void> {
  const events = Array.from({ length: CLIENTS }, (_, n) => ({
    clientId: `client-${n}`,
    type: "order.placed",
    data: { order: nth, note: "left at the door, please ring twice ".repeat(2) },
  }));
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${url}/api/v1/events`, { method: "POST", headers, body: JSON.stringify(events) });
  if (answer.status !== 201) throw new Error(`POST was answered ${answer.status}: ${await answer.text()}`);
}

async function untilSaved(url: string): Promise<void> {
  for (;;) {
    const { partitions } = (await (await fetch(`${url}/api/v1/lag`)).json()) as {
      partitions: readonly { lagRecords: number }[];
    };
    if (partitions.every(({ lagRecords }) => lagRecords === 0)) return;
    await delay(LOOK_MS);
  }
}
