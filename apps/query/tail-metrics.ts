/** What the tail's metrics show. */
import type { Metrics } from "#lib/metrics.ts";
import type { Disk } from "./disk/disk.ts";
import type { PartitionTail } from "./partition-tail.ts";

/** Sets them all. */
export function showTail(
  partitions: ReadonlyMap<number, { readonly tail: PartitionTail }>,
  disk: Pick<Disk, "bytes"> | undefined,
  metrics: Metrics,
): void {
  let [records, bytes, segments, onDisk] = [0, 0, 0, 0];
  for (const [partition, { tail }] of partitions) {
    records += tail.records;
    bytes += tail.bytes;
    segments += tail.segments.length;
    for (const segment of tail.segments) onDisk += segment.records;
    metrics.queryReadTo.set({ partition: String(partition) }, Number(tail.next));
  }
  metrics.queryTailRecords.set(records);
  metrics.queryTailBytes.set(bytes);
  metrics.queryTailSegments.set(segments);
  metrics.queryTailDiskRecords.set(onDisk);
  metrics.queryTailDiskBytes.set(disk?.bytes ?? 0);
}
