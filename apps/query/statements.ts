/** The SQL of rows.ts. */

/** What a row of a page's answer is. */
export const [CHECKPOINT, LOOKED_AT, IDENTITY, ROW] = [0, 1, 2, 3] as const;

/**
 * Most bytes of events in one page; the first event always comes. A page of 1,000 could otherwise be 256 MiB. The database
 * counts `data` alone and so never gives fewer rows than the page takes: where the page ends is decided in merge.ts.
 */
export const PAGE_BYTES_MAX = 8 * 1024 * 1024;

/** Half-open in SQL as in the cursor: above $4/$5, below $6/$7, and below the checkpoint of this snapshot. */
const RANGE = `e.client_id = $1
    AND (e.log_epoch, e."offset") > ($4::smallint, $5::bigint)
    AND (e.log_epoch, e."offset") < ($6::smallint, $7::bigint)
    AND (e.log_epoch, e."offset") < ($2::smallint, coalesce((SELECT next_offset FROM mark), 0))`;

const FIELDS = `e.log_epoch, e."offset", e.id, e.type, e.occurred_at, e.received_at, e.data`;

/** The rows without filters: the index alone bounds the work. */
const matchesPlain = (direction: string): string => `matches AS (
  SELECT ${FIELDS} FROM spillway.event e WHERE ${RANGE}
  ORDER BY e.log_epoch ${direction}, e."offset" ${direction} LIMIT $8)`;

/** The `id` of what was looked at, where there is more to look at. */
export const MORE = "more";

/**
 * With filters: at most $10 rows are looked at, matching or not, less what of $14 lies above the rows; and one more, to know
 * whether there is one. LIMIT has a plain parameter, which the planner knows: it must not plan to read them all.
 */
const matchesFiltered = (direction: string): string => `seen AS MATERIALIZED (
  SELECT log_epoch, "offset", type, occurred_at,
    row_number() OVER (ORDER BY log_epoch ${direction}, "offset" ${direction}) AS nth
  FROM (SELECT e.log_epoch, e."offset", e.type, e.occurred_at FROM spillway.event e WHERE ${RANGE}
    ORDER BY e.log_epoch ${direction}, e."offset" ${direction} LIMIT $10::int + 1) s
), looked AS MATERIALIZED (
  SELECT * FROM seen WHERE nth <= $10 - (
    SELECT count(*) FROM unnest($14::bigint[]) AS above (o) WHERE o >= coalesce((SELECT next_offset FROM mark), 0))
), matches AS (
  SELECT ${FIELDS} FROM (
    SELECT log_epoch, "offset" FROM looked
    WHERE ($11::text[] IS NULL OR type = ANY ($11))
      AND ($12::timestamptz IS NULL OR occurred_at >= $12)
      AND ($13::timestamptz IS NULL OR occurred_at < $13)
    ORDER BY log_epoch ${direction}, "offset" ${direction} LIMIT $8
  ) s JOIN spillway.event e ON e.client_id = $1 AND e.log_epoch = s.log_epoch AND e."offset" = s."offset")`;

const LOOKED_AT_LAST = `(SELECT log_epoch FROM looked ORDER BY nth DESC LIMIT 1)::int,
    (SELECT "offset" FROM looked ORDER BY nth DESC LIMIT 1)::text,
    CASE WHEN (SELECT count(*) FROM seen) > (SELECT count(*) FROM looked) THEN '${MORE}' END, NULL,
    (SELECT count(*) FROM looked)::float8, (SELECT count(*) FROM matches)::float8, NULL`;

/** LATERAL with LIMIT: whatever the statistics say, each identity is one probe of the unique index. */
function statement(order: "asc" | "desc", filtered: boolean): string {
  const direction = order === "asc" ? "ASC" : "DESC";
  const matches = filtered ? matchesFiltered(direction) : matchesPlain(direction);
  // The last ORDER BY names its table: a bare "offset" would be the output column, which is text, and 10 come before 9.
  const by = `ORDER BY log_epoch ${direction}, "offset" ${direction}`;
  return `WITH mark AS MATERIALIZED (
  SELECT (SELECT next_offset FROM spillway.checkpoint WHERE log_epoch = $2 AND partition = $3) AS next_offset
), ${matches}, sized AS (
  SELECT *, sum(octet_length(data::text)) OVER (${by} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes FROM matches
)
SELECT ${CHECKPOINT} AS kind, NULL::int AS epoch, next_offset::text AS "offset", NULL::text AS id, NULL::text AS type,
  NULL::float8 AS occurred, NULL::float8 AS received, NULL::text AS data FROM mark
UNION ALL SELECT ${LOOKED_AT}, ${filtered ? LOOKED_AT_LAST : "NULL, NULL, NULL, NULL, 0, (SELECT count(*) FROM matches)::float8, NULL"}
UNION ALL SELECT ${IDENTITY}, i.log_epoch, i."offset"::text, i.id, NULL, NULL, NULL, NULL
  FROM unnest($9::text[]) AS wanted (id), LATERAL (
    SELECT e.log_epoch, e."offset", e.id FROM spillway.event e WHERE e.client_id = $1 AND e.id = wanted.id LIMIT 1) i
UNION ALL (SELECT ${ROW}, log_epoch, "offset"::text, id, type, (extract(epoch FROM occurred_at) * 1000)::float8,
  (extract(epoch FROM received_at) * 1000)::float8, data::text FROM sized WHERE coalesce(bytes, 0) < ${PAGE_BYTES_MAX}
  ORDER BY sized.log_epoch ${direction}, sized."offset" ${direction})`;
}

export const PAGE = {
  asc: [statement("asc", false), statement("asc", true)],
  desc: [statement("desc", false), statement("desc", true)],
} as const;

export const VERDICTS = `SELECT NULL::int AS nth, partition AS epoch, next_offset::text AS "offset"
  FROM spillway.checkpoint WHERE log_epoch = $1
UNION ALL SELECT wanted.nth::int, e.log_epoch::int, e."offset"::text
  FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (client_id, id, nth), LATERAL (
    SELECT log_epoch, "offset" FROM spillway.event WHERE client_id = wanted.client_id AND id = wanted.id LIMIT 1) e`;
