/** Which log a database belongs to: kept beside the rows, so that no sink mixes two logs. */
import type { LogIdentity } from "#lib/control.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import { BudgetDoesNotHold } from "#lib/postgres/room.ts";

/** The database holds the rows of another log. */
export class StoreBelongsElsewhere extends Error {
  constructor(identity: LogIdentity, topic: string, partitions: number) {
    super(
      `This database holds epoch ${identity.epoch} of the log ${topic} with ${partitions} partitions, but the control topic ` +
        `says ${identity.topic} with ${identity.partitions}. Point DATABASE_URL or SPILLWAY_TOPIC at the right one.`,
    );
    this.name = "StoreBelongsElsewhere";
  }
}

const TIMEOUT_MS = 10_000;

/** Writes the identity of every epoch that is new here. @throws StoreBelongsElsewhere; what the database gives */
export async function ensureIdentity(pool: Pool, identities: readonly LogIdentity[]): Promise<void> {
  await pool.query(
    `INSERT INTO spillway.log_identity (log_epoch, topic, partitions)
     SELECT * FROM unnest($1::smallint[], $2::text[], $3::int[]) ON CONFLICT DO NOTHING`,
    [
      identities.map(({ epoch }) => epoch),
      identities.map(({ topic }) => topic),
      identities.map((one) => one.partitions),
    ],
    TIMEOUT_MS,
  );
  await verifyIdentity(pool, identities);
}

/** The database cannot keep all text. */
class StoreNotUnicode extends Error {
  constructor(encoding: string) {
    super(`This database keeps text as ${encoding}, so good events could not be saved: use one with ENCODING 'UTF8'.`);
    this.name = "StoreNotUnicode";
  }
}

/** No wait mends these: the role must stop and say so. */
export const isWrongStore = (error: unknown): boolean =>
  error instanceof StoreBelongsElsewhere || error instanceof StoreNotUnicode || error instanceof BudgetDoesNotHold;

/**
 * Of the epochs that the database knows.
 * @throws StoreBelongsElsewhere, StoreNotUnicode; what the database gives
 */
export async function verifyIdentity(pool: Pool, identities: readonly LogIdentity[]): Promise<void> {
  const [store] = await pool.query<{ encoding: string }>(
    "SELECT current_setting('server_encoding') AS encoding",
    [],
    TIMEOUT_MS,
  );
  if (store && store.encoding !== "UTF8") throw new StoreNotUnicode(store.encoding);
  const rows = await pool.query<{ log_epoch: number; topic: string; partitions: number }>(
    "SELECT log_epoch, topic, partitions FROM spillway.log_identity",
    [],
    TIMEOUT_MS,
  );
  for (const { log_epoch, topic, partitions } of rows) {
    const identity = identities.find(({ epoch }) => epoch === log_epoch);
    if (identity && (identity.topic !== topic || identity.partitions !== partitions))
      throw new StoreBelongsElsewhere(identity, topic, partitions);
  }
}
