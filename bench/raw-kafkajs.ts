/**
 * The yardstick for arrays: kafkajs alone, idempotent and acks=all as ingest, sends the records that ingest would make of
 * the same events, encoded beforehand, one batch after the other. A process of its own; prints one JSON line.
 */
import { encodeEvent } from "#lib/codec.ts";
import { partitionOf } from "#lib/partition.ts";
import { quantile } from "../infra/figures.ts";
import { benchEvents } from "./events.ts";
import type { LoadResult } from "./load.ts";
import { openProducer } from "./producer.ts";

export interface RawOrder {
  readonly brokers: string;
  readonly topic: string;
  readonly partitions: number;
  readonly seconds: number;
  readonly recordsPerSend: number;
  /** Different batches, sent in turn. */
  readonly batches: number;
}

const { brokers, topic, partitions, seconds, recordsPerSend, batches } = JSON.parse(
  process.argv[2] ?? "null",
) as RawOrder;

const message = (event: ReturnType<typeof benchEvents>[number], n: number) => {
  const key = Buffer.from(event.clientId);
  const now = Date.now();
  const id = `0199aaaa-bbbb-7ccc-8ddd-${String(n).padStart(12, "0")}`;
  const value = encodeEvent({ ...event, id, occurredAtMs: now, receivedAtMs: now, data: JSON.stringify(event.data) });
  return { key, value, partition: partitionOf(key, partitions) };
};
const prepared = Array.from({ length: batches }, (_, n) =>
  benchEvents(n * recordsPerSend, recordsPerSend).map((event, at) => message(event, n * recordsPerSend + at)),
);
const producer = await openProducer(brokers);
const times: number[] = [];
const begin = performance.now();
const end = begin + seconds * 1_000;
let last = begin;
for (let n = 0; last < end; n++) {
  await producer.send({ topic, acks: -1, messages: prepared[n % batches] ?? [] });
  const now = performance.now();
  times.push(now - last);
  last = now;
}
await producer.disconnect();
const printed: LoadResult = {
  eventsPerSecond: (times.length * recordsPerSend) / ((last - begin) / 1_000),
  p50Ms: quantile(times, 0.5),
  p99Ms: quantile(times, 0.99),
  failures: 0,
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
process.exit(0);
