/**
 * Appends some of the events to the log, clients in turn, and the same to a plain table, as one that has no log would keep
 * them. A process of its own; prints a line.
 */
import pg from "pg";
import { encodeEvent } from "#lib/codec.ts";
import type { Event } from "#lib/event.ts";
import { timeText } from "#lib/event.ts";
import { partitionOf } from "#lib/partition.ts";
import { openProducer } from "../producer.ts";
import { eventOf, type Group } from "./events.ts";

export interface FillOrder {
  readonly brokers: string;
  readonly topic: string;
  readonly partitions: number;
  readonly databaseUrl: string;
  readonly clients: number;
  /** Which events of each client: from the first number up to below the second. */
  readonly parts: readonly { readonly group: Group; readonly from: number; readonly to: number }[];
}

const SEND_EVENTS = 4_000;

const order = JSON.parse(process.argv[2] ?? "null") as FillOrder;
const producer = await openProducer(order.brokers);
const database = new pg.Client({ connectionString: order.databaseUrl });
await database.connect();
await database.query(`CREATE TABLE IF NOT EXISTS plain_event (
  client_id text COLLATE "C" NOT NULL, seq bigint NOT NULL, id text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL,
  occurred_at timestamptz NOT NULL, received_at timestamptz NOT NULL, data json,
  PRIMARY KEY (client_id, seq), UNIQUE (client_id, id))`);
let events = 0;
let waiting: { readonly event: Event; readonly nth: number }[] = [];
for (const { group, from, to } of order.parts)
  for (let nth = from; nth < to; nth++)
    for (let client = 0; client < order.clients; client++) {
      waiting.push({ event: eventOf(group, client, nth), nth });
      if (waiting.length === SEND_EVENTS) await send();
    }
await send();
await producer.disconnect();
await database.query("VACUUM ANALYZE plain_event");
await database.end();
process.stdout.write(`${JSON.stringify({ events })}\n`);
process.exit(0);

async function send(): Promise<void> {
  const messages = waiting.map(({ event }) => {
    const key = Buffer.from(event.clientId);
    return { key, value: encodeEvent(event), partition: partitionOf(key, order.partitions) };
  });
  await producer.send({ topic: order.topic, acks: -1, messages });
  await database.query(
    `INSERT INTO plain_event SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[],
       $5::timestamptz[], $6::timestamptz[], $7::json[])`,
    [
      waiting.map(({ event }) => event.clientId),
      waiting.map(({ nth }) => nth),
      waiting.map(({ event }) => event.id),
      waiting.map(({ event }) => event.type),
      waiting.map(({ event }) => timeText(event.occurredAtMs)),
      waiting.map(({ event }) => timeText(event.receivedAtMs)),
      waiting.map(({ event }) => event.data),
    ],
  );
  events += waiting.length;
  waiting = [];
}
