/** Places in a client's order, and what a cursor means for one client. Pure. */
import { BEGINNING, decodeCursor, encodeCursor, type Position } from "#lib/cursor.ts";
import { partitionOf } from "#lib/partition.ts";
import { ProblemError, problem } from "#lib/problem.ts";

/** A place in one client's order: its partition follows from the epoch. Offset -1n stands before an epoch's first record. */
export interface Place {
  readonly epoch: number;
  readonly offset: bigint;
}

/** Before everything. */
export const ORIGIN: Place = { epoch: 0, offset: -1n };

/** Negative, zero or positive as `a` is before, at or after `b`. */
export function comparePlaces(a: Place, b: Place): number {
  if (a.epoch !== b.epoch) return a.epoch - b.epoch;
  return a.offset < b.offset ? -1 : a.offset > b.offset ? 1 : 0;
}

export const earlier = (a: Place, b: Place): Place => (comparePlaces(a, b) <= 0 ? a : b);
export const later = (a: Place, b: Place): Place => (comparePlaces(a, b) >= 0 ? a : b);

/** What is known of the logs. */
export interface Epochs {
  /** The log in use. */
  readonly epoch: number;
  /** Partitions of each known epoch's log. */
  readonly partitions: ReadonlyMap<number, number>;
}

/** One client's view of the logs: its partition in each, and its cursors. */
export class ClientOrder {
  readonly clientId: string;
  /** The epoch in use. */
  readonly epoch: number;
  /** Whether that epoch's log has succeeded another one. */
  readonly succeeds: boolean;
  /** The client's partition in the epoch in use. */
  readonly partition: number;
  /** The client's partition in each known epoch. */
  readonly #partitions: ReadonlyMap<number, number>;

  constructor(clientId: string, epochs: Epochs) {
    this.clientId = clientId;
    this.epoch = epochs.epoch;
    this.succeeds = [...epochs.partitions.keys()].some((epoch) => epoch < epochs.epoch);
    const key = Buffer.from(clientId, "utf8");
    this.#partitions = new Map([...epochs.partitions].map(([epoch, count]) => [epoch, partitionOf(key, count)]));
    this.partition = this.#partitions.get(epochs.epoch) ?? 0;
  }

  /**
   * What a reader handed back as `field`.
   * @throws ProblemError invalid-cursor for a malformed one or another client's, cursor-gone for one of an unknown log
   */
  place(cursor: string, field: string): Place {
    if (cursor === BEGINNING) return ORIGIN;
    const position = decodeCursor(cursor);
    if (position === null)
      throw wrong("invalid-cursor", `${field} is no cursor: hand back one that Spillway gave, unchanged, or 0.`, field);
    const partition = this.#partitions.get(position.epoch);
    if (partition === undefined)
      throw wrong(
        "cursor-gone",
        `${field} names log epoch ${position.epoch}, which is not known here: start again with after=0.`,
        field,
      );
    if (partition !== position.partition)
      throw wrong("invalid-cursor", `${field} is not one of this client's cursors: use one from its events.`, field);
    return { epoch: position.epoch, offset: position.offset };
  }

  /** The cursor of a place. ORIGIN gives `0`. */
  cursor(place: Place): string {
    const partition = this.#partitions.get(place.epoch);
    if (partition === undefined) return BEGINNING;
    return encodeCursor({ ...place, partition } satisfies Position);
  }
}

const wrong = (code: "invalid-cursor" | "cursor-gone", detail: string, field: string): ProblemError =>
  new ProblemError(problem(code, detail, { field }));
