/** SQL: what is saved of a client, each time with the checkpoint from the same snapshot. One statement a question. */
import { type Event, eventJson, OCCURRED_AT_MS_MAX, OCCURRED_AT_MS_MIN, timeText } from "#lib/event.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { TailEvent } from "./client-tail.ts";
import { hasFilters, type Printed, type RowPlaces, type Selection, type Source } from "./merge.ts";
import type { ClientOrder, Place } from "./places.ts";
import { LOOKED_AT_NONE, type Looked, SCAN_EVENTS_MAX } from "./scan.ts";
import { CHECKPOINT, IDENTITY, LOOKED_AT, MORE, PAGE, ROW, VERDICTS } from "./statements.ts";

/** The saved half of a read. All of it is one snapshot. */
export interface Saved {
  /** The checkpoint; null: none, nothing of the partition is saved. */
  readonly nextOffset: bigint | null;
  readonly rows: Source;
  /** For pages with filters. */
  readonly looked: Looked;
  /** Where the identities asked about are saved. */
  readonly places: RowPlaces;
}

/** What a read asks besides the checkpoint. */
export interface Asked {
  /** Are they saved, and where? */
  readonly events: readonly TailEvent[];
  /**
   * Null: no rows are wanted. Otherwise offsets, ascending, of what is looked at before any row: what of it lies at or above
   * the checkpoint leaves the rows less to look at.
   */
  readonly rowsAfter: readonly bigint[] | null;
}

/** What live followers need to know about events. */
export interface Verdicts {
  readonly checkpoints: ReadonlyMap<number, bigint>;
  /** In the order asked; null: not saved. */
  readonly places: readonly (Place | null)[];
}

interface Answer extends Record<string, unknown> {
  readonly kind: number;
  readonly epoch: number | null;
  readonly offset: string | null;
  readonly id: string | null;
  readonly type: string | null;
  readonly occurred: number | null;
  readonly received: number | null;
  readonly data: string | null;
}

export class Rows {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /**
   * Checkpoint, a page of rows below it, and where the identities given are saved: one snapshot.
   * @throws whatever the pool gives; the statement is given up after `timeoutMs`
   */
  async page(
    order: ClientOrder,
    selection: Selection,
    { events, rowsAfter }: Asked,
    timeoutMs: number,
  ): Promise<Saved> {
    const filtered = hasFilters(selection);
    const limit = rowsAfter === null ? 0 : selection.limit + 1;
    const { after, before, types, sinceMs, untilMs } = selection;
    const values: unknown[] = [
      order.clientId,
      order.epoch,
      order.partition,
      after.epoch,
      after.offset.toString(),
      before?.epoch ?? order.epoch + 1,
      (before?.offset ?? -1n).toString(),
      limit,
      events.map(({ id }) => id),
    ];
    if (filtered) {
      const looks = rowsAfter === null ? 0 : SCAN_EVENTS_MAX;
      values.push(looks, types && [...types], timestamp(sinceMs), timestamp(untilMs), (rowsAfter ?? []).map(String));
    }
    const answers = await this.#pool.query<Answer>(PAGE[selection.order][filtered ? 1 : 0], values, timeoutMs);
    return understand(order, answers, limit, rowsAfter ?? []);
  }

  /** Every partition's checkpoint; partitions without one are left out. @throws as `page` */
  async checkpoints(epoch: number, timeoutMs: number): Promise<ReadonlyMap<number, bigint>> {
    const rows = await this.#pool.query<{ partition: number; next_offset: string }>(
      "SELECT partition, next_offset::text FROM spillway.checkpoint WHERE log_epoch = $1",
      [epoch],
      timeoutMs,
    );
    return new Map(rows.map((row) => [row.partition, BigInt(row.next_offset)]));
  }

  /** Where events of any clients are saved, with the checkpoints: one snapshot. @throws as `page` */
  async verdicts(epoch: number, events: readonly TailEvent[], timeoutMs: number): Promise<Verdicts> {
    const rows = await this.#pool.query<{ nth: number | null; epoch: number; offset: string }>(
      VERDICTS,
      [epoch, events.map(({ clientId }) => clientId), events.map(({ id }) => id)],
      timeoutMs,
    );
    const checkpoints = new Map<number, bigint>();
    const places = new Array<Place | null>(events.length).fill(null);
    for (const { nth, epoch: number, offset } of rows) {
      if (nth === null) checkpoints.set(number, BigInt(offset));
      else places[nth - 1] = { epoch: number, offset: BigInt(offset) };
    }
    return { checkpoints, places };
  }
}

function understand(
  order: ClientOrder,
  answers: readonly Answer[],
  limit: number,
  rowsAfter: readonly bigint[],
): Saved {
  const of = (kind: number): readonly Answer[] => answers.filter((answer) => answer.kind === kind);
  const events = of(ROW).map((answer) => {
    const place = placeOf(answer);
    return { place, json: eventJson(eventOf(order, answer), order.cursor(place)) };
  });
  const checkpoint = of(CHECKPOINT)[0]?.offset ?? null;
  const nextOffset = checkpoint === null ? null : BigInt(checkpoint);
  const seen = of(LOOKED_AT)[0];
  const looked = seen?.offset ? { rows: seen.occurred ?? 0, to: placeOf(seen) } : LOOKED_AT_NONE;
  // Nothing was left for the rows: then the page has looked as far as the last event above them.
  const above = rowsAfter.find((offset) => offset >= (nextOffset ?? 0n));
  const lookedTo = looked.to ?? (above === undefined ? null : { epoch: order.epoch, offset: above });
  return {
    nextOffset,
    places: new Map(of(IDENTITY).map((answer) => [answer.id ?? "", placeOf(answer)])),
    rows: { events, cutAt: limit === 0 ? null : cutAt(events, seen, limit, lookedTo) },
    looked,
  };
}

/** Cut by the limit or by bytes: up to the last row. Cut by the bound on what a filter looks at: up to where it looked. */
function cutAt(events: readonly Printed[], seen: Answer | undefined, limit: number, to: Place | null): Place | null {
  const matches = seen?.received ?? 0;
  if (events.length < matches || events.length >= limit) return events.at(-1)?.place ?? null;
  return seen?.id === MORE ? to : null;
}

/**
 * As text: PostgreSQL's to_timestamp takes a double of seconds, which is microseconds off in the years 1 and 9999. Beyond
 * what an event can have, where PostgreSQL would not understand the text, no other bound differs from infinity.
 */
function timestamp(ms: number | null): string | null {
  if (ms === null) return null;
  if (ms < OCCURRED_AT_MS_MIN) return "-infinity";
  return ms > OCCURRED_AT_MS_MAX ? "infinity" : timeText(ms);
}

const placeOf = ({ epoch, offset }: Answer): Place => ({ epoch: epoch ?? 0, offset: BigInt(offset ?? "-1") });

function eventOf({ clientId }: ClientOrder, row: Answer): Event {
  return {
    clientId,
    id: row.id ?? "",
    type: row.type ?? "",
    occurredAtMs: row.occurred ?? 0,
    receivedAtMs: row.received ?? 0,
    data: row.data,
  };
}
