/** Whether the log still is the one that the database holds and that this node has read: its last records are kept in mind. */
import { type Checkpoint, type Met, type ProvedLog, prove, recordHash } from "#lib/continuity.ts";
import type { LogRecord } from "#lib/kafka/ports.ts";

export class SameLog {
  readonly #log: ProvedLog;
  /** One of each partition: the last that was read, else the last that was saved. */
  readonly #last = new Map<number, Met>();

  constructor(log: ProvedLog) {
    this.#log = log;
  }

  met(partition: number, record: LogRecord): void {
    this.#last.set(partition, { offset: record.offset, hash: recordHash(record) });
  }

  /** @throws OffsetOutOfRange, ContinuityBroken, LogError */
  async proveSaved(checkpoints: ReadonlyMap<number, Checkpoint>): Promise<void> {
    await prove(this.#log, checkpoints);
    for (const [partition, { last }] of checkpoints)
      if (last !== null && !this.#last.has(partition)) this.#last.set(partition, last);
  }

  /** @param next where reading goes on, by partition. @throws OffsetOutOfRange, ContinuityBroken, LogError */
  async proveRead(next: ReadonlyMap<number, bigint>): Promise<void> {
    const read = [...next].map(
      ([partition, nextOffset]) => [partition, { nextOffset, last: this.#last.get(partition) ?? null }] as const,
    );
    await prove(this.#log, new Map(read));
  }
}
