import { createRequire } from "node:module";
import fc from "fast-check";
import { expect, test } from "vitest";
import { murmur2, partitionOf } from "#lib/partition.ts";

/** The client library's own, by which foreign producers choose. */
const theirs = createRequire(import.meta.url)("kafkajs/src/producer/partitioners/default/murmur2.js") as (
  key: Buffer,
) => number;

const key = fc.oneof(fc.string({ unit: "binary" }), fc.string()).map((text) => Buffer.from(text));

test("a hash is the client library's own", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        key,
        fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      ),
      (bytes) => {
        expect(murmur2(bytes)).toBe(theirs(bytes));
      },
    ),
    { numRuns: 2_000 },
  );
});

test("a hash is Kafka's own", () => {
  // From org.apache.kafka.common.utils.UtilsTest.
  const known = { "21": -973932308, foobar: -790332482, "a-little-bit-long-string": -985981536 };
  for (const [text, hash] of Object.entries(known)) expect(murmur2(Buffer.from(text))).toBe(hash);
});

test("a client has one partition, which exists", () => {
  fc.assert(
    fc.property(key, fc.integer({ min: 1, max: 1_000 }), (bytes, partitions) => {
      const partition = partitionOf(bytes, partitions);
      expect(partition).toBe(partitionOf(Buffer.from(bytes), partitions));
      expect(Number.isInteger(partition) && partition >= 0 && partition < partitions).toBe(true);
    }),
  );
});

test("clients spread over all partitions", () => {
  const counts = new Array<number>(12).fill(0);
  for (let i = 0; i < 12_000; i++) {
    const partition = partitionOf(Buffer.from(`client ${i}`), 12);
    counts[partition] = (counts[partition] ?? 0) + 1;
  }
  for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(200);
});
