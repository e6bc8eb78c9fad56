/**
 * The world that a query node lives in: a log of two partitions, what its sink has saved of it, and an older log that is all
 * saved. Every state of the database is kept, so that a page can be judged by the moments that it may have been read at.
 */
import { encodeEvent } from "#lib/codec.ts";
import { type Event, eventJson } from "#lib/event.ts";
import type { LogRecord } from "#lib/kafka/ports.ts";
import { ClientOrder, type Epochs, type Place } from "../../../../apps/query/places.ts";
import { clientOf } from "../../../support/records.ts";
import type { ModelRecord, randomFrom } from "../model.ts";

export type Random = ReturnType<typeof randomFrom>;

export const EPOCH = 2;
export const PARTITIONS = 2;
const OLD_PARTITIONS = 3;
const EPOCHS: Epochs = {
  epoch: EPOCH,
  partitions: new Map([
    [1, OLD_PARTITIONS],
    [EPOCH, PARTITIONS],
  ]),
};
/** Two of each partition. */
export const CLIENTS = [0, 1, 0, 1].map((partition, n) => clientOf(partition, PARTITIONS, `c${n}`));
export const ORDERS: ReadonlyMap<string, ClientOrder> = new Map(
  CLIENTS.map((clientId) => [clientId, new ClientOrder(clientId, EPOCHS)]),
);
export const TYPES = ["x", "y"] as const;
/** `occurredAt` lies below it. */
export const TIMES = 100;
const OLD_RECORDS = 30;

/** One partition of the log in use. */
export interface Part {
  /** By offset: data records; other offsets hold none. */
  readonly records: LogRecord[];
  /** The first offset that the log still has. */
  start: bigint;
  /** One past the last offset. */
  end: bigint;
}

/** One state of the database; never changed. */
export interface Moment {
  /** By partition; null: none. */
  readonly checkpoints: readonly (bigint | null)[];
  /** By client, in order. All of the log in use lie below their partition's checkpoint. */
  readonly rows: ReadonlyMap<string, readonly ModelRecord[]>;
  /** It lacks rows or a checkpoint that the one before had. */
  readonly less: boolean;
  /** When the server was started: rows that had gone come back in another one. */
  readonly server: number;
}

export class World {
  readonly parts: readonly Part[] = Array.from({ length: PARTITIONS }, () => ({ records: [], start: 0n, end: 0n }));
  /** By client: what the log in use has ever held, in order. */
  readonly log = new Map<string, ModelRecord[]>(CLIENTS.map((clientId) => [clientId, []]));
  readonly moments: Moment[] = [];
  #erased = false;
  /** All of the log before. */
  readonly #old: ReadonlyMap<string, readonly ModelRecord[]>;
  /** By the text that a page shows. */
  readonly byJson = new Map<string, ModelRecord>();
  random: Random;
  /** What happened, in words. */
  readonly told: string[] = [];
  /** What an event's data has besides its place. */
  ballast: () => string = () => "";

  constructor(random: Random) {
    this.random = random;
    const rows = new Map<string, ModelRecord[]>(CLIENTS.map((clientId) => [clientId, []]));
    for (let offset = 0n; offset < OLD_RECORDS; offset++) {
      const record = this.#record(random.pick(CLIENTS), { epoch: 1, offset });
      const { clientId, id } = record.event;
      if (!rows.get(clientId)?.some(({ event }) => event.id === id)) rows.get(clientId)?.push(record);
    }
    this.#old = rows;
    // Before the log was adopted, as an old backup has it: of the one before some is not saved yet.
    const some = new Map(
      [...rows].map(([clientId, all]) => [
        clientId,
        all.filter(({ place }) => Number(place.offset) < Number(OLD_RECORDS) / 2),
      ]),
    );
    this.moments.push({ checkpoints: Array(PARTITIONS).fill(null), rows: some, less: false, server: 1 });
    this.#begin();
  }

  get now(): Moment {
    return this.moments.at(-1) as Moment;
  }

  tell(what: string): void {
    this.told.push(what);
  }

  /** What is between the checkpoint and the log's end. */
  unsaved(partition: number): number {
    return Number(this.part(partition).end - this.saved(partition));
  }

  saved(partition: number): bigint {
    return this.now.checkpoints[partition] ?? 0n;
  }

  part(partition: number): Part {
    return this.parts[partition] as Part;
  }

  /** Events, copies of earlier ones, records that are no events, and offsets without a record. */
  append(partition: number, count: number): void {
    const { random } = this;
    const part = this.part(partition);
    const from = part.end;
    for (let n = 0; n < count; n++) {
      const dice = random.next();
      const clientId = CLIENTS[random.below(2) * PARTITIONS + partition] as string;
      if (dice < 0.8) this.#append(partition, clientId);
      else if (dice < 0.9) this.#place(part, clientId, Buffer.from("no event"));
      else part.end++;
    }
    this.tell(`append ${partition}: ${from}…${part.end - 1n}`);
  }

  /** Events of one client by their ids. */
  appendIds(clientId: string, ids: readonly string[]): void {
    const partition = partitionOf(clientId);
    for (const id of ids) this.#append(partition, clientId, id);
    this.tell(`append ${partition}: ${ids.length} of ${clientId}`);
  }

