/** Records that wait for their send, by partition, in order. */
import { encodeEvent } from "#lib/codec.ts";
import type { Event } from "#lib/event.ts";
import type { NewRecord, PartitionRecords } from "#lib/kafka/ports.ts";
import { partitionOf } from "#lib/partition.ts";
import type { Request } from "#lib/publish-request.ts";

/** What one send may carry for a partition: the broker refuses more than 1 MiB, kafkajs groups in quadratic time. */
const SEND_RECORDS_MAX = 1_000;
const SEND_BYTES_MAX = 768 * 1024;

/** A record's Buffers, queue entry and promise, besides its bytes. */
const ENTRY_OVERHEAD_BYTES = 400;

/** One record of a request. */
export interface Entry {
  readonly request: Request;
  readonly index: number;
  readonly record: NewRecord & { readonly key: Buffer };
  /** What it costs to hold, above the record's own bytes. */
  readonly bytes: number;
}

/** The records of a request, in its order. */
export const entriesOf = (events: readonly Event[]): Omit<Entry, "request">[] =>
  events.map((event, index) => {
    const record = { key: Buffer.from(event.clientId, "utf8"), value: encodeEvent(event) };
    return { index, record, bytes: record.key.length + record.value.length + ENTRY_OVERHEAD_BYTES };
  });

/** What one send carries, by partition. */
export type Taken = ReadonlyMap<number, readonly Entry[]>;

/** For the producer, to which it is handed now. */
export function handedBatches(taken: Taken): PartitionRecords[] {
  for (const entries of taken.values()) for (const { request } of entries) request.handed = true;
  return [...taken].map(([partition, entries]) => ({ partition, records: entries.map(({ record }) => record) }));
}

type Dropped = (entry: Entry) => void;

export class PartitionQueues {
  #waiting = new Map<number, Entry[]>();
  /** Of the log. */
  #partitions: number;

  constructor(partitions: number) {
    this.#partitions = partitions;
  }

  /** Records that wait, those of answered requests among them. */
  get records(): number {
    let records = 0;
    for (const queue of this.#waiting.values()) records += queue.length;
    return records;
  }

  /** Another log, with so many partitions, takes what waits: of one client in its order. */
  adopt(partitions: number): void {
    const waiting = [...this.#waiting.values()].flat();
    this.#partitions = partitions;
    this.#waiting = new Map();
    for (const entry of waiting) this.push(entry);
  }

  push(entry: Entry): void {
    const partition = partitionOf(entry.record.key, this.#partitions);
    const queue = this.#waiting.get(partition);
    if (queue) queue.push(entry);
    else this.#waiting.set(partition, [entry]);
  }

  /** Puts records back to the front, in their order. */
  putBack(entries: readonly Entry[]): void {
    const behind = this.#waiting;
    this.#waiting = new Map();
    for (const entry of entries) {
      entry.request.putBack();
      this.push(entry);
    }
    // Only their own queues are copied: it happens for each partition, at each attempt of an outage.
    const front = this.#waiting;
    this.#waiting = behind;
    for (const [partition, queue] of front) this.#waiting.set(partition, [...queue, ...(behind.get(partition) ?? [])]);
  }

  /** Takes what one send may carry. Entries whose request is answered are dropped on the way. */
  take(dropped: Dropped): Map<number, Entry[]> {
    const taken = new Map<number, Entry[]>();
    for (const [partition, queue] of this.#waiting) {
      const { live, end } = takeFrom(queue, dropped);
      if (live.length > 0) taken.set(partition, live);
      if (end === queue.length) this.#waiting.delete(partition);
      else this.#waiting.set(partition, queue.slice(end));
    }
    return taken;
  }

  /** Drops entries at the front whose request is answered: while nothing can be sent, nothing else would remove them. */
  dropSettled(dropped: Dropped): void {
    for (const [partition, queue] of this.#waiting) {
      let first = 0;
      while (queue[first]?.request.settled) {
        dropped(queue[first] as Entry);
        first += 1;
      }
      if (first === queue.length) this.#waiting.delete(partition);
      else if (first > 0) this.#waiting.set(partition, queue.slice(first));
    }
  }
}

/** @returns what goes into the send, and how many entries of the queue were taken or dropped */
function takeFrom(queue: readonly Entry[], dropped: Dropped): { live: Entry[]; end: number } {
  const live: Entry[] = [];
  let bytes = 0;
  let end = 0;
  for (let entry = queue[end]; entry !== undefined; entry = queue[++end]) {
    if (entry.request.settled) {
      dropped(entry);
      continue;
    }
    if (live.length === SEND_RECORDS_MAX || (live.length > 0 && bytes + entry.bytes > SEND_BYTES_MAX)) break;
    live.push(entry);
    bytes += entry.bytes;
  }
  return { live, end };
}
