/** SQL: what is saved of a client, each time with the checkpoint from the same snapshot. One statement a question. */
import { type Event, eventJson, OCCURRED_AT_MS_MAX, OCCURRED_AT_MS_MIN, timeText } from "#lib/event.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { TailEvent } from "./client-tail.ts";
import { hasFilters, type Printed, type RowPlaces, SCAN_EVENTS_MAX, type Selection, type Source } from "./merge.ts";
import type { ClientOrder, Place } from "./places.ts";
import { CHECKPOINT, IDENTITY, LOOKED_AT, PAGE, ROW, VERDICTS } from "./statements.ts";

/** The saved half of a read. All of it is one snapshot. */
export interface Saved {
  /** The checkpoint; null: none, nothing of the partition is saved. */
  readonly nextOffset: bigint | null;
  readonly rows: Source;
  /** Where the identities asked about are saved. */
  readonly places: RowPlaces;
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
   * @param withRows false: only checkpoint and identities
   * @throws whatever the pool gives; the statement is given up after `timeoutMs`
   */
  async page(
    order: ClientOrder,
    selection: Selection,
    events: readonly TailEvent[],
    withRows: boolean,
    timeoutMs: number,
  ): Promise<Saved> {
    const filtered = hasFilters(selection);
    const limit = withRows ? selection.limit + 1 : 0;
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
    if (filtered)
      values.push(withRows ? SCAN_EVENTS_MAX : 0, types && [...types], timestamp(sinceMs), timestamp(untilMs));
    const answers = await this.#pool.query<Answer>(PAGE[selection.order][filtered ? 1 : 0], values, timeoutMs);
    return understand(order, answers, limit, filtered);
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

function understand(order: ClientOrder, answers: readonly Answer[], limit: number, filtered: boolean): Saved {
  const of = (kind: number): readonly Answer[] => answers.filter((answer) => answer.kind === kind);
  const events = of(ROW).map((answer) => {
    const place = placeOf(answer);
    return { place, json: eventJson(eventOf(order, answer), order.cursor(place)) };
  });
  const checkpoint = of(CHECKPOINT)[0]?.offset ?? null;
  return {
    nextOffset: checkpoint === null ? null : BigInt(checkpoint),
    places: new Map(of(IDENTITY).map((answer) => [answer.id ?? "", placeOf(answer)])),
    rows: { events, cutAt: limit === 0 ? null : cutAt(events, of(LOOKED_AT)[0], limit, filtered) },
  };
}

/** Cut by the limit or by bytes: up to the last row. Cut by the bound on what a filter looks at: up to where it looked. */
function cutAt(events: readonly Printed[], seen: Answer | undefined, limit: number, filtered: boolean): Place | null {
  const { matches, looked } = { matches: seen?.received ?? 0, looked: seen?.occurred ?? 0 };
  if (events.length < matches || events.length >= limit) return events.at(-1)?.place ?? null;
  return filtered && seen !== undefined && looked >= SCAN_EVENTS_MAX ? placeOf(seen) : null;
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
