/** Records that wait for their send, by partition, in order. */
import type { NewRecord } from "#lib/kafka/ports.ts";
import type { Request } from "#lib/publish-request.ts";

/** What one send may carry for a partition: the broker refuses more than 1 MiB, kafkajs groups in quadratic time. */
const SEND_RECORDS_MAX = 1_000;
const SEND_BYTES_MAX = 768 * 1024;

/** One record of a request. */
export interface Entry {
  readonly request: Request;
  readonly index: number;
  readonly record: NewRecord;
  /** What it costs to hold, above the record's own bytes. */
  readonly bytes: number;
}

type Dropped = (entry: Entry) => void;

export class PartitionQueues {
  readonly #waiting = new Map<number, Entry[]>();

  /** Records that wait, those of answered requests among them. */
  get records(): number {
    let records = 0;
    for (const queue of this.#waiting.values()) records += queue.length;
    return records;
  }

  push(partition: number, entry: Entry): void {
    const queue = this.#waiting.get(partition);
    if (queue) queue.push(entry);
    else this.#waiting.set(partition, [entry]);
  }

  /** Puts records back to the front, in their order. */
  putBack(partition: number, entries: readonly Entry[]): void {
    for (const entry of entries) entry.request.putBack();
    this.#waiting.set(partition, [...entries, ...(this.#waiting.get(partition) ?? [])]);
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