  /** As the sink does: all up to `below`, and of each identity the first; what is no event is set aside. */
  save(partition: number, below: bigint): void {
    if (this.now.checkpoints[partition] === null) this.#begin();
    const from = this.saved(partition);
    const rows = new Map(this.now.rows);
    for (const clientId of clientsOf(partition)) {
      const kept = [...(rows.get(clientId) ?? [])];
      const ids = new Set(kept.map(({ event }) => event.id));
      for (const record of this.unsavedOf(clientId, from, below)) {
        if (ids.has(record.event.id)) continue;
        ids.add(record.event.id);
        kept.push(record);
      }
      rows.set(clientId, kept);
    }
    this.#now(rows, partition, below, false);
    this.tell(`save ${partition}: below ${below}`);
  }

  /** Their owner deletes rows. */
  erase(clientId: string, gone: (record: ModelRecord) => boolean): void {
    this.#erased = true;
    const before = this.now.rows.get(clientId) ?? [];
    const kept = before.filter((record) => !gone(record));
    const rows = new Map(this.now.rows).set(clientId, kept);
    this.moments.push({ ...this.now, rows, less: true });
    this.tell(`erase ${clientId}: ${before.filter((one) => !kept.includes(one)).map(nameOf)}`);
  }

  /** A backup of the whole database is restored. */
  restore(nth: number): void {
    const { checkpoints, rows } = this.moments[nth] as Moment;
    if (!checkpoints.every((below, partition) => (below ?? 0n) >= this.part(partition).start)) return;
    this.moments.push({ checkpoints, rows, less: true, server: this.now.server + 1 });
    this.tell(`restore: checkpoints ${checkpoints}`);
  }

  /**
   * One partition's checkpoint goes back, and takes its rows along. Where rows were erased, they come back from the log: that
   * is a fail-over to a standby that lags, which is another server; by hand nobody may do it so fast that no node notices.
   */
  goBack(partition: number, below: bigint): void {
    const rows = new Map(this.now.rows);
    for (const clientId of clientsOf(partition))
      rows.set(
        clientId,
        (rows.get(clientId) ?? []).filter(({ place }) => place.epoch < EPOCH || place.offset < below),
      );
    this.#now(rows, partition, below, true);
    if (this.#erased) this.moments.push({ ...this.now, server: this.now.server + 1 });
    this.tell(`checkpoint ${partition} back: ${below}`);
  }

  /** The log forgets what is saved. */
  trim(partition: number, below: bigint): void {
    const part = this.part(partition);
    if (below <= part.start) return;
    part.start = below;
    this.tell(`trim ${partition}: below ${below}`);
  }

  /** The client's part of the log in [from, below). */
  unsavedOf(clientId: string, from: bigint, below: bigint): ModelRecord[] {
    const log = this.log.get(clientId) ?? [];
    return log.slice(indexIn(log, from), indexIn(log, below));
  }

  /** The log before is saved whole. */
  #begin(): void {
    const checkpoints = Array(PARTITIONS).fill(0n);
    this.moments.push({ ...this.now, checkpoints, rows: new Map(this.#old), less: false });
    this.tell("the log before is saved whole");
  }

  #now(rows: Moment["rows"], partition: number, below: bigint, less: boolean): void {
    const { checkpoints, server } = this.now;
    this.moments.push({ checkpoints: checkpoints.with(partition, below), rows, less, server });
  }

  #append(partition: number, clientId: string, id?: string): void {
    const part = this.part(partition);
    const record = this.#record(clientId, { epoch: EPOCH, offset: part.end }, id);
    this.log.get(clientId)?.push(record);
    this.#place(part, clientId, encodeEvent(record.event));
  }

  #place(part: Part, clientId: string, value: Buffer): void {
    part.records.push({ offset: part.end, timestampMs: 1, key: Buffer.from(clientId), value });
    part.end++;
  }

  #record(clientId: string, place: Place, id?: string): ModelRecord {
    const { random } = this;
    const event: Event = {
      clientId,
      id: id ?? `id-${random.below(random.next() < 0.3 ? 8 : 60)}`,
      type: random.pick(TYPES),
      occurredAtMs: random.below(TIMES),
      receivedAtMs: 1,
      data: `"${place.epoch}/${place.offset}${this.ballast()}"`,
    };
    const record = { place, event, json: eventJson(event, (ORDERS.get(clientId) as ClientOrder).cursor(place)) };
    this.byJson.set(record.json, record);
    return record;
  }
}

export const nameOf = ({ place, event }: ModelRecord): string => `${event.id}@${place.epoch}/${place.offset}`;
export const partitionOf = (clientId: string): number => ORDERS.get(clientId)?.partition ?? 0;
const clientsOf = (partition: number): string[] => CLIENTS.filter((clientId) => partitionOf(clientId) === partition);

/** The index of the first at or above `offset`. */
export function indexIn(records: readonly (ModelRecord | LogRecord)[], offset: bigint): number {
  let [low, high] = [0, records.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (offsetOf(records[middle] as ModelRecord | LogRecord) < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

const offsetOf = (one: ModelRecord | LogRecord): bigint => ("place" in one ? one.place.offset : one.offset);
