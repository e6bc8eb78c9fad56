/**
 * The load that started it all: 2,000 events a second and a read a second for many clients, on a database 30 ms away that has 20
 * connections; halfway the process that takes the events is killed and started again. Designs take turns.
 */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { ms, whole } from "../../infra/figures.ts";
import { nativePgBouncer } from "../../infra/pgbouncer.ts";
import { freePorts } from "../../infra/ports.ts";
import { proxiedPostgres } from "../../infra/proxy.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BenchStack, Served } from "../stack.ts";
import type { OverloadOrder, OverloadResult } from "./load.ts";
import { writePlot } from "./plot.ts";

const AWAY_MS = 30;
const EVENTS_PER_SECOND = 2_000;
/** As many clients ask once a second. */
const READS_PER_SECOND = 100;
/** Of the 20: 3 are kept for superusers, 1 stays for a person. */
const POOL = 16;
/** Behind a pooler connections are cheap: enough that a request hardly waits for one of these. */
const CLIENT_POOL = 200;
const SAMPLE_MS = 1_000;
const PAGE_BYTES = 4_096;
const MIB = 1024 * 1024;

/** One second of the processes and the database. */
interface Sample {
  readonly second: number;
  readonly connections: number;
  readonly memoryMiB: number;
}

export interface Told {
  readonly design: string;
  readonly samples: readonly Sample[];
  readonly load: OverloadResult;
}

/** Its processes, of which the first takes the events. */
interface Running {
  readonly readUrl: string;
  readonly table: string;
  readonly others: readonly Served[];
  /** Starts what takes the events, on this port. */
  takes(port: string): Promise<Served>;
}

interface Design {
  readonly what: string;
  start(far: string): Promise<Running>;
  end?(): Promise<void>;
}

export async function benchOverload(stack: BenchStack, seconds: number, out: string | undefined): Promise<Report> {
  const designs = designsOf(stack);
  const progress = createProgress(designs.length);
  const told: Told[] = [];
  for (const design of designs) {
    progress.step(design.what);
    told.push(await measure(stack, design, seconds));
  }
  progress.end();
  const files = out === undefined ? [] : await writePlot(out, told);
  return {
    title: `Overload: ${whole(EVENTS_PER_SECOND)} single events/s and ${READS_PER_SECOND} reads/s for ${seconds} s, database ${AWAY_MS} ms away, of 20 connections`,
    rows: told.flatMap(rowsOf),
    bars: [],
    notes: [
      `Halfway what takes events is killed (SIGKILL) and started again. Pools of ${POOL}; behind a pooler of ${POOL}, ${CLIENT_POOL}.`,
      "Nobody sends again what was refused. Load, processes, broker, pooler and database share the cores.",
      ...files,
    ],
    raw: told,
  };
}

function designsOf(stack: BenchStack): Design[] {
  const direct = (env: Readonly<Record<string, string>>): Running => {
    const takes = (port: string): Promise<Served> => stack.serve("bench/overload/direct.ts", { ...env, PORT: port });
    return { readUrl: "", table: "plain_event", others: [], takes };
  };
  const pooled = (what: string, near: boolean): Design => {
    let remove = (): Promise<void> => Promise.resolve();
    return {
      what,
      start: async (far) => {
        const pooler = await nativePgBouncer({
          dataDir: stack.folder("pooler"),
          upstream: near ? far : (stack.databaseUrl ?? ""),
          poolSize: POOL,
        });
        await pooler.start();
        const through = near ? undefined : await away(pooler.url);
        remove = async () => {
          await through?.proxy.close();
          await pooler.remove();
        };
        return direct({ DATABASE_URL: through?.url ?? pooler.url, PLAIN_POOL: String(CLIENT_POOL) });
      },
      end: () => remove(),
    };
  };
  return [
    {
      what: "INSERT a request, pool",
      start: async (far) => direct({ DATABASE_URL: far, PLAIN_POOL: String(POOL) }),
    },
    pooled("the same, PgBouncer beside the application", true),
    pooled("the same, PgBouncer beside the database", false),
    {
      what: "queue in the process, flushed in batches",
      start: async (far) => direct({ DATABASE_URL: far, PLAIN_POOL: String(POOL), PLAIN_QUEUE: "yes" }),
    },
    {
      what: "Spillway",
      start: async (far) => {
        const sink = await stack.serve("apps/sink/main.ts", { DATABASE_URL: far });
        const query = await stack.serve("apps/query/main.ts", { DATABASE_URL: far });
        const takes = (port: string): Promise<Served> => stack.serve("apps/ingest/main.ts", { PORT: port });
        return { readUrl: query.url, table: "spillway.event", others: [sink, query], takes };
      },
    },
  ];
}

