/** SQL: what the database knows of how long ago records were saved. */
import type { Pool } from "#lib/postgres/pool.ts";
import type { Evidence, Mark } from "./retention.ts";

const QUERY_TIMEOUT_MS = 10_000;

/**
 * In one snapshot, by the database's clock. Of a partition's marks only two can count: the newest that is as old as the
 * margin, and the lowest since.
 */
export async function readEvidence(
  pool: Pool,
  epoch: number,
  partitions: readonly number[],
  marginMs: number,
): Promise<ReadonlyMap<number, Evidence>> {
  const rows = await pool.query<{
    partition: number;
    next: string;
    last: string | null;
    now_ms: number;
    mark: string | null;
    mark_ms: number | null;
  }>(
    `SELECT c.partition, c.next_offset::text AS next, c.last_offset::text AS last,
            (extract(epoch FROM now()) * 1000)::float8 AS now_ms,
            m.next_offset::text AS mark, (extract(epoch FROM m.marked_at) * 1000)::float8 AS mark_ms
       FROM spillway.checkpoint c
       LEFT JOIN LATERAL (
         (SELECT next_offset, marked_at FROM spillway.checkpoint_mark
           WHERE log_epoch = c.log_epoch AND partition = c.partition AND marked_at <= now() - $3 * interval '1 millisecond'
           ORDER BY marked_at DESC LIMIT 1)
         UNION ALL
         (SELECT next_offset, marked_at FROM spillway.checkpoint_mark
           WHERE log_epoch = c.log_epoch AND partition = c.partition AND marked_at > now() - $3 * interval '1 millisecond'
           ORDER BY next_offset LIMIT 1)
       ) m ON true
      WHERE c.log_epoch = $1 AND c.partition = ANY ($2::int[])`,
    [epoch, partitions, marginMs],
    QUERY_TIMEOUT_MS,
  );
  const found = new Map<number, Evidence & { readonly marks: Mark[] }>();
  for (const { partition, next, last, now_ms, mark, mark_ms } of rows) {
    const lastOffset = last === null ? null : BigInt(last);
    const one = found.get(partition) ?? { nextOffset: BigInt(next), lastOffset, nowMs: now_ms, marks: [] };
    if (mark !== null && mark_ms !== null) one.marks.push({ nextOffset: BigInt(mark), atMs: mark_ms });
    found.set(partition, one);
  }
  return found;
}
