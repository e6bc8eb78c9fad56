/** A process that uses everything of lib/kafka, closes it, and has nothing else to do. The topic is its first argument. */
import assert from "node:assert/strict";
import { systemClock } from "#lib/clock.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import { createLog } from "#lib/log.ts";

const [brokers = "", topic = ""] = process.argv.slice(2);
const kafka = connectKafka({
  brokers: [brokers],
  clientId: "closing",
  log: createLog("closing", "warn"),
  clock: systemClock,
});
const admin = await kafka.admin();
await admin.ensureTopic({ topic, partitions: 1, config: {} });
const producer = await kafka.producer();
await producer.append(topic, [{ partition: 0, records: [{ key: null, value: Buffer.from("a") }] }]);
const reader = await kafka.partitionReader();
const request = { topic, offsets: new Map([[0, 0n]]), maxWaitMs: 1_000, maxBytes: 1_000 };
assert.equal((await reader.fetch(request))[0]?.nextOffset, 1n);
const stop = new AbortController();
await kafka.groupReader({ topic, groupId: topic, sessionTimeoutMs: 45_000 }).run(
  {
    onAssigned: async () => new Map([[0, 0n]]),
    onRevoked: () => undefined,
    onBatch: () => stop.abort(),
  },
  stop.signal,
);
await Promise.all([reader.close(), producer.close(), admin.close()]);
