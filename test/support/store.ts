/** A migrated database of the test's own, and batches as the sink makes them. */
import { systemClock } from "#lib/clock.ts";
import { RecordDecoder } from "#lib/decode.ts";
import type { LogRecord } from "#lib/kafka/ports.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { type Batch, prepare } from "../../apps/sink/batch.ts";
import { beginCheckpoints } from "../../apps/sink/checkpoint.ts";
import { Lane } from "../../apps/sink/lane.ts";
import { type Way, type Written, write } from "../../apps/sink/write.ts";
import { type Database, freshDatabase } from "./postgres.ts";
import { fetched, silentLog } from "./records.ts";

export const EPOCH = 1;

export const openPool = (url: string, max = 1, name = "spillway-test"): Pool =>
  new Pool({ url, max, name, connectTimeoutMs: 5_000, log: silentLog, clock: systemClock });

export interface Store extends AsyncDisposable {
  readonly database: Database;
  readonly pool: Pool;
  /** Rows of `spillway.event` as `offset id`, by offset. */
  rows(): Promise<string[]>;
  /** Dead letters as `offset reason`, by offset. */
  dead(): Promise<string[]>;
  /** `partition:next_offset`, by partition. */
  checkpoints(): Promise<string[]>;
  write(batch: Batch, way?: Way): Promise<Written>;
}

/** Migrated, with checkpoints at 0 of `partitions` partitions. */
export async function freshStore(partitions = 2): Promise<Store> {
  const database = await freshDatabase();
  const pool = openPool(database.url);
  await migrate(pool);
  await beginCheckpoints(pool, EPOCH, new Map(Array.from({ length: partitions }, (_, partition) => [partition, 0n])));
  const texts = async (sql: string): Promise<string[]> => (await database.query<{ t: string }>(sql)).map(({ t }) => t);
  return {
    database,
    pool,
    rows: () => texts(`SELECT "offset" || ' ' || id AS t FROM spillway.event ORDER BY "offset", client_id`),
    dead: () => texts(`SELECT "offset" || ' ' || reason AS t FROM spillway.dead_letter ORDER BY "offset"`),
    checkpoints: () => texts("SELECT partition || ':' || next_offset AS t FROM spillway.checkpoint ORDER BY partition"),
    write: (batch, way = "copy") => write(pool, EPOCH, batch, way, systemClock),
    [Symbol.asyncDispose]: async () => {
      await pool.close();
      await database.drop();
    },
  };
}

/** A batch of each partition's records, taken by lanes whose checkpoint is `from` (default: the first record's offset). */
export async function batchOf(
  partitions: number,
  records: Readonly<Record<number, readonly LogRecord[]>>,
  from?: bigint,
): Promise<Batch> {
  const taken = Object.entries(records).map(([partition, some]) => {
    const lane = new Lane(Number(partition));
    const start = from ?? some[0]?.offset ?? 0n;
    lane.start(start);
    lane.push(fetched(Number(partition), some, undefined, start));
    return lane.take(1e9);
  });
  return prepare(EPOCH, taken, new RecordDecoder(partitions, () => Promise.resolve(undefined)), systemClock);
}
