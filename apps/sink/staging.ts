/** Rows into the table; through a temporary one where copies must be left out, or refused rows found. SQL. */
import type { Transaction } from "#lib/postgres/pool.ts";
import { type Row, textOf } from "./batch.ts";

const COLUMNS = 'client_id, log_epoch, "offset", id, type, occurred_at, received_at, data';
/**
 * With its schema: where search_path has pg_temp last, a table of the user's own that is called so would come first, and
 * be emptied. With our name: behind a pooler others leave temporary tables of theirs on the session. By a query and not by
 * LIKE: columns of the user's own would be not null there too, and have no default.
 */
const STAGE = `CREATE TEMPORARY TABLE pg_temp.spillway_staged ON COMMIT DROP AS SELECT ${COLUMNS} FROM spillway.event WITH NO DATA`;

/**
 * Of one identity the lowest offset wins. The conflict target is named, so that a clash on the primary key (another event at
 * the same position: the topic was recreated) is an error and not taken for a copy.
 */
const insertWhere = (condition: string): string =>
  `INSERT INTO spillway.event (${COLUMNS}) SELECT ${COLUMNS} FROM pg_temp.spillway_staged WHERE ${condition}
     ORDER BY "offset" ON CONFLICT (client_id, id) DO NOTHING`;

/** Refuses a batch with a copy in it. */
export const copyRows = (transaction: Transaction, rows: readonly Row[]): Promise<void> =>
  copyInto(transaction, "spillway.event", rows);

const copyInto = (transaction: Transaction, table: string, rows: readonly Row[]): Promise<void> =>
  transaction.copy(`COPY ${table} (${COLUMNS}) FROM STDIN`, textOf(rows));

/** @returns how many were no copies */
export async function saveStaged(transaction: Transaction, rows: readonly Row[]): Promise<number> {
  await transaction.query(STAGE);
  await copyInto(transaction, "pg_temp.spillway_staged", rows);
  const [saved] = await transaction.query<{ n: number }>(
    `WITH saved AS (${insertWhere("true")} RETURNING 1) SELECT count(*)::int AS n FROM saved`,
  );
  return saved?.n ?? 0;
}

/** Tried again row by row where it is refused. A row alone takes twice as long; a larger chunk has more of them. */
const CHUNK_ROWS = 64;
/** The classes of errors that may be a row's fault, as PL/pgSQL calls them; whether one is, lib/postgres/sqlstate.ts says. */
const ROWS_FAULT =
  "data_exception OR integrity_constraint_violation OR cardinality_violation OR plpgsql_error OR program_limit_exceeded";

/** Each row that the table takes goes in. On the server: a client would ask it thousands of times. */
const SAVE_EACH = `DO $$
  DECLARE
    chunk tid[];
    one tid;
    taken bigint;
    saved bigint := 0;
    state text;
    told text;
    rule text;
  BEGIN
    FOR chunk IN
      SELECT array_agg(c.ctid) FROM (
        SELECT ctid, (row_number() OVER (ORDER BY "offset") - 1) / ${CHUNK_ROWS} AS nth FROM pg_temp.spillway_staged
      ) c GROUP BY c.nth ORDER BY c.nth
    LOOP
      BEGIN
        ${insertWhere("ctid = ANY (chunk)")};
        GET DIAGNOSTICS taken = ROW_COUNT;
        saved := saved + taken;
      EXCEPTION WHEN ${ROWS_FAULT} THEN
        FOR one IN SELECT ctid FROM pg_temp.spillway_staged WHERE ctid = ANY (chunk) ORDER BY "offset" LOOP
          BEGIN
            ${insertWhere("ctid = one")};
            GET DIAGNOSTICS taken = ROW_COUNT;
            saved := saved + taken;
          EXCEPTION WHEN ${ROWS_FAULT} THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, told = MESSAGE_TEXT, rule = CONSTRAINT_NAME;
            INSERT INTO pg_temp.spillway_refused
              SELECT s.client_id, s."offset", state, told, nullif(rule, '') FROM pg_temp.spillway_staged s WHERE s.ctid = one;
          END;
        END LOOP;
      END;
    END LOOP;
    PERFORM set_config('spillway.saved', saved::text, true);
  END $$`;

/** A row that the table refused, and the error. */
export interface Refused {
  readonly row: Row;
  readonly error: Error;
}

/** @throws what the database gives when it cannot read a row, or cannot go on */
export async function saveEach(
  transaction: Transaction,
  rows: readonly Row[],
): Promise<{ saved: number; refused: readonly Refused[] }> {
  await transaction.query(`${STAGE}; CREATE TEMPORARY TABLE pg_temp.spillway_refused
    (client_id text, "offset" bigint, code text, message text, "constraint" text) ON COMMIT DROP`);
  // A rule that looks only when the transaction commits would name no row.
  await transaction.query("SET CONSTRAINTS ALL IMMEDIATE");
  await copyInto(transaction, "pg_temp.spillway_staged", rows);
  await transaction.query(SAVE_EACH);
  const told = await transaction.query<{ place: string; code: string; message: string; constraint: string | null }>(
    `SELECT "offset" || ' ' || client_id AS place, code, message, "constraint" FROM pg_temp.spillway_refused`,
  );
  const [count] = await transaction.query<{ saved: number }>("SELECT current_setting('spillway.saved')::int AS saved");
  await transaction.query("DROP TABLE pg_temp.spillway_staged, pg_temp.spillway_refused");
  const byPlace = new Map(rows.map((row) => [`${row.record.offset} ${row.record.key}`, row]));
  const refused = told.flatMap(({ place, message, ...more }) => {
    const row = byPlace.get(place);
    return row ? [{ row, error: Object.assign(new Error(message), more) }] : [];
  });
  return { saved: count?.saved ?? 0, refused };
}