async function away(url: string): ReturnType<typeof proxiedPostgres> {
  const through = await proxiedPostgres(url);
  through.proxy.delayMs = AWAY_MS / 2;
  return through;
}

async function measure(stack: BenchStack, design: Design, seconds: number): Promise<Told> {
  const { databaseUrl = "" } = stack;
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  await database.query(TABLE);
  const { proxy, url: far } = await away(databaseUrl);
  const running = await design.start(far);
  const [port = 0] = await freePorts(1);
  let takes = await running.takes(String(port));
  const order: OverloadOrder = {
    postUrl: takes.url,
    readUrl: running.readUrl || takes.url,
    databaseUrl,
    table: running.table,
    eventsPerSecond: EVENTS_PER_SECOND,
    readsPerSecond: READS_PER_SECOND,
    seconds,
  };
  const samples: Sample[] = [];
  const sampling = setInterval(() => {
    const second = samples.length;
    const memoryMiB = [takes, ...running.others].reduce((sum, { pid }) => sum + residentMiB(pid), 0);
    void database.query<{ n: number }>(CONNECTIONS).then(({ rows }) => {
      samples.push({ second, memoryMiB, connections: rows[0]?.n ?? 0 });
    });
  }, SAMPLE_MS);
  const loading = stack.measure<OverloadResult>("bench/overload/load.ts", order);
  await delay((seconds * 1_000) / 2);
  await takes.kill();
  takes = await running.takes(String(port));
  const load = await loading;
  clearInterval(sampling);
  for (const served of [takes, ...running.others]) await served.stop();
  await design.end?.();
  await proxy.close();
  await database.end();
  return { design: design.what, samples: samples.slice(0, seconds), load };
}

const TABLE = `
  CREATE TABLE IF NOT EXISTS plain_event (seq bigserial, id text PRIMARY KEY, client_id text NOT NULL, type text NOT NULL,
    data jsonb NOT NULL, received_at timestamptz NOT NULL DEFAULT now());
  CREATE INDEX IF NOT EXISTS plain_event_client ON plain_event (client_id, seq);
  TRUNCATE plain_event`;
const CONNECTIONS =
  "SELECT count(*)::int AS n FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/** Field 2 of https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html; 0 for one that has ended. */
function residentMiB(pid: number): number {
  try {
    const [, pages] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ");
    return (Number(pages) * PAGE_BYTES) / MIB;
  } catch {
    return 0;
  }
}

function rowsOf({ design, samples, load }: Told): Report["rows"] {
  const { sent, acknowledged, p50Ms, p99Ms, lost, reads, unreadable, seconds } = load;
  const most = (of: (sample: Sample) => number): number => Math.max(...samples.map(of));
  const readsAll = reads.answered + reads.failed;
  const inTime = seconds.reduce((sum, second) => sum + second.acknowledged, 0);
  return [
    {
      what: design,
      figure: `${whole(inTime / seconds.length)} acknowledged/s`,
      detail:
        `${(100 * (1 - acknowledged / sent)).toFixed(1)} % refused; p50 ${ms(p50Ms)}, p99 ${ms(p99Ms)}; ` +
        `${whole(lost)} lost; ${most(({ connections }) => connections)} connections, ${whole(most(({ memoryMiB }) => memoryMiB))} MiB at most`,
    },
    {
      what: "  its reads",
      figure: `${whole(reads.answered / seconds.length)} answered/s`,
      detail:
        `${(100 * (reads.failed / readsAll)).toFixed(1)} % failed; p50 ${ms(reads.p50Ms)}, p99 ${ms(reads.p99Ms)}; ` +
        `${whole(unreadable)} without an event that was acknowledged before`,
    },
  ];
}
