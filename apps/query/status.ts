/** What an operator is told of a query node: whether it can do its job, and how far each partition is saved. */
import type { Contact } from "#lib/contact.ts";
import { type Readiness, reasons } from "#lib/operator.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { Epochs } from "./places.ts";
import type { Tail } from "./tail.ts";
import type { TailReader } from "./tail-reader.ts";

/** What tells of it. */
export interface Told {
  readonly epochs: Epochs;
  readonly tail: Tail;
  readonly tailReader: Pick<TailReader, "missing">;
  readonly checkpoints: Pick<Checkpoints, "known" | "awaySinceMs" | "awayWhy">;
}

/** How far one partition is saved. */
export interface PartitionLag {
  readonly partition: number;
  readonly highWatermark: number;
  /** First offset that is not saved, as far as this node knows; null: nothing is. */
  readonly nextOffset: number | null;
  readonly lagRecords: number;
}

/**
 * Without the database the node is degraded, not unready: unsaved and live views need none.
 * @param database where it is, for messages
 */
export function readinessOf({ tail, tailReader, checkpoints }: Told, contact: Contact, database: string): Readiness {
  const { readRecords, ofRecords, fullSinceMs, trouble, behindSinceMs } = tail.status();
  const read = `${readRecords} of ${ofRecords}`;
  const missing = [
    ...contact.reasons("unsaved tail", "read barrier"),
    ...tailReader.missing,
    ...reasons(
      `tail full: ${read} unsaved records fill SPILLWAY_TAIL_BYTES${trouble ? `, and ${trouble}` : ""}`,
      fullSinceMs,
    ),
    ...reasons(`tail behind: ${read} records read`, fullSinceMs === null ? behindSinceMs : null),
  ];
  const store = `store: ${database} does not answer (${checkpoints.awayWhy}); pages with saved events are 503`;
  return { ready: missing.length === 0, missing, degraded: reasons(store, checkpoints.awaySinceMs) };
}

/** Of each partition, as far as this node knows. */
export function partitionLags({ epochs, tail, checkpoints }: Told): PartitionLag[] {
  return Array.from({ length: epochs.partitions.get(epochs.epoch) ?? 0 }, (_, partition) => {
    const saved = checkpoints.known(partition);
    const end = tail.end(partition);
    const from = saved ?? tail.logStart(partition);
    return {
      partition,
      highWatermark: Number(end),
      nextOffset: saved === null ? null : Number(saved),
      lagRecords: Number(end > from ? end - from : 0n),
    };
  });
}
