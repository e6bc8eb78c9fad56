/** One PostgreSQL, the others who use it, and a real writer with a backlog that never ends, driven by one controller after the other. */
import { type ChildProcess, fork } from "node:child_process";
import { constants, setPriority } from "node:os";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { systemClock as clock } from "#lib/clock.ts";
import { RecordDecoder } from "#lib/decode.ts";
import { createLog } from "#lib/log.ts";
import { createMetrics } from "#lib/metrics.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { beginCheckpoints } from "../../apps/sink/checkpoint.ts";
import { Circuit } from "../../apps/sink/circuit.ts";
import type { Controller, Sample } from "../../apps/sink/controller.ts";
import { Pace } from "../../apps/sink/pace.ts";
import { Writer } from "../../apps/sink/writer.ts";
import type { Disturbance, Request } from "./disturbance.ts";
import { Feed } from "./feed.ts";

const PARTITIONS = 12;
const CLIENTS = 10_000;
const DATA_BYTES = 220;
const FACTS = 500_000;
const ACCOUNTS = 10_000;
const TURN_MS_MAX = 3_600_000;

/** A batch as the controller saw it. */
interface Batch extends Sample {
  /** ms since 1970, when it was saved. */
  readonly endedAtMs: number;
  readonly unitsMax: number;
  readonly stretch: number;
  /** After it. */
  readonly restMs: number;
}

/** One setting's turn. */
export interface Turn {
  readonly setting: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly batches: readonly Batch[];
  /** Transactions that failed. */
  readonly failed: number;
}

export interface Arena {
  /** Everything that the interactive load asked so far. */
  readonly requests: readonly Request[];
  disturb(disturbance: Disturbance): void;
  /** Lets this controller save until `over` aborts; undefined: nobody saves. */
  turn(setting: string, controller: Controller | undefined, over: AbortSignal): Promise<Turn>;
  close(): Promise<void>;
}

/** @param sinkUrl the sink's way to the database, such as through a proxy */
export async function openArena(url: string, sinkUrl: string = url): Promise<Arena> {
  const log = createLog("bench", "error");
  const pool = new Pool({ url: sinkUrl, max: 1, name: "spillway-sink", connectTimeoutMs: 10_000, log, clock });
  await migrate(pool);
  await prepare(url);
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => partition);
  await beginCheckpoints(pool, 1, new Map(partitions.map((partition) => [partition, 0n])));
  const starts = async (wanted: readonly number[]): Promise<Map<number, bigint>> =>
    new Map(
      [...(await readCheckpoints(pool, 1, wanted))].map(([partition, { nextOffset }]) => [partition, nextOffset]),
    );
  const feed = new Feed(PARTITIONS, CLIENTS, DATA_BYTES, log);
  const requests: Request[] = [];
  const load = startLoad(url, requests);
  // A sink has a machine of its own; here its process shares the database's and the load's, and must not be what they wait for.
  setPriority(constants.priority.PRIORITY_LOW);
  return {
    requests,
    disturb: (disturbance) => void load.send(disturbance),
    turn: async (setting, controller, over) => {
      const fromMs = clock.now();
      const batches: Batch[] = [];
      const metrics = createMetrics();
      if (controller === undefined) await clock.sleep(TURN_MS_MAX, over);
      else {
        // What the last turn had in hand is not lost: it comes again from its checkpoint.
        for (const [partition, offset] of await starts(partitions)) feed.lanes.restart(partition, offset);
        const pace = new Pace(traced(controller, batches), { clock, log, metrics });
        const decoder = new RecordDecoder(PARTITIONS, () => Promise.resolve(undefined));
        const circuit = new Circuit();
        const urgency = (): number => 0;
        const parts = {
          pool,
          epoch: 1,
          urgency,
          decoder,
          lanes: feed.lanes,
          starts,
          pace,
          circuit,
          clock,
          log,
          contact: { tell: log.warn },
          metrics,
        };
        await new Writer({ ...parts, saved: () => undefined }).run(over);
      }
      const failures = (await metrics.sinkStoreErrors.get()).values.reduce((sum, { value }) => sum + value, 0);
      return { setting, fromMs, toMs: clock.now(), batches, failed: failures };
    },
    close: async () => {
      load.disconnect();
      await pool.close();
    },
  };
}

function traced(controller: Controller, batches: Batch[]): Controller {
  return {
    decide: (urgency) => controller.decide(urgency),
    observe: (sample) => {
      controller.observe(sample);
      batches.push({ ...sample, ...controller.decide(0), endedAtMs: clock.now() });
    },
  };
}

function startLoad(url: string, requests: Request[]): ChildProcess {
  const file = fileURLToPath(new URL("load.ts", import.meta.url));
  const load = fork(file, [url, String(CLIENTS)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  load.on("message", (some) => void requests.push(...(some as Request[])));
  return load;
}

/** What the others work on. */
async function prepare(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("CREATE SCHEMA IF NOT EXISTS bench");
    await client.query(`CREATE TABLE bench.fact AS SELECT id, id % 100 AS kind, random() * 1000 AS amount
                          FROM generate_series(1, ${FACTS}) AS id`);
    await client.query("CREATE INDEX ON bench.fact (id)");
    await client.query(
      `CREATE TABLE bench.account AS SELECT id, 0::bigint AS balance FROM generate_series(1, ${ACCOUNTS}) AS id`,
    );
    await client.query("ALTER TABLE bench.account ADD PRIMARY KEY (id)");
    await client.query("VACUUM ANALYZE bench.fact, bench.account");
  } finally {
    await client.end();
  }
}
