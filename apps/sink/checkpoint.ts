/** SQL of the checkpoint: begin, move by compare-and-set, mark. */
import { recordHash } from "#lib/continuity.ts";
import type { Pool, Transaction } from "#lib/postgres/pool.ts";
import type { Taken } from "./lane.ts";
import { CLOCKS_APART_MS_MAX } from "./retention.ts";

const QUERY_TIMEOUT_MS = 10_000;

/** Begins partitions that have no checkpoint yet; whoever comes second changes nothing. @throws what the database gives */
export async function beginCheckpoints(pool: Pool, epoch: number, starts: ReadonlyMap<number, bigint>): Promise<void> {
  await pool.query(
    `INSERT INTO spillway.checkpoint (log_epoch, partition, next_offset)
     SELECT $1, * FROM unnest($2::int[], $3::bigint[]) ON CONFLICT DO NOTHING`,
    [epoch, [...starts.keys()], [...starts.values()].map(String)],
    QUERY_TIMEOUT_MS,
  );
}

/** The epochs that have any. @throws what the database gives */
export async function begunEpochs(pool: Pool): Promise<readonly number[]> {
  const rows = await pool.query<{ epoch: number }>(
    "SELECT DISTINCT log_epoch::int AS epoch FROM spillway.checkpoint",
    [],
    QUERY_TIMEOUT_MS,
  );
  return rows.map(({ epoch }) => epoch);
}

/**
 * Begins the checkpoints of the log that succeeds this epoch's, if that is saved up to its ends: in one statement, so that a
 * checkpoint of the one proves that all of the other is saved, in whatever state of the database it is found.
 * @param ends of the closed log, by partition
 * @param starts of its successor, by partition
 * @returns whether they are begun, by whomever
 * @throws what the database gives
 */
export async function beginSuccessor(
  pool: Pool,
  epoch: number,
  ends: ReadonlyMap<number, bigint>,
  starts: ReadonlyMap<number, bigint>,
): Promise<boolean> {
  const [row] = await pool.query<{ begun: boolean }>(
    `WITH saved AS (
       SELECT count(*) = cardinality($2::int[]) AS whole
         FROM unnest($2::int[], $3::bigint[]) AS e(partition, ends)
         JOIN spillway.checkpoint c ON c.log_epoch = $1 AND c.partition = e.partition AND c.next_offset >= e.ends
     ), begun AS (
       INSERT INTO spillway.checkpoint (log_epoch, partition, next_offset)
       SELECT $1 + 1, s.* FROM unnest($4::int[], $5::bigint[]) AS s, saved WHERE whole ON CONFLICT DO NOTHING
     )
     SELECT whole OR EXISTS (SELECT FROM spillway.checkpoint WHERE log_epoch = $1 + 1) AS begun FROM saved`,
    [epoch, [...ends.keys()], [...ends.values()].map(String), [...starts.keys()], [...starts.values()].map(String)],
    QUERY_TIMEOUT_MS,
  );
  return row?.begun === true;
}

/**
 * Moves the checkpoints of all partitions that still stand where `expected` says; the first statement of the batch's
 * transaction, and the fence against an owner that was frozen and woke. Rows are locked in partition order, so that two
 * owners of the same partitions cannot deadlock.
 * @returns the partitions that did not stand there
 */
export async function moveCheckpoints(
  transaction: Transaction,
  epoch: number,
  taken: readonly Taken[],
): Promise<number[]> {
  const last = taken.map(({ records }) => records.at(-1));
  const moved = await transaction.query<{ partition: number }>(
    `WITH wanted AS (
       SELECT * FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
                  AS w(partition, expected, next_offset, last_offset, last_hash)
     ), held AS (
       SELECT c.partition FROM spillway.checkpoint c JOIN wanted w USING (partition)
        WHERE c.log_epoch = $1 AND c.next_offset = w.expected
        ORDER BY c.partition FOR UPDATE OF c
     )
     UPDATE spillway.checkpoint c
        SET next_offset = w.next_offset,
            last_offset = coalesce(w.last_offset, c.last_offset),
            last_hash = coalesce(decode(w.last_hash, 'hex'), c.last_hash)
       FROM wanted w JOIN held USING (partition)
      WHERE c.log_epoch = $1 AND c.partition = w.partition
     RETURNING c.partition`,
    [
      epoch,
      taken.map(({ lane }) => lane.partition),
      taken.map(({ expected }) => expected.toString()),
      taken.map(({ nextOffset }) => nextOffset.toString()),
      last.map((record) => record?.offset.toString() ?? null),
      last.map((record) => (record ? recordHash(record).toString("hex") : null)),
    ],
  );
  const partitions = new Set(moved.map(({ partition }) => partition));
  return taken.map(({ lane }) => lane.partition).filter((partition) => !partitions.has(partition));
}

/**
 * Marks where the checkpoints of these partitions stand now, by the database's clock, and forgets their marks that are older
 * than three days. While the process' clock does not agree with it, none is kept: the marks of a clock that goes hours too
 * late would, once it is set right, tell of what was saved just now that it was saved hours ago.
 */
export async function markCheckpoints(
  pool: Pool,
  epoch: number,
  partitions: readonly number[],
  nowMs: number,
): Promise<void> {
  await pool.query(
    `WITH clock AS (
       SELECT abs(extract(epoch FROM now()) * 1000 - $3::float8) <= $4::float8 AS agrees
     ), gone AS (
       DELETE FROM spillway.checkpoint_mark USING clock
        WHERE log_epoch = $1 AND partition = ANY ($2::int[]) AND (NOT agrees OR marked_at < now() - interval '3 days')
     )
     INSERT INTO spillway.checkpoint_mark (log_epoch, partition, next_offset)
     SELECT log_epoch, partition, next_offset FROM spillway.checkpoint, clock
      WHERE log_epoch = $1 AND partition = ANY ($2::int[]) AND agrees ON CONFLICT DO NOTHING`,
    [epoch, partitions, nowMs, CLOCKS_APART_MS_MAX],
    QUERY_TIMEOUT_MS,
  );
}

/**
 * Ends backends that hold checkpoint rows of these partitions in a transaction of more than `frozenMs`, and wait for a
 * client that sends nothing: a sink frozen in the middle of COPY. No time-out of the server ends those, and neither does
 * pg_cancel_backend; ending them does, and the same role may. Who holds a row is named by its xmax.
 * @returns their pids
 */
export async function endFrozenOwners(
  pool: Pool,
  epoch: number,
  partitions: readonly number[],
  frozenMs: number,
): Promise<number[]> {
  const rows = await pool.query<{ pid: number }>(
    // Materialized: as a condition beside the others, the ending would be tried on every backend that the scan meets.
    `WITH frozen AS MATERIALIZED (
       SELECT DISTINCT a.pid FROM spillway.checkpoint c
         JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = c.xmax AND l.granted
         JOIN pg_stat_activity a USING (pid)
        WHERE c.log_epoch = $1 AND c.partition = ANY ($2::int[]) AND a.pid <> pg_backend_pid()
          AND a.wait_event = 'ClientRead' AND a.xact_start < now() - $3 * interval '1 millisecond'
     )
     SELECT pid, pg_terminate_backend(pid) FROM frozen`,
    [epoch, partitions, frozenMs],
    QUERY_TIMEOUT_MS,
  );
  return rows.map(({ pid }) => pid);
}
