/**
 * What others do instead of the sink, on the same tables: COPY in a loop on one connection with rows printed beforehand, or
 * one INSERT for each event through a pool. A process of its own; prints one JSON line.
 */
import pg from "pg";
import { systemClock as clock } from "#lib/clock.ts";
import { timeText } from "#lib/event.ts";
import { createLog } from "#lib/log.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { numbered } from "./rows.ts";

export interface PlainOrder {
  readonly url: string;
  readonly way: "copy" | "insert";
  readonly events: number;
  readonly clients: number;
  /** Rows of a transaction; the connections of the pool. */
  readonly batch: number;
}

export interface PlainResult {
  readonly rowsPerSecond: number;
}

const COLUMNS = '(client_id, log_epoch, "offset", id, type, occurred_at, received_at, data)';
const LIMITS = { lockTimeoutMs: 1_000, statementTimeoutMs: 30_000, idleTimeoutMs: 10_000 };

const { url, way, events, clients, batch } = JSON.parse(process.argv[2] ?? "null") as PlainOrder;

const values = (n: number): unknown[] => {
  const { clientId, id, type, occurredAtMs, receivedAtMs, data } = numbered(n, clients);
  return [clientId, 1, n, id, type, timeText(occurredAtMs), timeText(receivedAtMs), data];
};

async function copy(): Promise<number> {
  const parts: Buffer[] = [];
  for (let from = 0; from < events; from += batch)
    parts.push(
      Buffer.from(
        Array.from({ length: Math.min(batch, events - from) }, (_, at) => `${values(from + at).join("\t")}\n`).join(""),
      ),
    );
  const log = createLog("bench", "error");
  const pool = new Pool({ url, max: 1, name: "bench-copy", connectTimeoutMs: 5_000, log, clock });
  await pool.query("SELECT 1", [], 5_000);
  const begin = performance.now();
  for (const part of parts)
    await pool.transaction(LIMITS, (transaction) =>
      transaction.copy(`COPY spillway.event ${COLUMNS} FROM STDIN`, part),
    );
  const tookMs = performance.now() - begin;
  await pool.close();
  return tookMs;
}

async function insert(): Promise<number> {
  const pool = new pg.Pool({ connectionString: url, max: batch });
  const text = `INSERT INTO spillway.event ${COLUMNS} VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (client_id, id) DO NOTHING`;
  let next = 0;
  const begin = performance.now();
  const work = async (): Promise<void> => {
    while (next < events) await pool.query({ name: "insert", text, values: values(next++) });
  };
  await Promise.all(Array.from({ length: batch }, work));
  const tookMs = performance.now() - begin;
  await pool.end();
  return tookMs;
}

const tookMs = await (way === "copy" ? copy() : insert());
const printed: PlainResult = { rowsPerSecond: events / (tookMs / 1_000) };
process.stdout.write(`${JSON.stringify(printed)}\n`);
process.exit(0);
