/** A page's question to the database: what makes two of them one, what it is as parameters, and its answer from rows. Pure. */
import { type Event, eventJson, OCCURRED_AT_MS_MAX, OCCURRED_AT_MS_MIN, timeText } from "#lib/event.ts";
import type { TailEvent } from "./client-tail.ts";
import { type Question, TOO_LARGE } from "./coalesce.ts";
import { hasFilters, type Printed, type RowPlaces, type Selection, type Source } from "./merge.ts";
import type { ClientOrder, Place } from "./places.ts";
import type { Form } from "./queues.ts";
import { LOOKED_AT_NONE, type Looked, SCAN_EVENTS_MAX } from "./scan.ts";
import { CHECKPOINT, IDENTITY, LOOKED_AT, MORE, PAGE, PAGE_BYTES_MAX, ROW } from "./statements.ts";

/** The saved half of a read. All of it is one snapshot. */
export interface Saved {
  /** The checkpoint; null: none, nothing of the partition is saved. */
  readonly nextOffset: bigint | null;
  /** When the server was started, in seconds: another one may have other rows. */
  readonly server: number;
  readonly rows: Source;
  /** For pages with filters. */
  readonly looked: Looked;
  /** Where the identities asked about are saved; others' too, where equal questions were asked as one. */
  readonly places: RowPlaces;
}

/** What a read asks besides the checkpoint. */
export interface Asked {
  /** Are they saved, and where? Of a tail that begins at `tailStart`. */
  readonly events: readonly TailEvent[];
  readonly tailStart: bigint;
  /**
   * Null: no rows are wanted. Otherwise offsets, ascending, of what is looked at before any row: what of it lies at or above
   * the checkpoint leaves the rows less to look at.
   */
  readonly rowsAfter: readonly bigint[] | null;
}

export interface PageForm extends Form {
  /** Without identities to be looked up, and with some. */
  readonly texts: readonly [string, string];
}

/**
 * Sixteen together: three connections 30 ms away answer a thousand a second, and more would only make more wait for the last
 * of them. One with filters looks at up to 10,000 rows, 10 ms.
 */
const form = (texts: PageForm["texts"], filtered: boolean): PageForm => ({
  texts,
  together: filtered ? 4 : 16,
  heavy: filtered,
});
const formsOf = ([plain, filtered, plainIds, filteredIds]: (typeof PAGE)["asc"]) =>
  [form([plain, plainIds], false), form([filtered, filteredIds], true)] as const;
const FORMS = { asc: formsOf(PAGE.asc), desc: formsOf(PAGE.desc) } as const;

/** Of one row of a page's statement: nth, kind, epoch, offset, id, type, occurred, received, data. */
export type AnswerRow = readonly [
  nth: number,
  kind: number,
  epoch: number | null,
  offset: string | null,
  id: string | null,
  type: string | null,
  occurred: number | null,
  received: number | null,
  data: string | null,
];

/** An identity's part of an answer; its id has 128 bytes at most. */
const IDENTITY_BYTES = 128;
/** With others, the `data` of a question's rows may be so many times as long as is expected of it. */
const BYTES_SLACK = 4;
const SHARED_BYTES_MIN = 64 * 1024;

export class PageQuestion implements Question {
  readonly order: ClientOrder;
  readonly selection: Selection;
  readonly form: PageForm;
  readonly key: string;
  readonly bytes: number;
  readonly rowsMax: number;
  readonly rowsAfter: readonly bigint[];
  readonly ids: Set<string>;

  /** @param rowBytes what a row is expected to have */
  constructor(order: ClientOrder, selection: Selection, { events, rowsAfter }: Asked, rowBytes: number) {
    const filtered = rowsAfter !== null && hasFilters(selection);
    this.order = order;
    this.selection = selection;
    this.form = FORMS[selection.order][filtered ? 1 : 0];
    this.rowsMax = rowsAfter === null ? 0 : selection.limit + 1;
    this.rowsAfter = rowsAfter ?? [];
    this.ids = new Set(events.map(({ id }) => id));
    this.key = keyOf(order, selection, this.rowsMax, filtered ? this.rowsAfter : null);
    this.bytes = this.rowsMax * rowBytes + this.ids.size * IDENTITY_BYTES;
  }

  /** Whether these identities are saved is asked besides: reads of one page may have pinned the tail at different moments. */
  join({ ids }: this): void {
    for (const id of ids) this.ids.add(id);
  }

  /** Most bytes of `data` before the last row. @param alone in its statement */
  bytesMax(alone: boolean): number {
    const shared = Math.max(SHARED_BYTES_MIN, Math.ceil(this.bytes) * BYTES_SLACK);
    return alone ? PAGE_BYTES_MAX : Math.min(shared, PAGE_BYTES_MAX);
  }
}

/** @param rowsAfter null: without filters, where it changes nothing */
function keyOf(
  { clientId, epoch }: ClientOrder,
  { order, after, before, types, sinceMs, untilMs }: Selection,
  rowsMax: number,
  rowsAfter: readonly bigint[] | null,
): string {
  const range = `${order} ${epoch} ${rowsMax} ${after.epoch}/${after.offset} ${before?.epoch}/${before?.offset}`;
  if (rowsAfter === null) return `plain ${range} ${clientId}`;
  const filters = `${sinceMs} ${untilMs} ${JSON.stringify(types && [...types])} ${rowsAfter}`;
  return `filtered ${range} ${filters} ${clientId}`;
}

/** The statement that asks them. @param questions of one form, at least one */
export function textOf(questions: readonly PageQuestion[]): string {
  const [without, withIds] = questions[0]?.form.texts ?? ["", ""];
  return questions.some(({ ids }) => ids.size > 0) ? withIds : without;
}

