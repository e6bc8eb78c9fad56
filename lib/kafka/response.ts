/** Reads from a Fetch answer what kafkajs leaves out of it. */

/** The version whose layout this file knows: every broker since 2.3 speaks it, and kafkajs no newer one. */
export const FETCH_VERSION = 11;

/** Fields of a record batch, from its start: base offset int64, length int32, …, last offset delta int32, … */
const BATCH_LENGTH_AT = 8;
const BATCH_BODY_AT = 12;
const BATCH_LAST_DELTA_AT = 23;
const BATCH_HEADER_BYTES = 61;

/**
 * One past the last offset that each partition's batches cover; partitions without a complete batch are left out.
 *
 * Compaction keeps the empty shell of a producer's last batch. kafkajs shows nothing of it, so a reader that goes by
 * records would ask for the same offset for ever.
 *
 * @param raw the body of a Fetch answer of version 11, for one topic
 */
export function coveredEnds(raw: Buffer): Map<number, bigint> {
  const cursor = new Cursor(raw);
  const ends = new Map<number, bigint>();
  cursor.skip(4 + 2 + 4); // throttle time, error, session
  for (let topics = cursor.int32(); topics > 0; topics--) {
    cursor.skip(cursor.int16());
    for (let partitions = cursor.int32(); partitions > 0; partitions--) {
      const partition = cursor.int32();
      cursor.skip(2 + 8 + 8 + 8); // error, high watermark, last stable offset, log start
      cursor.skip(Math.max(0, cursor.int32()) * 16); // aborted transactions
      cursor.skip(4); // preferred read replica
      const end = coveredEnd(cursor.bytes(cursor.int32()));
      if (end !== undefined) ends.set(partition, end);
    }
  }
  return ends;
}

/** The last batch may be cut off: it counts only when it is whole. */
function coveredEnd(batches: Buffer): bigint | undefined {
  let end: bigint | undefined;
  for (let at = 0; at + BATCH_HEADER_BYTES <= batches.length; ) {
    const next = at + BATCH_BODY_AT + batches.readInt32BE(at + BATCH_LENGTH_AT);
    if (next > batches.length || next <= at) break;
    end = batches.readBigInt64BE(at) + BigInt(batches.readInt32BE(at + BATCH_LAST_DELTA_AT)) + 1n;
    at = next;
  }
  return end;
}

class Cursor {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  skip(bytes: number): void {
    this.#at += bytes;
  }

  int16(): number {
    this.#at += 2;
    return this.#buffer.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#buffer.readInt32BE(this.#at - 4);
  }

  bytes(length: number): Buffer {
    const from = this.#at;
    this.#at += Math.max(0, length);
    return this.#buffer.subarray(from, this.#at);
  }
}
