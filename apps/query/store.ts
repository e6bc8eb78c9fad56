/**
 * This node's connections to the database, within one budget. One is for look-ups: of live events, and of the checkpoints.
 * Pages, however many wait, have the others. So a look-up that takes long tells of the database, and never of a crowd of
 * readers.
 */
import type { Clock } from "#lib/clock.ts";
import type { LogIdentity } from "#lib/control.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import { verifyIdentity } from "#lib/postgres/identity.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { requireRoom, type Wanted } from "#lib/postgres/room.ts";
import { databaseAddress } from "#lib/setting-forms.ts";
import { DeadLetterRows } from "./dead-letters/rows.ts";
import { Rows } from "./rows.ts";
import type { SameLog } from "./same-log.ts";

export interface StoreParts {
  readonly url: string;
  /** At least two. */
  readonly connectionsMax: number;
  /** SPILLWAY_DATABASE_CONNECTIONS_MAX */
  readonly budget: number;
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
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
  readonly #wanted: Wanted;
  readonly #log: Log;
  #hasRoom = false;

  constructor({ url, connectionsMax, budget, log, clock, metrics }: StoreParts) {
    const pool = (max: number, name: string): Pool =>
      new Pool({
        url,
        max,
        name: "spillway-query",
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        log,
        clock,
        counted: { metrics, pool: name },
      });
    const pageConnections = connectionsMax - LOOK_UP_CONNECTIONS;
    this.#lookUpPool = pool(LOOK_UP_CONNECTIONS, "look-ups");
    this.#pagePool = pool(pageConnections, "pages");
    this.lookUps = new Rows(this.#lookUpPool, LOOK_UP_CONNECTIONS, clock);
    this.pages = new Rows(this.#pagePool, pageConnections, clock, metrics);
    this.deadLetters = new DeadLetterRows(this.#pagePool);
    const held = (): number => this.#lookUpPool.size.total + this.#pagePool.size.total;
    this.#wanted = { share: connectionsMax, held, budget, address: databaseAddress(url) };
    this.#log = log;
  }

  /**
   * Brings the tables up to date, and makes sure that they belong to this log, and this log to them.
   * @throws BudgetDoesNotHold, StoreBelongsElsewhere, StoreNotUnicode, OffsetOutOfRange, ContinuityBroken; what database and log give
   */
  async open({ epoch, partitions }: LogIdentity, identities: readonly LogIdentity[], sameLog: SameLog): Promise<void> {
    // Once: what comes after it may be tried for hours, twice a second.
    if (!this.#hasRoom) await requireRoom(this.#pagePool, this.#wanted, this.#log);
    this.#hasRoom = true;
    await migrate(this.#pagePool);
    await verifyIdentity(this.#pagePool, identities);
    await sameLog.proveSaved(await readCheckpoints(this.#pagePool, epoch, [...Array(partitions).keys()]));
  }

  /** Waits for what is under way, then cuts it. */
  async close(): Promise<void> {
    await Promise.all([this.#lookUpPool.close(), this.#pagePool.close()]);
  }
}
