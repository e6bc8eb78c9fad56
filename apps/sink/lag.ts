/** How far this sink's partitions are from the log's end: asked of the log when somebody reads the metric, and so true then. */
import { unlessAborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { PartitionReader } from "#lib/kafka/ports.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Lanes } from "./lanes.ts";

export interface LagParts {
  readonly topic: string;
  readonly reader: Pick<PartitionReader, "highWatermarks">;
  readonly lanes: Pick<Lanes, "partitions">;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** A log that is silent for so long is not waited for: its end, as last told, has to do. */
const ANSWER_MS_MAX = 1_000;

export class Lag {
  readonly #parts: LagParts;
  readonly #checkpoints = new Map<number, bigint>();
  #ends: ReadonlyMap<number, bigint> = new Map();

  constructor(parts: LagParts) {
    this.#parts = parts;
    // What was told of a log that this one succeeds.
    parts.metrics.sinkLagRecords.reset();
    parts.metrics.sinkCheckpoint.reset();
    // The library calls it before it reads the metric; its types know of it where a metric is made alone.
    Object.assign(parts.metrics.sinkLagRecords, { collect: () => this.#measure() });
  }

  /** Checkpoints, as they were found or committed. */
  moved(nextOffsets: ReadonlyMap<number, bigint>): void {
    for (const [partition, nextOffset] of nextOffsets) {
      this.#checkpoints.set(partition, nextOffset);
      this.#parts.metrics.sinkCheckpoint.set({ partition: String(partition) }, Number(nextOffset));
    }
  }

  async #measure(): Promise<void> {
    const { topic, reader, lanes, clock, metrics } = this.#parts;
    const { partitions } = lanes;
    const late = new AbortController();
    const cancel = clock.after(ANSWER_MS_MAX, () => late.abort());
    try {
      if (partitions.length > 0)
        this.#ends = await unlessAborted(late.signal, reader.highWatermarks(topic, partitions));
    } catch {
      // As last told.
    } finally {
      cancel();
    }
    for (const number of this.#checkpoints.keys()) if (!partitions.includes(number)) this.#forget(number);
    for (const [number, nextOffset] of this.#checkpoints) {
      const end = this.#ends.get(number);
      const partition = String(number);
      if (end !== undefined) metrics.sinkLagRecords.set({ partition }, Math.max(0, Number(end - nextOffset)));
    }
  }

  /** Another sink has it now. */
  #forget(number: number): void {
    const { sinkLagRecords, sinkCheckpoint } = this.#parts.metrics;
    const partition = String(number);
    this.#checkpoints.delete(number);
    sinkLagRecords.remove({ partition });
    sinkCheckpoint.remove({ partition });
  }
}
