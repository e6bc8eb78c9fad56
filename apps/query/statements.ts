/**
 * The SQL of rows.ts. A page's statement answers many questions of one form: each is a row of `asked`, numbered by `nth`, and
 * all of them see one snapshot.
 */

/** What a row of a page's answer is. */
export const [CHECKPOINT, LOOKED_AT, IDENTITY, ROW] = [0, 1, 2, 3] as const;

/**
 * Most bytes of events in one page; the first event always comes. A page of 1,000 could otherwise be 256 MiB. The database
 * counts `data` alone and so never gives fewer rows than the page takes: where the page ends is decided in merge.ts.
 */
export const PAGE_BYTES_MAX = 8 * 1024 * 1024;

/** The `id` of what was looked at, where there is more to look at. */
export const MORE = "more";

/** Columns of `asked`, in the order of the parameters, which are arrays; `[]` are literals of arrays, one for each question. */
const PLAIN_COLUMNS = [
  ["client_id", "text"],
  ["epoch", "smallint"],
  ["partition", "int"],
  ["after_epoch", "smallint"],
  ["after_offset", "bigint"],
  ["before_epoch", "smallint"],
  ["before_offset", "bigint"],
  /** Most rows wanted. */
  ["rows_max", "int"],
  /** Of `data`: a row comes while those before it have less. */
  ["bytes_max", "int"],
  /** Identities to be looked up. */
  ["ids", "text"],
] as const;
const FILTER_COLUMNS = [
  /** Most rows looked at, matching or not, less what of `above` lies above the rows. */
  ["looks_max", "int"],
  ["types", "text"],
  ["since", "timestamptz"],
  ["until", "timestamptz"],
  ["above", "text"],
] as const;

/** One more parameter than columns: the largest `rows_max`. */
const columns = (filtered: boolean) => [...PLAIN_COLUMNS, ...(filtered ? FILTER_COLUMNS : [])];

/** Half-open in SQL as in the cursor, and below the checkpoint of this snapshot. */
const RANGE = `e.client_id = q.client_id
    AND (e.log_epoch, e."offset") > (q.after_epoch, q.after_offset)
    AND (e.log_epoch, e."offset") < (q.before_epoch, q.before_offset)
    AND (e.log_epoch, e."offset") < (q.epoch, coalesce(q.next_offset, 0))`;

const FIELDS = `e.log_epoch, e."offset", e.id, e.type, e.occurred_at, e.received_at, e.data::text AS data`;

/**
 * The rows without filters: the index alone bounds the work. Twice a limit: of the inner one the planner knows the value, and
 * so plans neither to sort a client's rows nor, for their number, to compile the statement.
 */
const matchesPlain = (direction: string, most: string): string => `matches AS (
  SELECT * FROM (SELECT ${FIELDS} FROM spillway.event e WHERE ${RANGE}
    ORDER BY e.log_epoch ${direction}, e."offset" ${direction} LIMIT ${most}) m LIMIT q.rows_max)`;

/** With filters: at most `looks_max` rows are looked at, and one more, to know whether there is one. */
const matchesFiltered = (direction: string, most: string): string => `seen AS MATERIALIZED (
  SELECT log_epoch, "offset", type, occurred_at,
    row_number() OVER (ORDER BY log_epoch ${direction}, "offset" ${direction}) AS nth
  FROM (SELECT e.log_epoch, e."offset", e.type, e.occurred_at FROM spillway.event e WHERE ${RANGE}
    ORDER BY e.log_epoch ${direction}, e."offset" ${direction} LIMIT ${most}) s LIMIT q.looks_max + 1
), looked AS MATERIALIZED (
  SELECT * FROM seen WHERE nth <= q.looks_max - (
    SELECT count(*) FROM unnest(q.above::bigint[]) AS above (o) WHERE o >= coalesce(q.next_offset, 0))
), matches AS (
  SELECT ${FIELDS} FROM (
    SELECT log_epoch, "offset" FROM looked
    WHERE (q.types IS NULL OR type = ANY (q.types::text[]))
      AND (q.since IS NULL OR occurred_at >= q.since)
      AND (q.until IS NULL OR occurred_at < q.until)
    ORDER BY log_epoch ${direction}, "offset" ${direction} LIMIT q.rows_max
  ) s JOIN spillway.event e ON e.client_id = q.client_id AND e.log_epoch = s.log_epoch AND e."offset" = s."offset")`;

