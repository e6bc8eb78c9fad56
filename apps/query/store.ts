/**
 * This node's connections to the database, within one budget. One is for look-ups: of live events, and of the checkpoints.
 * Pages, however many wait, have the others. So a look-up that takes long tells of the database, and never of a crowd of
 * readers.
 */
import type { Clock } from "#lib/clock.ts";
import type { LogIdentity } from "#lib/control.ts";
import type { Log } from "#lib/log.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import { verifyIdentity } from "#lib/postgres/identity.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { DeadLetterRows } from "./dead-letters/rows.ts";
import { Rows } from "./rows.ts";
import type { SameLog } from "./same-log.ts";

export interface StoreParts {
  readonly url: string;
  /** At least two. */
  readonly connectionsMax: number;
  readonly log: Log;
  readonly clock: Clock;
}

const LOOK_UP_CONNECTIONS = 1;
/** Waiting for a connection, in the pool's queue or on the wire. Pages wait elsewhere, in `coalesce.ts`. */
const CONNECT_TIMEOUT_MS = 2_000;

export class Store {
  readonly lookUps: Rows;
  readonly pages: Rows;
  readonly deadLetters: DeadLetterRows;
  readonly #lookUpPool: Pool;
  readonly #pagePool: Pool;

  constructor({ url, connectionsMax, log, clock }: StoreParts) {
    const pool = (max: number): Pool =>
      new Pool({ url, max, name: "spillway-query", connectTimeoutMs: CONNECT_TIMEOUT_MS, log, clock });
    const pageConnections = connectionsMax - LOOK_UP_CONNECTIONS;
    this.#lookUpPool = pool(LOOK_UP_CONNECTIONS);
    this.#pagePool = pool(pageConnections);
    this.lookUps = new Rows(this.#lookUpPool, LOOK_UP_CONNECTIONS, clock);
    this.pages = new Rows(this.#pagePool, pageConnections, clock);
    this.deadLetters = new DeadLetterRows(this.#pagePool);
  }

  /**
   * Brings the tables up to date, and makes sure that they belong to this log, and this log to them.
   * @throws StoreBelongsElsewhere, StoreNotUnicode, OffsetOutOfRange, ContinuityBroken; what database and log give
   */
  async open({ epoch, partitions }: LogIdentity, identities: readonly LogIdentity[], sameLog: SameLog): Promise<void> {
    await migrate(this.#pagePool);
    await verifyIdentity(this.#pagePool, identities);
    await sameLog.proveSaved(await readCheckpoints(this.#pagePool, epoch, [...Array(partitions).keys()]));
  }

  /** Waits for what is under way, then cuts it. */
  async close(): Promise<void> {
    await Promise.all([this.#lookUpPool.close(), this.#pagePool.close()]);
  }
}
