/**
 * The event buffer in SQL. Every call is one statement by itself: nothing lasts from one to the next but what the tables hold,
 * so that it works behind a pooler in transaction mode, and no transaction is open while the log is waited for.
 */
import type { Pool } from "#lib/postgres/pool.ts";

/** What waits to be published. */
export interface Row {
  /** Text of a bigint. */
  readonly position: string;
  readonly clientId: string;
  readonly id: string;
  readonly type: string;
  readonly occurredAtMs: number;
  /** As jsonb prints it; null: none. */
  readonly data: string | null;
}

/** A row that no event can be made of. */
export interface Aside {
  readonly row: Row;
  /** Of the HTTP contract. */
  readonly code: string;
  readonly why: string;
}

export interface Backlog {
  readonly waiting: number;
  /** 0 while nothing waits. */
  readonly oldestMs: number;
  readonly setAside: number;
}

/** A transaction that keeps writers waiting for a client's lock. */
export interface Blocker {
  /** null: a prepared transaction, which `gid` names. */
  readonly pid: number | null;
  readonly gid: string | null;
  /** null: not shown to this role. */
  readonly ageMs: number | null;
  readonly state: string | null;
  readonly application: string | null;
  readonly writersWaiting: number;
}

/** A statement of ours takes milliseconds; one that waits for a lock on the table is given up and asked again. */
const TIMEOUT_MS = 10_000;
/** What a row takes besides its data: names of up to 638 bytes, and its fields as objects. */
const ROW_BYTES = 1_024;

export class EventBuffer {
  readonly #pool: Pool;
  /** Still to be done when the database is first reached; null: it was. */
  #prepare: (() => Promise<void>) | null;

  /** @param prepare what to ask the database before anything else, until it has answered */
  constructor(pool: Pool, prepare: (() => Promise<void>) | null = null) {
    this.#pool = pool;
    this.#prepare = prepare;
  }