/** As the columns of `asked`. @param questions of one form */
export function parameters(questions: readonly PageQuestion[]): unknown[] {
  const alone = questions.length === 1;
  const column = <T>(of: (question: PageQuestion) => T): T[] => questions.map(of);
  const plain = [
    column(({ order }) => order.clientId),
    column(({ order }) => order.epoch),
    column(({ order }) => order.partition),
    column(({ selection }) => selection.after.epoch),
    column(({ selection }) => selection.after.offset.toString()),
    column(({ selection, order }) => selection.before?.epoch ?? order.epoch + 1),
    column(({ selection }) => (selection.before?.offset ?? -1n).toString()),
    column(({ rowsMax }) => rowsMax),
    column((question) => question.bytesMax(alone)),
    column(({ ids }) => literal([...ids])),
  ];
  if (questions[0]?.form.heavy !== true) return [...plain, Math.max(...column(({ rowsMax }) => rowsMax))];
  return [
    ...plain,
    column(() => SCAN_EVENTS_MAX),
    column(({ selection: { types } }) => types && literal([...types])),
    column(({ selection }) => timestamp(selection.sinceMs)),
    column(({ selection }) => timestamp(selection.untilMs)),
    column(({ rowsAfter }) => literal(rowsAfter.map(String))),
    SCAN_EVENTS_MAX + 1,
  ];
}

/** As PostgreSQL writes an array of text: of arrays in arrays it wants all to be of one length. */
const literal = (texts: readonly string[]): string =>
  `{${texts.map((text) => `"${text.replace(/["\\]/g, "\\$&")}"`).join(",")}}`;

/**
 * As text: PostgreSQL's to_timestamp takes a double of seconds, which is microseconds off in the years 1 and 9999. Beyond
 * what an event can have, where PostgreSQL would not understand the text, no other bound differs from infinity.
 */
function timestamp(ms: number | null): string | null {
  if (ms === null) return null;
  if (ms < OCCURRED_AT_MS_MIN) return "-infinity";
  return ms > OCCURRED_AT_MS_MAX ? "infinity" : timeText(ms);
}

/** What a statement's rows say. */
export interface Understood {
  /** In the order of the questions. */
  readonly answers: (Saved | typeof TOO_LARGE)[];
  readonly events: number;
  /** Of all events, printed. */
  readonly bytes: number;
  readonly server: number;
}

/** @param rows of the statement that asked these questions; each question's in order */
export function understand(questions: readonly PageQuestion[], rows: readonly AnswerRow[]): Understood {
  const alone = questions.length === 1;
  const parts = questions.map((question) => new Part(question));
  for (const row of rows) parts[row[0] - 1]?.take(row);
  return {
    answers: parts.map((part) => part.saved(alone)),
    events: parts.reduce((sum, { events }) => sum + events.length, 0),
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    server: parts[0]?.server ?? 0,
  };
}

/** One question's part of the answer. */
class Part {
  readonly #question: PageQuestion;
  readonly events: Printed[] = [];
  bytes = 0;
  server = 0;
  readonly #places = new Map<string, Place>();
  #nextOffset: bigint | null = null;
  #seen: AnswerRow | null = null;
  #dataBytes = 0;

  constructor(question: PageQuestion) {
    this.#question = question;
  }

  take(row: AnswerRow): void {
    const [, kind, , offset, id, , server, , data] = row;
    if (kind === ROW) {
      const { order } = this.#question;
      const place = placeOf(row);
      const json = eventJson(eventOf(order.clientId, row), order.cursor(place));
      this.events.push({ place, json });
      this.bytes += json.length;
      if (data !== null) this.#dataBytes += Buffer.byteLength(data);
    } else if (kind === IDENTITY) this.#places.set(id ?? "", placeOf(row));
    else if (kind === LOOKED_AT) this.#seen = row;
    else if (kind === CHECKPOINT)
      [this.#nextOffset, this.server] = [offset === null ? null : BigInt(offset), server ?? 0];
  }

  saved(alone: boolean): Saved | typeof TOO_LARGE {
    const { order, rowsAfter, rowsMax } = this.#question;
    const [seen, cutByBytes] = [this.#seen, this.#dataBytes >= this.#question.bytesMax(alone)];
    if (cutByBytes && !alone) return TOO_LARGE;
    const looked = seen?.[3] ? { rows: seen[6] ?? 0, to: placeOf(seen) } : LOOKED_AT_NONE;
    // Nothing was left for the rows: then the page has looked as far as the last event above them.
    const above = rowsAfter.find((offset) => offset >= (this.#nextOffset ?? 0n));
    const lookedTo = looked.to ?? (above === undefined ? null : { epoch: order.epoch, offset: above });
    // Cut by the limit or by bytes: up to the last row. By the bound on what a filter looks at: up to where it looked.
    const full = rowsMax > 0 && (this.events.length >= rowsMax || cutByBytes);
    const cutAt = full ? (this.events.at(-1)?.place ?? null) : seen?.[4] === MORE ? lookedTo : null;
    const rows = { events: this.events, cutAt };
    return { nextOffset: this.#nextOffset, server: this.server, places: this.#places, rows, looked };
  }
}

const placeOf = ([, , epoch, offset]: AnswerRow): Place => ({ epoch: epoch ?? 0, offset: BigInt(offset ?? "-1") });

/** Seconds with three decimals, as a double that is off by less than a tenth of a millisecond. */
const milliseconds = (seconds: number | null): number => Math.round((seconds ?? 0) * 1_000);

const eventOf = (clientId: string, [, , , , id, type, occurred, received, data]: AnswerRow): Event => ({
  clientId,
  id: id ?? "",
  type: type ?? "",
  occurredAtMs: milliseconds(occurred),
  receivedAtMs: milliseconds(received),
  data,
});
