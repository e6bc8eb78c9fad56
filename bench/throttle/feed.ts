/** A backlog without a broker: lanes that are refilled as they empty, with records as the log would hold them. */
import { randomUUID } from "node:crypto";
import { systemClock as clock } from "#lib/clock.ts";
import { encodeEvent } from "#lib/codec.ts";
import type { GroupReader, LogRecord } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { partitionOf } from "#lib/partition.ts";
import { Lanes } from "../../apps/sink/lanes.ts";

const CHUNK_RECORDS = 500;
const WAITING_BYTES = 16 * 1024 * 1024;

/** @param clients how many different ones; each partition gets those whose key belongs to it */
export class Feed implements Pick<GroupReader, "pause" | "resume" | "seek"> {
  readonly lanes: Lanes;
  readonly #clients: string[][];
  readonly #next: bigint[];
  readonly #paused = new Set<number>();
  readonly #data: string;

  constructor(partitions: number, clients: number, dataBytes: number, log: Log) {
    this.#clients = Array.from({ length: partitions }, () => []);
    for (let n = 0; n < clients; n++) {
      const clientId = `client-${n}`;
      this.#clients[partitionOf(Buffer.from(clientId), partitions)]?.push(clientId);
    }
    this.#next = Array.from({ length: partitions }, () => 0n);
    this.#data = JSON.stringify({ note: "x".repeat(Math.max(1, dataBytes - 11)) });
    this.lanes = new Lanes(this, clock, log, WAITING_BYTES);
    this.lanes.assign(this.#next.map((_, partition) => partition));
    for (const partition of this.lanes.partitions) this.lanes.lane(partition)?.start(0n);
    this.#fill();
  }

  pause(partitions: readonly number[]): void {
    for (const partition of partitions) this.#paused.add(partition);
  }

  resume(partitions: readonly number[]): void {
    for (const partition of partitions) this.#paused.delete(partition);
    setImmediate(() => this.#fill());
  }

  seek(partition: number, offset: bigint): void {
    this.#next[partition] = offset;
  }

  #fill(): void {
    for (const partition of this.lanes.partitions) while (!this.#paused.has(partition)) this.#push(partition);
  }

  #push(partition: number): void {
    const from = this.#next[partition] ?? 0n;
    const clients = this.#clients[partition] ?? [];
    const records = Array.from({ length: CHUNK_RECORDS }, (_, at): LogRecord => {
      const clientId = clients[Math.floor(clock.random() * clients.length)] as string;
      const now = clock.now();
      const event = { clientId, id: randomUUID(), type: "order.placed", occurredAtMs: now, receivedAtMs: now };
      const value = encodeEvent({ ...event, data: this.#data });
      return { key: Buffer.from(clientId), value, offset: from + BigInt(at), timestampMs: now };
    });
    const nextOffset = from + BigInt(CHUNK_RECORDS);
    this.#next[partition] = nextOffset;
    this.lanes.push({ partition, fromOffset: from, records, nextOffset, highWatermark: nextOffset, logStart: 0n });
  }
}
