/** Puts a backlog into the topic, with kafkajs alone: the sink is what is measured. A process of its own; prints a line. */
import { encodeEvent } from "#lib/codec.ts";
import { openProducer } from "../producer.ts";
import { eventAt, type Kind, partitionFor } from "./rows.ts";

export interface BacklogOrder {
  readonly brokers: string;
  readonly topic: string;
  readonly partitions: number;
  /** The first event's number; left out: 0. */
  readonly from?: number;
  readonly events: number;
  readonly clients: number;
  readonly kind: Kind;
}

const SEND_RECORDS = 4_000;

const order = JSON.parse(process.argv[2] ?? "null") as BacklogOrder;
const { brokers, topic, partitions, from: first = 0, events, clients, kind } = order;
const producer = await openProducer(brokers);
for (let from = 0; from < events; from += SEND_RECORDS) {
  const messages = Array.from({ length: Math.min(SEND_RECORDS, events - from) }, (_, at) => {
    const event = eventAt(first + from + at, kind, clients);
    const key = event?.clientId ?? "nobody";
    return {
      key: Buffer.from(key),
      value: event ? encodeEvent(event) : Buffer.from("no event"),
      partition: partitionFor(key, partitions),
    };
  });
  await producer.send({ topic, acks: -1, messages });
}
await producer.disconnect();
process.stdout.write(`${JSON.stringify({ events })}\n`);
process.exit(0);
