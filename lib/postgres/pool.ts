/** The pool of database connections, and the one way to run a statement or a transaction on it. */
import { once } from "node:events";
import pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import { cancelStatement } from "./cancel.ts";

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
}

/** Limits of one transaction; the server ends what exceeds them. */
export interface TransactionLimits {
  readonly lockTimeoutMs: number;
  readonly statementTimeoutMs: number;
  /** Between two statements, should this process freeze there. */
  readonly idleTimeoutMs: number;
}

type Row = Record<string, unknown>;

const CLOSE_MS_MAX = 3_000;
/** How long the server may take to end a statement that it was asked to cancel. */
const RECOVER_MS_MAX = 5_000;
const CANCEL_AGAIN_MS = 250;

/** Statements inside one transaction. */
export interface Transaction {
  /** What BEGIN took, in ms: a round trip in which the server does next to nothing. */
  readonly beginMs: number;
  query<R extends Row>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** Runs `COPY … FROM STDIN` with its data in COPY's text format. */
  copy(text: string, data: Buffer): Promise<void>;
}

/** @throws whatever the server, the driver or the pool's time-out gives; lib/postgres/sqlstate.ts tells what to do */
export class Pool {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #clients = new Set<pg.PoolClient>();

  constructor({ url, max, name, connectTimeoutMs, log, clock }: PoolSettings) {
    this.#clock = clock;
    // No statement_timeout, lock_timeout or options here: PgBouncer refuses such a connection.
    this.#pool = new pg.Pool({
      connectionString: url,
      max,
      application_name: name,
      connectionTimeoutMillis: connectTimeoutMs,
      idleTimeoutMillis: 30_000,
      maxLifetimeSeconds: 1_800,
      keepAlive: true,
    });
    // An idle or checked-out client whose connection dies emits `error`; without a listener the process exits.
    this.#pool.on("error", (error) => log.debug("database connection lost", { error: error.message }));
    this.#pool.on("remove", (client) => this.#clients.delete(client));
    this.#pool.on("connect", (client) => {
      this.#clients.add(client);
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
    try {
      return await this.#pool.connect();
    } catch (error) {
      // Of a host with several addresses (localhost often is one), Node.js tells the code, and nothing in words.
      if (error instanceof AggregateError) error.message ||= error.errors.map(({ message }) => message).join("; ");
      throw error;
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

const begin = ({ lockTimeoutMs, statementTimeoutMs, idleTimeoutMs }: TransactionLimits): string =>
  `BEGIN; SET LOCAL lock_timeout = ${lockTimeoutMs}; SET LOCAL statement_timeout = ${statementTimeoutMs}; ` +
  `SET LOCAL idle_in_transaction_session_timeout = ${idleTimeoutMs}`;

function statements(client: pg.PoolClient, giveUpMs: number, clock: Clock): Omit<Transaction, "beginMs"> {
  return {
    query: async <R extends Row>(text: string, values: readonly unknown[] = []): Promise<R[]> =>
      (await client.query<R>(timed({ text, values: [...values] }, giveUpMs))).rows,
    copy: async (text, data) => {
      const stream = client.query(copyFrom(text));
      // Whatever happens after we gave up, an `error` without a listener would end the process.
      stream.on("error", () => undefined);
      stream.end(data);
      const late = new AbortController();
      const cancel = clock.after(giveUpMs, () => late.abort());
      try {
        await once(stream, "finish", { signal: late.signal });
      } catch (cause) {
        if (!late.signal.aborted) throw cause;
        throw new Error(`Query read timeout: COPY was not answered within ${giveUpMs} ms`, { cause });
      } finally {
        cancel();
      }
    },
  };
}

async function rolledBack(client: pg.PoolClient, giveUpMs: number): Promise<boolean> {
  try {
    await client.query(timed({ text: "ROLLBACK" }, giveUpMs));
    return true;
  } catch {
    return false;
  }
}

/** Errors with a SQLSTATE of five characters came from the server, on a connection that works. */
const isServerAnswer = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && !(error.code ?? "").startsWith("57P") && error.severity !== "FATAL";

/** node-postgres' own error for a `query_timeout`. */
const isGivenUp = (error: unknown): boolean => error instanceof Error && error.message === "Query read timeout";

/** node-postgres takes `query_timeout` per query, though its types do not say so. */
const timed = (query: pg.QueryConfig, timeoutMs: number): pg.QueryConfig =>
  ({ ...query, query_timeout: timeoutMs }) as pg.QueryConfig;