  /**
   * A lease that would last for longer was given by a clock that has been set back since, or by another server's: it counts no more.
   * @returns whether `holder` is the relay that works, for `forMs` from now on by the database's clock
   */
  async lease(holder: string, forMs: number): Promise<boolean> {
    await this.#prepare?.();
    this.#prepare = null;
    const rows = await this.#pool.rows(
      `INSERT INTO spillway.event_buffer_relay AS relay (holder, until)
         VALUES ($1, clock_timestamp() + $2::float8 * interval '1 ms')
       ON CONFLICT (one) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE relay.holder = excluded.holder OR relay.until < clock_timestamp()
            OR relay.until > clock_timestamp() + $2::float8 * interval '1 ms'
       RETURNING 1`,
      [holder, forMs],
      TIMEOUT_MS,
    );
    return rows.length > 0;
  }

  /** Another relay may work from now on. */
  async release(holder: string): Promise<void> {
    await this.#pool.rows(
      "UPDATE spillway.event_buffer_relay SET until = '-infinity' WHERE holder = $1",
      [holder],
      TIMEOUT_MS,
    );
  }

  /**
   * Rows that wait, by position, at least one if there are any. A row is seen when its transaction has committed, and every
   * earlier one of its client with it; what is seen later may have a lower position, so there is no place to go on from.
   * @param bytesMax of their data and what comes with it; only the first row may exceed it
   */
  async page(rowsMax: number, bytesMax: number): Promise<Row[]> {
    const rows = await this.#pool.rows<[string, string, string, string, number, string | null]>(
      // Of the rows behind the bytes' end no data is read: what is large is stored elsewhere, and a window carries its address.
      `SELECT position::text, client_id, id, type,
              round(extract(epoch FROM date_trunc('milliseconds', occurred_at)) * 1000)::float8, data::text
         FROM (SELECT *, sum(data_bytes::bigint + $3) OVER (ORDER BY position) AS bytes, row_number() OVER (ORDER BY position) AS n
                 FROM (SELECT position, client_id, id, type, occurred_at, data, data_bytes FROM spillway.event_buffer
                        WHERE recorded IS NULL AND set_aside IS NULL ORDER BY position LIMIT $1) AS waiting) AS page
        WHERE n = 1 OR bytes <= $2
        ORDER BY page.position`,
      [rowsMax, bytesMax, ROW_BYTES],
      TIMEOUT_MS,
    );
    return rows.map(([position, clientId, id, type, occurredAtMs, data]) => ({
      position,
      clientId,
      id,
      type,
      occurredAtMs,
      data,
    }));
  }

  /** They are on the log. By position each, never as a range: a row that appears later may lie between two of them. */
  async record(rows: readonly Row[]): Promise<void> {
    await this.#pool.rows(
      `UPDATE spillway.event_buffer SET recorded = now(), set_aside = NULL, set_aside_why = NULL
        WHERE position = ANY ($1::bigint[]) AND recorded IS NULL`,
      [rows.map(({ position }) => position)],
      TIMEOUT_MS,
    );
  }

  /** They wait no more, and are not on the log. */
  async setAside(rows: readonly Aside[]): Promise<void> {
    await this.#pool.rows(
      `UPDATE spillway.event_buffer AS buffer SET set_aside = aside.code, set_aside_why = aside.why
         FROM unnest($1::bigint[], $2::text[], $3::text[]) AS aside (position, code, why)
        WHERE buffer.position = aside.position AND recorded IS NULL AND set_aside IS NULL`,
      [rows.map(({ row }) => row.position), rows.map(({ code }) => code), rows.map(({ why }) => why)],
      TIMEOUT_MS,
    );
  }

  /**
   * Deletes those of the next `rowsMax` recorded rows that have been so for longer than `keptMs`. Younger ones may stand among them:
   * a long transaction's.
   * @param after the last position of the step before: over what is deleted and not vacuumed yet, a search from the start would go again
   * @returns how many went; whether there may be more behind `last`
   */
  async removeRecorded(
    after: string,
    rowsMax: number,
    keptMs: number,
  ): Promise<{ readonly rows: number; readonly last: string; readonly more: boolean }> {
    const [found] = await this.#pool.rows<[number, number, string | null]>(
      `WITH oldest AS MATERIALIZED (
         SELECT position, recorded FROM spillway.event_buffer WHERE recorded IS NOT NULL AND position > $1 ORDER BY position LIMIT $2
       ), gone AS (
         DELETE FROM spillway.event_buffer WHERE position = ANY (ARRAY(
           SELECT position FROM oldest WHERE recorded < now() - $3::float8 * interval '1 ms')) RETURNING position
       )
       SELECT (SELECT count(*) FROM gone)::int, count(*)::int, max(position)::text FROM oldest`,
      [after, rowsMax, keptMs],
      TIMEOUT_MS,
    );
    const [rows, seen, last] = found ?? [0, 0, null];
    return { rows, last: last ?? after, more: rows > 0 && seen === rowsMax };
  }

  async backlog(): Promise<Backlog> {
    const [found] = await this.#pool.rows<[number, number | null, number]>(
      "SELECT waiting::float8, (extract(epoch FROM oldest_age) * 1000)::float8, set_aside::float8 FROM spillway.backlog_total",
      [],
      TIMEOUT_MS,
    );
    return { waiting: found?.[0] ?? 0, oldestMs: found?.[1] ?? 0, setAside: found?.[2] ?? 0 };
  }

  /** The one that has been open for longest first. */
  async blockers(): Promise<Blocker[]> {
    const rows = await this.#pool.rows<
      [number | null, string | null, number | null, string | null, string | null, number]
    >(
      `SELECT pid, gid, (extract(epoch FROM age) * 1000)::float8, state, application_name, waiting::int
         FROM spillway.blocking()`,
      [],
      TIMEOUT_MS,
    );
    return rows.map(([pid, gid, ageMs, state, application, writersWaiting]) => ({
      pid,
      gid,
      ageMs,
      state,
      application,
      writersWaiting,
    }));
  }
}
