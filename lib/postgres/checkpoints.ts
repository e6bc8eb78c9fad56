/** The checkpoints as the database keeps them. */
import type { Checkpoint } from "#lib/continuity.ts";
import type { Pool } from "#lib/postgres/pool.ts";

const TIMEOUT_MS = 10_000;

/** Those that exist. @throws what the database gives */
export async function readCheckpoints(
  pool: Pool,
  epoch: number,
  partitions: readonly number[],
): Promise<Map<number, Checkpoint>> {
  const rows = await pool.query<{ partition: number; next: string; last: string | null; hash: Buffer | null }>(
    `SELECT partition, next_offset::text AS next, last_offset::text AS last, last_hash AS hash
       FROM spillway.checkpoint WHERE log_epoch = $1 AND partition = ANY ($2::int[])`,
    [epoch, partitions],
    TIMEOUT_MS,
  );
  return new Map(
    rows.map(({ partition, next, last, hash }) => [
      partition,
      {
        nextOffset: BigInt(next),
        last: last === null || hash === null ? null : { offset: BigInt(last), hash },
      },
    ]),
  );
}
