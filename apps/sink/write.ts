/** One transaction: checkpoints first, then rows and dead letters. What it did not do entirely, it did not do at all. */

import type { Clock } from "#lib/clock.ts";
import { type Pool, RollBack, type Transaction, type TransactionLimits } from "#lib/postgres/pool.ts";
import type { Batch, DeadLetter, Row } from "./batch.ts";
import { saveOneByOne } from "./bisect.ts";
import { moveCheckpoints } from "./checkpoint.ts";
import { copyRows, saveStaged } from "./staging.ts";

/**
 * How rows go in. `copy`: straight into the table, which refuses a batch with a copy in it. `stage`: through a temporary
 * table, which leaves copies out. `bisect`: as `stage`, row by row, to find those that the database refuses.
 */
export type Way = "copy" | "stage" | "bisect";

export type Written =
  | {
      readonly kind: "written";
      readonly rows: number;
      readonly copies: number;
      readonly dead: readonly DeadLetter[];
      /** The shorter round trip of BEGIN and the checkpoints' statement; then what the rows and dead letters took. */
      readonly tripMs: number;
      readonly rowsMs: number;
      /** How many round trips the latter holds; of a search for refused rows it is not told. */
      readonly trips: number;
    }
  /** These partitions' checkpoints were elsewhere; nothing was written. */
  | { readonly kind: "fenced"; readonly partitions: readonly number[] };

/** COPY takes two, any other statement one. */
const TRIPS: Readonly<Record<Way, number>> = { copy: 2, stage: 4, bisect: 0 };

const LIMITS: TransactionLimits = { lockTimeoutMs: 1_000, statementTimeoutMs: 30_000, idleTimeoutMs: 10_000 };

class Fenced extends RollBack {
  readonly partitions: readonly number[];
  constructor(partitions: readonly number[]) {
    super(`checkpoints of ${partitions.join(", ")} were moved by another`);
    this.partitions = partitions;
  }
}

/** @throws what the database gives; whether it committed is then to be read from the checkpoint */
export async function write(pool: Pool, epoch: number, batch: Batch, way: Way, clock: Clock): Promise<Written> {
  const rows = batch.slices.flatMap((slice) => slice.rows);
  const dead = batch.slices.flatMap((slice) => slice.dead);
  try {
    return await pool.transaction(LIMITS, async (transaction) => {
      const begun = clock.elapsed();
      const lost = await moveCheckpoints(
        transaction,
        epoch,
        batch.slices.map((slice) => slice.taken),
      );
      if (lost.length > 0) throw new Fenced(lost);
      const moved = clock.elapsed();
      const { saved, refused } = await saveRows(transaction, rows, way);
      const all = [...dead, ...refused];
      await saveDeadLetters(transaction, epoch, all);
      return {
        kind: "written",
        rows: saved,
        copies: rows.length - saved - refused.length,
        dead: all,
        // A pooler makes BEGIN wait for its turn: taken for the network's, that would make the rows look as if they cost nothing.
        tripMs: Math.min(transaction.beginMs, moved - begun),
        rowsMs: clock.elapsed() - moved,
        trips: (rows.length > 0 ? TRIPS[way] : 0) + (all.length > 0 ? 1 : 0),
      };
    });
  } catch (error) {
    if (error instanceof Fenced) return { kind: "fenced", partitions: error.partitions };
    throw error;
  }
}

async function saveRows(
  transaction: Transaction,
  rows: readonly Row[],
  way: Way,
): Promise<{ saved: number; refused: readonly DeadLetter[] }> {
  if (rows.length === 0) return { saved: 0, refused: [] };
  if (way === "bisect") return saveOneByOne(transaction, rows);
  if (way === "stage") return { saved: await saveStaged(transaction, rows), refused: [] };
  await copyRows(transaction, rows);
  return { saved: rows.length, refused: [] };
}

/** Foreign writers count in nanoseconds too. PostgreSQL's last time is a little later than JavaScript's. */
const TIME_MS_MAX = 8.64e15;

async function saveDeadLetters(transaction: Transaction, epoch: number, dead: readonly DeadLetter[]): Promise<void> {
  if (dead.length === 0) return;
  await transaction.query(
    `INSERT INTO spillway.dead_letter (log_epoch, partition, "offset", reason, detail, key, value, record_time)
     SELECT $1, d.partition, d."offset", d.reason, d.detail, decode(d.key, 'hex'), decode(d.value, 'hex'),
            to_timestamp(d.time_ms / 1000.0)
       FROM unnest($2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::float8[])
              AS d(partition, "offset", reason, detail, key, value, time_ms)
     ON CONFLICT (log_epoch, partition, "offset") DO NOTHING`,
    [
      epoch,
      dead.map(({ partition }) => partition),
      dead.map(({ record }) => record.offset.toString()),
      dead.map(({ reason }) => reason),
      dead.map(({ detail }) => printable(detail)),
      dead.map(({ record }) => record.key?.toString("hex") ?? null),
      dead.map(({ record }) => record.value?.toString("hex") ?? null),
      dead.map(({ record }) => Math.min(record.timestampMs, TIME_MS_MAX)),
    ],
  );
}

/** A detail may quote what made the record dead: text that PostgreSQL would refuse must not stop the partition after all. */
const printable = (detail: string): string => detail.toWellFormed().replaceAll("\u0000", "\u2400").slice(0, 2_000);
