/**
 * One client's part of a partition's tail.
 *
 * A slice is taken without copying: an array only grows at its end, and dropping from its front moves a head index or
 * replaces the array by a shorter one, so whoever holds an array with two indexes keeps exactly the records that it saw.
 */

/** An event as the tail keeps it. Its fields but `verdict` never change. */
export interface TailEvent {
  readonly clientId: string;
  readonly offset: bigint;
  readonly id: string;
  readonly type: string;
  readonly occurredAtMs: number;
  /** As every answer shows it. */
  readonly json: string;
  /** An estimate of what it costs in memory. */
  readonly bytes: number;
  /** The nearest earlier record with the same identity that the tail held when this one came; -1n without one. */
  readonly previous: bigint;
  /**
   * For live followers: whether it is a copy of an earlier event, once that is known. Events that nobody follows stay
   * `open`.
   */
  verdict: "open" | "asked" | "first" | "copy";
}

/** A client's events in the tail at one moment: `array[from]` to `array[to - 1]`, by offset. */
export interface Slice {
  readonly array: readonly TailEvent[];
  readonly from: number;
  readonly to: number;
}

/** A head index this far into its array is worth a copy. */
const HEAD_RECORDS_MIN = 64;

/** An array that loses its front: dropping is amortised O(1) and never disturbs a pin. */
export class Queue {
  array: TailEvent[] = [];
  head = 0;

  get size(): number {
    return this.array.length - this.head;
  }

  dropFirst(): void {
    this.head++;
    if (this.head < HEAD_RECORDS_MIN || this.head * 2 < this.array.length) return;
    this.array = this.array.slice(this.head);
    this.head = 0;
  }
}

/** One client's part of a partition. */
export class ClientTail extends Queue {
  readonly clientId: string;
  readonly latest = new Map<string, bigint>();
  followers = 0;
  /** Events of this client that left, or were never held, lie at or below it. Kept up only while it has followers. */
  goneThrough = -1n;

  constructor(clientId: string) {
    super();
    this.clientId = clientId;
  }

  clear(): void {
    this.array = [];
    this.head = 0;
    this.latest.clear();
  }
}

export const NOTHING: Slice = { array: [], from: 0, to: 0 };

/** The index in the slice of the first event at or above `offset`. */
export function indexOf({ array, from, to }: Slice, offset: bigint): number {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const event = array[middle];
    if (event !== undefined && event.offset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
