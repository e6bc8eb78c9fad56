/** SQL: dead letters by their place on the log, and what is remembered of their re-drives. */
import type { Position } from "#lib/cursor.ts";
import type { Pool } from "#lib/postgres/pool.ts";

/** One dead letter. Times are printed by the database: a record's own may lie beyond what JavaScript knows. */
export interface DeadLetter {
  readonly position: Position;
  readonly reason: string;
  readonly detail: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly recordTime: string;
  readonly setAsideAt: string;
  readonly redriven: { readonly at: string; readonly position: Position } | null;
}

/** Null: no such filter. */
export interface Selection {
  /** Those to look at by name; otherwise all between `after` and `through`. */
  readonly names: readonly Position[] | null;
  /** Exclusive. */
  readonly after: Position;
  /** Inclusive. */
  readonly through: Position | null;
  readonly reason: string | null;
  readonly partition: number | null;
  readonly redriven: boolean | null;
  readonly limit: number;
}

/** Some dead letters in the order of the log. */
export interface Letters {
  readonly letters: readonly DeadLetter[];
  /** Everything up to here, in this order, is in `letters` or passed over by the filters. */
  readonly next: Position;
  readonly hasMore: boolean;
}

/** A dead letter, and where its event stands now. */
export interface Redriven {
  readonly from: Position;
  readonly to: Position;
}

/** Bounds the work of one page, whatever its filters leave: about 50 ms. */
const LOOKED_AT_MAX = 10_000;
/** Of the keys and values in one page; the first dead letter always comes. */
const BYTES_MAX = 8 * 1024 * 1024;
const STATEMENT_MS_MAX = 10_000;

const FIELDS = `d.log_epoch, d.partition, d."offset", d.reason, d.redriven_at,
  coalesce(octet_length(d.key), 0) + coalesce(octet_length(d.value), 0) AS bytes`;
const ORDER = 'ORDER BY log_epoch, partition, "offset"';

const NAMED = `SELECT ${FIELDS} FROM unnest($5::int[], $6::int[], $7::bigint[]) AS named (log_epoch, partition, "offset")
    JOIN spillway.dead_letter d USING (log_epoch, partition, "offset")`;
const RANGE = `SELECT ${FIELDS} FROM spillway.dead_letter d
    WHERE (log_epoch, partition, "offset") > ($5::int, $6::int, $7::bigint)
      AND ($8::int IS NULL OR (log_epoch, partition, "offset") <= ($8::int, $9::int, $10::bigint))
    ${ORDER} LIMIT ${LOOKED_AT_MAX + 1}`;

const time = (column: string): string =>
  `to_char(d.${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS ${column}`;

/** One row more than the limit, to know whether there is one. `cut`: by the limit or by bytes, before the end of what was seen. */
const statement = (source: string): string => `WITH seen AS MATERIALIZED (
  SELECT *, row_number() OVER (${ORDER}) AS nth FROM (${source}) s
), matches AS MATERIALIZED (
  SELECT *, sum(bytes) OVER (ORDER BY nth ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before FROM (
    SELECT * FROM seen WHERE nth <= ${LOOKED_AT_MAX} AND ($2::text IS NULL OR reason = $2)
      AND ($3::int IS NULL OR partition = $3) AND ($4::boolean IS NULL OR (redriven_at IS NOT NULL) = $4)
    ORDER BY nth LIMIT $1::int + 1) s
), taken AS MATERIALIZED (
  SELECT * FROM matches WHERE coalesce(bytes_before, 0) < ${BYTES_MAX} ORDER BY nth LIMIT $1
), ended AS (
  SELECT (SELECT count(*) FROM matches) > (SELECT count(*) FROM taken) AS cut,
    (SELECT count(*) FROM seen) > ${LOOKED_AT_MAX} AS more, last.log_epoch AS last_epoch, last.partition AS last_partition,
    last."offset" AS last_offset
  FROM (SELECT) one LEFT JOIN LATERAL (SELECT * FROM seen WHERE nth <= ${LOOKED_AT_MAX} ORDER BY nth DESC LIMIT 1) last ON true
)
SELECT ended.*, d.log_epoch, d.partition, d."offset", d.reason, d.detail, d.key, d.value, ${time("record_time")},
  ${time("set_aside_at")}, ${time("redriven_at")}, d.redriven_epoch, d.redriven_partition, d.redriven_offset
FROM ended LEFT JOIN (taken JOIN spillway.dead_letter d USING (log_epoch, partition, "offset")) ON true ORDER BY taken.nth`;

