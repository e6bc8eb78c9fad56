/** What the page's statement answers, on the world's rows: row for row what the SQL of statements.ts gives. */
import { comparePlaces, type Place } from "../../../../apps/query/places.ts";
import type { AnswerRow } from "../../../../apps/query/questions.ts";
import { CHECKPOINT, IDENTITY, LOOKED_AT, MORE, PAGE, ROW } from "../../../../apps/query/statements.ts";
import type { ModelRecord } from "../model.ts";
import type { Moment } from "./world.ts";

/** A row of `asked`: the parameters of one question. */
interface Question {
  readonly clientId: string;
  readonly end: Place;
  readonly checkpoint: bigint | null;
  readonly after: Place;
  readonly before: Place;
  readonly rowsMax: number;
  readonly bytesMax: number;
  readonly ids: readonly string[];
  /** Null: without filters. */
  readonly filter: Filter | null;
}

interface Filter {
  readonly looksMax: number;
  readonly types: readonly string[] | null;
  readonly since: number;
  readonly until: number;
  readonly above: readonly string[];
}

const PLAIN_COLUMNS = 10;
const FILTER_COLUMNS = 5;

/** @param text one of the page's statements. @param given its parameters */
export function answer(moment: Moment, text: string, given: readonly unknown[]): AnswerRow[] {
  const descending = (PAGE.desc as readonly string[]).includes(text);
  const filtered = given.length > PLAIN_COLUMNS + 1;
  const columns = given.slice(0, PLAIN_COLUMNS + (filtered ? FILTER_COLUMNS : 0)) as unknown[][];
  return (columns[0] ?? []).flatMap((_, nth) => {
    const question = questionOf(
      moment,
      columns.map((column) => column[nth]),
      filtered,
    );
    return answerOf(moment, question, descending).map((row): AnswerRow => [nth + 1, ...row]);
  });
}

type Row = readonly [...Tail<AnswerRow>];
type Tail<T extends readonly unknown[]> = T extends readonly [unknown, ...infer Rest] ? Rest : never;

function answerOf(moment: Moment, question: Question, descending: boolean): Row[] {
  const saved = moment.rows.get(question.clientId) ?? [];
  const { matches, lookedAt } = matching(inRange(saved, question, descending), question);
  return [
    [CHECKPOINT, null, question.checkpoint?.toString() ?? null, null, null, moment.server, null, null],
    ...saved
      .filter(({ event }) => question.ids.includes(event.id))
      .map(({ place, event }): Row => [IDENTITY, place.epoch, `${place.offset}`, event.id, null, null, null, null]),
    ...lookedAt,
    ...upToBytes(matches, question.bytesMax).map(rowOf),
  ];
}

const rowOf = ({ place, event: { id, type, occurredAtMs, receivedAtMs, data } }: ModelRecord): Row => [
  ...([ROW, place.epoch, `${place.offset}`, id, type] as const),
  ...([occurredAtMs / 1_000, receivedAtMs / 1_000, data] as const),
];

function matching(range: readonly ModelRecord[], { rowsMax, filter, checkpoint }: Question) {
  if (filter === null) return { matches: range.slice(0, rowsMax), lookedAt: [] };
  const { looksMax, types, since, until } = filter;
  const above = filter.above.filter((offset) => BigInt(offset) >= (checkpoint ?? 0n)).length;
  const seen = range.slice(0, looksMax + 1);
  const looked = seen.slice(0, Math.max(0, looksMax - above));
  const last = looked.at(-1)?.place;
  const more = seen.length > looked.length ? MORE : null;
  const lookedAt: Row[] = [
    [LOOKED_AT, last?.epoch ?? null, last?.offset.toString() ?? null, more, null, looked.length, null, null],
  ];
  const matches = looked.filter(
    ({ event: { type, occurredAtMs } }) =>
      (types === null || types.includes(type)) && occurredAtMs >= since && occurredAtMs < until,
  );
  return { matches: matches.slice(0, rowsMax), lookedAt };
}

function inRange(saved: readonly ModelRecord[], { after, before, end }: Question, descending: boolean): ModelRecord[] {
  const found = saved.filter(
    ({ place }) => comparePlaces(place, after) > 0 && comparePlaces(place, before) < 0 && comparePlaces(place, end) < 0,
  );
  return descending ? found.reverse() : found;
}

function upToBytes(matches: readonly ModelRecord[], bytesMax: number): ModelRecord[] {
  let bytes = 0;
  return matches.filter(({ event }) => {
    const before = bytes;
    bytes += Buffer.byteLength(event.data ?? "");
    return before < bytesMax;
  });
}

function questionOf(moment: Moment, given: readonly unknown[], filtered: boolean): Question {
  const [clientId, epoch, partition, afterEpoch, afterOffset, beforeEpoch, beforeOffset] = given as string[];
  const [rowsMax, bytesMax, ids, looksMax, types, since, until, above] = given.slice(7) as string[];
  const checkpoint = moment.checkpoints[Number(partition)] ?? null;
  const place = (of: string | undefined, offset: string | undefined): Place => ({
    epoch: Number(of),
    offset: BigInt(offset ?? 0),
  });
  const filter = {
    looksMax: Number(looksMax),
    types: types == null ? null : texts(types),
    since: since == null ? Number.NEGATIVE_INFINITY : Date.parse(since),
    until: until == null ? Number.POSITIVE_INFINITY : Date.parse(until),
    above: texts(above),
  };
  return {
    clientId: clientId ?? "",
    checkpoint,
    end: place(epoch, `${checkpoint ?? 0n}`),
    after: place(afterEpoch, afterOffset),
    before: place(beforeEpoch, beforeOffset),
    rowsMax: Number(rowsMax),
    bytesMax: Number(bytesMax),
    ids: texts(ids),
    filter: filtered ? filter : null,
  };
}

/** An array as PostgreSQL writes it; the world's texts hold nothing to be escaped. */
const texts = (array: string | undefined): string[] => JSON.parse(`[${array?.slice(1, -1) ?? ""}]`) as string[];
