/** The layouts of the table of events that are compared, and what is asked of each. */
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { systemClock as clock } from "#lib/clock.ts";
import { createLog } from "#lib/log.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Pool } from "#lib/postgres/pool.ts";

const HASH_PARTITIONS = 16;
const COLUMNS = 'client_id, log_epoch, "offset", id, type, occurred_at, received_at, data';
/** Linux shows processor time in these, on every machine: USER_HZ. */
const TICK_US = 10_000;

/** `schema` holds the layout's table `event`, and nothing else of that name. */
export interface Layout {
  readonly name: "plain" | "hash";
  readonly schema: string;
}

export const PLAIN: Layout = { name: "plain", schema: "spillway" };
export const HASH: Layout = { name: "hash", schema: "hashed" };

export interface Sizes {
  readonly tableBytes: number;
  readonly primaryKeyBytes: number;
  readonly identityBytes: number;
}

/** The tables as the sink has them, and the same ones divided. */
export async function createLayouts(url: string, client: pg.Client): Promise<void> {
  const log = createLog("bench", "error");
  const pool = new Pool({ url, max: 1, name: "bench-growth", connectTimeoutMs: 10_000, log, clock });
  await migrate(pool);
  await pool.close();
  await client.query("CREATE SCHEMA hashed");
  await client.query("CREATE TABLE hashed.event (LIKE spillway.event INCLUDING ALL) PARTITION BY HASH (client_id)");
  for (let n = 0; n < HASH_PARTITIONS; n++)
    await client.query(
      `CREATE TABLE hashed.event_${n} PARTITION OF hashed.event FOR VALUES WITH (MODULUS ${HASH_PARTITIONS}, REMAINDER ${n})`,
    );
}

/** One transaction. */
export const save = (client: pg.Client, { schema }: Layout, lines: Buffer): Promise<void> =>
  pipeline(Readable.from([lines]), client.query(copyFrom(`COPY ${schema}.event (${COLUMNS}) FROM STDIN`)));

/** A client's latest rows, as a page wants them. @returns what it took, in ms */
export async function read(client: pg.Client, { schema }: Layout, clientId: string): Promise<number> {
  const begin = performance.now();
  const sql = `SELECT ${COLUMNS} FROM ${schema}.event WHERE client_id = $1 ORDER BY log_epoch DESC, "offset" DESC LIMIT 100`;
  await client.query(sql, [clientId]);
  return performance.now() - begin;
}

/** Bytes of WAL written so far. */
export async function walBytes(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ bytes: number }>("SELECT (pg_current_wal_lsn() - '0/0')::float8 AS bytes");
  return rows[0]?.bytes ?? Number.NaN;
}

/**
 * @returns reads the processor time that the client's backend has used so far, in µs
 * @throws Error unless that backend runs on this machine, under Linux
 */
export async function backendTime(client: pg.Client): Promise<() => number> {
  const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  const file = `/proc/${rows[0]?.pid}/stat`;
  const read = (): number => {
    // After the name in brackets, which may hold anything: the 14th and 15th field are utime and stime.
    const [user, system] = (readFileSync(file, "utf8").split(") ").at(-1) ?? "").split(" ").slice(11, 13);
    return (Number(user) + Number(system)) * TICK_US;
  };
  try {
    if (readFileSync(file, "utf8").includes("(postgres)")) return read;
  } catch {
    // Told below.
  }
  throw new Error(
    `${file} is no PostgreSQL's: growth reads its processor time there, so it wants Linux and a PostgreSQL on this machine`,
  );
}

/** Of all parts of the table. */
export async function sizes(client: pg.Client, { schema }: Layout): Promise<Sizes> {
  const { rows } = await client.query<Sizes>(
    `SELECT sum(pg_table_size(t.oid))::float8 AS "tableBytes",
            sum((SELECT pg_relation_size(indexrelid) FROM pg_index WHERE indrelid = t.oid AND indisprimary))::float8 AS "primaryKeyBytes",
            sum((SELECT pg_relation_size(indexrelid) FROM pg_index WHERE indrelid = t.oid AND NOT indisprimary))::float8 AS "identityBytes"
       FROM pg_class t WHERE t.relnamespace = $1::regnamespace AND t.relname ~ '^event' AND t.relkind = 'r'`,
    [schema],
  );
  return rows[0] ?? { tableBytes: Number.NaN, primaryKeyBytes: Number.NaN, identityBytes: Number.NaN };
}
