/** The pool of database connections, and the one way to run a statement or a transaction on it. */
import pg from "pg";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { withDatabaseRemedy } from "#lib/remedies.ts";
import { cancelStatement } from "./cancel.ts";
import { begin, rolledBack, statements, type Transaction, type TransactionLimits, timed } from "./transaction.ts";

export type { Transaction, TransactionLimits } from "./transaction.ts";

export interface PoolSettings {
  /** postgres://… ; TLS as its `sslmode` says */
  readonly url: string;
  /** Never more connections than this. */
  readonly max: number;
  /** `application_name`, so that an operator sees whose connection it is. */
  readonly name: string;
  /** Waiting for a connection ends here, be it in the queue or on the wire. */
  readonly connectTimeoutMs: number;
  readonly log: Log;
  readonly clock: Clock;
  /** Where its connections and the waits for them are counted, under this name. */
  readonly counted?: { readonly metrics: PoolMetrics; readonly pool: string };
}

type PoolMetrics = Pick<Metrics, "poolConnections" | "poolWaiting" | "poolWaitMs">;

type Row = Record<string, unknown>;

const CLOSE_MS_MAX = 3_000;
/** How long the server may take to end a statement that it was asked to cancel. */
const RECOVER_MS_MAX = 5_000;
const CANCEL_AGAIN_MS = 250;

/** @throws whatever the server, the driver or the pool's time-out gives; lib/postgres/sqlstate.ts tells what to do */
export class Pool {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #clients = new Set<pg.PoolClient>();
  readonly #counted: PoolSettings["counted"];

