/**
 * The others who use the database, in a process of their own: interactive reads and updates in an open loop, and loops that
 * disturb. Told by messages what to do; sends back every second what each request took.
 */
import pg from "pg";
import { CALM, type Disturbance, type Request } from "./disturbance.ts";

const READS_PER_SECOND = 150;
const UPDATES_PER_SECOND = 20;
/** More than these wait for a connection: the wait counts. */
const CONNECTIONS_MAX = 20;
const REPORT_MS = 1_000;

const STATEMENTS = {
  read: `SELECT id, type, data::text FROM spillway.event WHERE client_id = $1 ORDER BY log_epoch DESC, "offset" DESC LIMIT 100`,
  update: "UPDATE bench.account SET balance = balance + 1 WHERE id = $1",
} as const;

const LOOPS: Readonly<Record<keyof Disturbance, string>> = {
  aggregations: "SELECT kind, count(*), sum(amount), stddev(amount) FROM bench.fact GROUP BY kind",
  smallAggregations: "SELECT kind, count(*), sum(amount) FROM bench.fact WHERE id <= 20000 GROUP BY kind",
  updates: "UPDATE bench.account SET balance = balance + 1 WHERE id % 5 = (random() * 4)::int",
};

const [, , url = "", clients = "1"] = process.argv;
const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS_MAX, application_name: "bench-interactive" });
pool.on("error", () => undefined);
let done: Request[] = [];
let wanted = CALM;

function interactive(kind: Request["kind"], perSecond: number): void {
  // A Poisson process: the next one is due whether or not this one has been answered.
  const after = (before: number): void => {
    const due = before + (-Math.log(1 - Math.random()) / perSecond) * 1_000;
    const ask = (): void => {
      after(due);
      void request(kind, due);
    };
    setTimeout(ask, Math.max(0, due - performance.now()));
  };
  after(performance.now());
}

async function request(kind: Request["kind"], due: number): Promise<void> {
  const value =
    kind === "read" ? `client-${Math.floor(Math.random() * Number(clients))}` : Math.ceil(Math.random() * 10_000);
  await pool.query({ name: kind, text: STATEMENTS[kind], values: [value] }).catch(() => undefined);
  done.push({ kind, atMs: performance.timeOrigin + due, tookMs: performance.now() - due });
}

async function loop(kind: keyof Disturbance, index: number): Promise<void> {
  let client: pg.Client | undefined;
  for (;;) {
    if (index >= wanted[kind]) {
      await client?.end().catch(() => undefined);
      client = undefined;
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    try {
      if (client === undefined) {
        client = new pg.Client({ connectionString: url, application_name: `bench-${kind}` });
        client.on("error", () => undefined);
        await client.connect();
        await client.query("SET jit = off; SET max_parallel_workers_per_gather = 0");
      }
      await client.query(LOOPS[kind]);
    } catch {
      client = undefined;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

process.on("message", (message: Disturbance) => {
  wanted = message;
});
process.on("disconnect", () => process.exit(0));
setInterval(() => {
  process.send?.(done);
  done = [];
}, REPORT_MS);
interactive("read", READS_PER_SECOND);
interactive("update", UPDATES_PER_SECOND);
for (const kind of Object.keys(LOOPS) as (keyof Disturbance)[])
  for (let index = 0; index < 8; index++) void loop(kind, index);