const [BY_NAME, BY_RANGE] = [statement(NAMED), statement(RANGE)];

const MARK = `UPDATE spillway.dead_letter d
  SET redriven_at = now(), redriven_epoch = m.epoch, redriven_partition = m.at, redriven_offset = m.o
  FROM unnest($1::int[], $2::int[], $3::bigint[], $4::int[], $5::int[], $6::bigint[])
    AS m (log_epoch, partition, "offset", epoch, at, o)
  WHERE d.log_epoch = m.log_epoch AND d.partition = m.partition AND d."offset" = m."offset"`;

interface Answer extends Record<string, unknown> {
  readonly cut: boolean;
  readonly more: boolean;
  /** Null: nothing was seen. */
  readonly last_epoch: number | null;
  readonly last_partition: number;
  readonly last_offset: string;
  /** Null: nothing was taken. */
  readonly log_epoch: number | null;
  readonly partition: number;
  readonly offset: string;
  readonly reason: string;
  readonly detail: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly record_time: string;
  readonly set_aside_at: string;
  readonly redriven_at: string | null;
  readonly redriven_epoch: number;
  readonly redriven_partition: number;
  readonly redriven_offset: string;
}

export class DeadLetterRows {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** @throws whatever the pool gives */
  async select({ names, after, through, reason, partition, redriven, limit }: Selection): Promise<Letters> {
    const range = [after.epoch, after.partition, after.offset, through?.epoch, through?.partition, through?.offset];
    const answers = await this.#pool.query<Answer>(
      names === null ? BY_RANGE : BY_NAME,
      [limit, reason, partition, redriven, ...(names === null ? range : columns(names))],
      STATEMENT_MS_MAX,
    );
    const letters = answers.flatMap(letterOf);
    const [ended] = answers;
    const seen = ended === undefined || ended.last_epoch === null ? after : lastSeen(ended, ended.last_epoch);
    const cut = ended?.cut ? letters.at(-1)?.position : undefined;
    return { letters, next: cut ?? seen, hasMore: cut !== undefined || ended?.more === true };
  }

  /** Remembers that these were re-driven now. @throws as `select` */
  async mark(redriven: readonly Redriven[]): Promise<void> {
    const values = [...columns(redriven.map(({ from }) => from)), ...columns(redriven.map(({ to }) => to))];
    await this.#pool.query(MARK, values, STATEMENT_MS_MAX);
  }
}

const columns = (positions: readonly Position[]): unknown[] => [
  positions.map(({ epoch }) => epoch),
  positions.map(({ partition }) => partition),
  positions.map(({ offset }) => offset.toString()),
];

const lastSeen = ({ last_partition, last_offset }: Answer, epoch: number): Position => ({
  epoch,
  partition: last_partition,
  offset: BigInt(last_offset),
});

const redrivenTo = ({ redriven_epoch, redriven_partition, redriven_offset }: Answer): Position => ({
  epoch: redriven_epoch,
  partition: redriven_partition,
  offset: BigInt(redriven_offset),
});

function letterOf(answer: Answer): DeadLetter[] {
  const { log_epoch: epoch, partition, offset, reason, detail, key, value, redriven_at: at } = answer;
  if (epoch === null) return [];
  return [
    {
      position: { epoch, partition, offset: BigInt(offset) },
      reason,
      detail,
      key,
      value,
      recordTime: answer.record_time,
      setAsideAt: answer.set_aside_at,
      redriven: at === null ? null : { at, position: redrivenTo(answer) },
    },
  ];
}
