import { describe, expect, it } from "vitest";
import { copyRecords } from "#lib/kafka/copy.ts";
import { coveredEnds } from "#lib/kafka/response.ts";

/** A record batch's header and `records` bytes behind it; only what the reader looks at is set. */
function batchOf(baseOffset: bigint, lastDelta: number, records = 0): Buffer {
  const batch = Buffer.alloc(61 + records);
  batch.writeBigInt64BE(baseOffset, 0);
  batch.writeInt32BE(batch.length - 12, 8);
  batch.writeInt32BE(lastDelta, 23);
  return batch;
}

/** A Fetch answer of version 11. */
function answerOf(partitions: readonly { partition: number; aborted?: number; batches: Buffer }[]): Buffer {
  const int32 = (value: number): Buffer => {
    const buffer = Buffer.alloc(4);
    buffer.writeInt32BE(value);
    return buffer;
  };
  const parts = partitions.map(({ partition, aborted = -1, batches }) =>
    Buffer.concat([
      int32(partition),
      Buffer.alloc(2 + 3 * 8),
      int32(aborted),
      Buffer.alloc(16 * Math.max(0, aborted)),
      int32(-1),
      int32(batches.length),
      batches,
    ]),
  );
  const topic = Buffer.concat([Buffer.from([0, 1]), Buffer.from("t"), int32(parts.length), ...parts]);
  return Buffer.concat([Buffer.alloc(10), int32(1), topic]);
}

describe("what a Fetch answer covers", () => {
  it("reaches to the end of the last whole batch, be it the empty shell that compaction leaves", () => {
    const shell = batchOf(7n, 4);
    const cutOff = batchOf(12n, 100, 50).subarray(0, 80);
    const answer = answerOf([
      { partition: 3, batches: Buffer.concat([batchOf(5n, 1, 40), shell]) },
      { partition: 1, aborted: 2, batches: Buffer.concat([shell, cutOff]) },
      { partition: 2, batches: Buffer.alloc(0) },
    ]);
    expect(coveredEnds(answer)).toEqual(
      new Map([
        [3, 12n],
        [1, 12n],
      ]),
    );
  });
});

describe("copied records", () => {
  const arrived = Buffer.alloc(256 * 1024, 1);
  const message = (offset: number, from: number, length: number | null) => ({
    offset: String(offset),
    timestamp: "1700000000000",
    key: offset % 2 ? null : arrived.subarray(from, from + 4),
    value: length === null ? null : arrived.subarray(from, from + length),
  });

  it("pin little memory each, and none of the buffer they came in", () => {
    const messages = Array.from({ length: 1_000 }, (_, index) => message(index, index * 200, index % 7 ? 200 : null));
    const copies = copyRecords([...messages, message(1_000, 0, 100_000)]);
    expect(copies.map(({ offset, key, value }) => [offset, key, value])).toEqual(
      [...messages, message(1_000, 0, 100_000)].map(({ offset, key, value }) => [BigInt(offset), key, value]),
    );
    expect(copies[0]).toMatchObject({ timestampMs: 1_700_000_000_000 });
    for (const { value } of copies.slice(0, 1_000)) {
      expect(value?.buffer).not.toBe(arrived.buffer);
      expect(value?.buffer.byteLength ?? 0).toBeLessThanOrEqual(16 * 1024);
    }
    expect(copies[1_000]?.value?.buffer.byteLength).toBe(100_004);
  });
});