  constructor({ url, max, name, connectTimeoutMs, log, clock, counted }: PoolSettings) {
    this.#clock = clock;
    this.#counted = counted;
    // No statement_timeout, lock_timeout or options here: PgBouncer refuses such a connection.
    this.#pool = new pg.Pool({
      connectionString: url,
      max,
      // Once it has one it keeps one: others, who use up the database's connections while it is quiet, leave it that.
      min: 1,
      application_name: name,
      connectionTimeoutMillis: connectTimeoutMs,
      idleTimeoutMillis: 30_000,
      maxLifetimeSeconds: 1_800,
      keepAlive: true,
    });
    // An idle or checked-out client whose connection dies emits `error`; without a listener the process exits.
    this.#pool.on("error", (error) => log.debug("database connection lost", { error: error.message }));
    this.#pool.on("remove", (client) => {
      this.#clients.delete(client);
      this.#count();
    });
    this.#pool.on("connect", (client) => {
      this.#clients.add(client);
      this.#count();
      client.on("error", (error) => log.debug("database connection lost", { error: error.message }));
    });
  }

  /** Connections open, and callers waiting for one. */
  get size(): { readonly total: number; readonly idle: number; readonly waiting: number } {
    return { total: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount };
  }

  /** One statement. After `timeoutMs` it is given up, and ended on the server. */
  async query<R extends Row>(text: string, values: readonly unknown[], timeoutMs: number): Promise<R[]> {
    return this.#rows({ text, values: [...values] }, timeoutMs);
  }

  /** As `query`, each row as an array of its fields: no object for each of very many. */
  async rows<R extends readonly unknown[]>(text: string, values: readonly unknown[], timeoutMs: number): Promise<R[]> {
    return this.#rows({ text, values: [...values], rowMode: "array" } as pg.QueryConfig, timeoutMs);
  }

  async #rows<R>(query: pg.QueryConfig, timeoutMs: number): Promise<R[]> {
    const client = await this.#connect();
    try {
      const result = await client.query(timed(query, timeoutMs));
      client.release();
      return result.rows as R[];
    } catch (error) {
      if (isGivenUp(error)) void this.#recover(client);
      else client.release(!isServerAnswer(error));
      throw error;
    }
  }

  async #connect(): Promise<pg.PoolClient> {
    const begunMs = this.#clock.elapsed();
    try {
      const connected = this.#pool.connect();
      this.#count();
      return await connected;
    } catch (error) {
      // Of a host with several addresses (localhost often is one), Node.js tells the code, and nothing in words.
      if (error instanceof AggregateError) error.message ||= error.errors.map(({ message }) => message).join("; ");
      if (error instanceof Error) error.message = withDatabaseRemedy(error.message);
      throw error;
    } finally {
      this.#counted?.metrics.poolWaitMs.observe({ pool: this.#counted.pool }, this.#clock.elapsed() - begunMs);
      this.#count();
    }
  }

  #count(): void {
    if (this.#counted === undefined) return;
    const { metrics, pool } = this.#counted;
    metrics.poolConnections.set({ pool }, this.#pool.totalCount);
    metrics.poolWaiting.set({ pool }, this.#pool.waitingCount);
  }

  /** Whether a pooler stands between: it gives its clients process ids of its own. @throws as `query` */
  async pooled(timeoutMs: number): Promise<boolean> {
    const client = await this.#connect();
    let broken = true;
    try {
      const { rows } = await client.query<{ pid: number }>(
        timed({ text: "SELECT pg_backend_pid() AS pid" }, timeoutMs),
      );
      broken = false;
      return rows[0]?.pid !== (client as { processID?: number | null }).processID;
    } finally {
      client.release(broken);
    }
  }

  /**
   * Ends a statement that was given up. Its place in the pool is free when the server says that it is over, and then the
   * connection is as good as before; closed instead, its backend would live on for a moment beside the next one's.
   */
  async #recover(client: pg.PoolClient): Promise<void> {
    const over = new AbortController();
    const onDrain = (): void => over.abort();
    client.once("drain", onDrain);
    const untilMs = this.#clock.elapsed() + RECOVER_MS_MAX;
    // Again: a request that comes before the statement has begun, or is lost, cancels nothing.
    while (!over.signal.aborted && this.#clock.elapsed() < untilMs) {
      await cancelStatement(client, this.#clock);
      await this.#clock.sleep(CANCEL_AGAIN_MS, over.signal);
    }
    client.removeListener("drain", onDrain);
    client.release(!over.signal.aborted);
  }

  /** Commits what `work` did, or rolls it back and rejects with its error. A rejection of COMMIT itself may have committed. */
  async transaction<T>(limits: TransactionLimits, work: (transaction: Transaction) => Promise<T>): Promise<T> {
    const client = await this.#connect();
    let broken = true;
    const giveUpMs = limits.statementTimeoutMs + 5_000;
    try {
      const begun = this.#clock.elapsed();
      await client.query(timed({ text: begin(limits) }, giveUpMs));
      const beginMs = this.#clock.elapsed() - begun;
      const result = await work({ beginMs, ...statements(client, giveUpMs, this.#clock) });
      await client.query(timed({ text: "COMMIT" }, giveUpMs));
      broken = false;
      return result;
    } catch (error) {
      broken = !(isServerAnswer(error) || error instanceof RollBack) || !(await rolledBack(client, giveUpMs));
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /** Cuts every connection now, whatever runs on it: a server that does not answer must not hold a stop. */
  abandon(): void {
    for (const client of this.#clients) void client.end();
  }

  /** Waits for what is under way, then cuts it. */
  async close(): Promise<void> {
    const cancel = this.#clock.after(CLOSE_MS_MAX, () => this.abandon());
    await this.#pool.end();
    cancel();
  }
}

/** Thrown by a transaction's work to roll it back for a reason of its own; the connection stays usable. */
export class RollBack extends Error {}

/** Errors with a SQLSTATE of five characters came from the server, on a connection that works. */
const isServerAnswer = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && !(error.code ?? "").startsWith("57P") && error.severity !== "FATAL";

/** node-postgres' own error for a `query_timeout`. */
const isGivenUp = (error: unknown): boolean => error instanceof Error && error.message === "Query read timeout";
