/** One transaction's statements on a client of the pool, each with its time, and COPY among them. */
import { once } from "node:events";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import type { Clock } from "#lib/clock.ts";

/** Limits of one transaction; the server ends what exceeds them. */
export interface TransactionLimits {
  readonly lockTimeoutMs: number;
  readonly statementTimeoutMs: number;
  /** Between two statements, should this process freeze there. */
  readonly idleTimeoutMs: number;
}

type Row = Record<string, unknown>;

/** Statements inside one transaction. */
export interface Transaction {
  /** What BEGIN took, in ms: a round trip in which the server does next to nothing. */
  readonly beginMs: number;
  query<R extends Row>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** Runs `COPY … FROM STDIN` with its data in COPY's text format. */
  copy(text: string, data: Buffer): Promise<void>;
}

/**
 * Opens it, with its limits: set for it alone, so that a pooler hands nothing of them to the next client. At its level, whatever the
 * database's default is: who waits for a lock sees afterwards what its holder committed.
 */
export const begin = ({ lockTimeoutMs, statementTimeoutMs, idleTimeoutMs }: TransactionLimits): string =>
  `BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = ${lockTimeoutMs}; SET LOCAL statement_timeout = ${statementTimeoutMs}; ` +
  `SET LOCAL idle_in_transaction_session_timeout = ${idleTimeoutMs}`;

/** @param giveUpMs how long each may take */
export function statements(client: pg.PoolClient, giveUpMs: number, clock: Clock): Omit<Transaction, "beginMs"> {
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

/** @returns whether the connection is as good as before */
export async function rolledBack(client: pg.PoolClient, giveUpMs: number): Promise<boolean> {
  try {
    await client.query(timed({ text: "ROLLBACK" }, giveUpMs));
    return true;
  } catch {
    return false;
  }
}

/** node-postgres takes `query_timeout` per query, though its types do not say so. */
export const timed = (query: pg.QueryConfig, timeoutMs: number): pg.QueryConfig =>
  ({ ...query, query_timeout: timeoutMs }) as pg.QueryConfig;