const LOOKED_AT_LAST = `SELECT ${LOOKED_AT} AS kind, (SELECT log_epoch FROM looked ORDER BY nth DESC LIMIT 1)::int AS epoch,
    (SELECT "offset" FROM looked ORDER BY nth DESC LIMIT 1)::text AS "offset",
    CASE WHEN (SELECT count(*) FROM seen) > (SELECT count(*) FROM looked) THEN '${MORE}' END AS id, NULL AS type,
    (SELECT count(*) FROM looked)::float8 AS occurred, NULL::float8 AS received, NULL AS data
  UNION ALL `;

/** LATERAL with LIMIT: whatever the statistics say, each identity is one probe of the unique index. */
const IDENTITIES = `
UNION ALL SELECT q.nth::int, ${IDENTITY}, i.log_epoch, i."offset"::text, i.id, NULL, NULL, NULL, NULL
  FROM asked q, unnest(q.ids::text[]) AS wanted (id), LATERAL (
    SELECT e.log_epoch, e."offset", e.id FROM spillway.event e WHERE e.client_id = q.client_id AND e.id = wanted.id LIMIT 1) i`;

/** @param withIds whether identities are looked up: planning that takes a third of what a lone page costs */
function statement(order: "asc" | "desc", filtered: boolean, withIds: boolean): string {
  const direction = order === "asc" ? "ASC" : "DESC";
  const given = columns(filtered);
  const most = `$${given.length + 1}::int`;
  const matches = filtered ? matchesFiltered(direction, most) : matchesPlain(direction, most);
  // The last ORDER BY names its table: a bare "offset" would be the output column, which is text, and 10 come before 9.
  const by = `ORDER BY log_epoch ${direction}, "offset" ${direction}`;
  return `WITH asked AS MATERIALIZED (
  SELECT a.*, c.next_offset
  FROM unnest(${given.map(([, type], n) => `$${n + 1}::${type}[]`).join(", ")}) WITH ORDINALITY
    AS a (${given.map(([name]) => name).join(", ")}, nth)
  LEFT JOIN spillway.checkpoint c ON c.log_epoch = a.epoch AND c.partition = a.partition
)
SELECT nth::int, ${CHECKPOINT} AS kind, NULL::int AS epoch, next_offset::text AS "offset", NULL::text AS id,
  NULL::text AS type, date_part('epoch', pg_postmaster_start_time()) AS occurred, NULL::float8 AS received,
  NULL::text AS data FROM asked${withIds ? IDENTITIES : ""}
UNION ALL SELECT q.nth::int, found.* FROM asked q, LATERAL (
  WITH ${matches}, sized AS (
    SELECT *, sum(octet_length(data)) OVER (${by} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM matches
  )
  ${filtered ? LOOKED_AT_LAST : ""}(SELECT ${ROW} AS kind, log_epoch::int, "offset"::text, id, type,
    date_part('epoch', occurred_at), date_part('epoch', received_at), data FROM sized
    WHERE coalesce(bytes, 0) < q.bytes_max ORDER BY sized.log_epoch ${direction}, sized."offset" ${direction})) found`;
}

/** By order: without filters, with them; and both once more, looking up identities too. */
const statements = (order: "asc" | "desc") =>
  [
    statement(order, false, false),
    statement(order, true, false),
    statement(order, false, true),
    statement(order, true, true),
  ] as const;
export const PAGE = { asc: statements("asc"), desc: statements("desc") } as const;

export const VERDICTS = `SELECT NULL::int AS nth, partition AS epoch, next_offset::text AS "offset"
  FROM spillway.checkpoint WHERE log_epoch = $1
UNION ALL SELECT wanted.nth::int, e.log_epoch::int, e."offset"::text
  FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (client_id, id, nth), LATERAL (
    SELECT log_epoch, "offset" FROM spillway.event WHERE client_id = wanted.client_id AND id = wanted.id LIMIT 1) e`;
