/**
 * The loop that most write first: a page of rows that wait, and for each one a publish, then an UPDATE. A process of its own;
 * prints one JSON line.
 */
import pg from "pg";
import { encodeEvent } from "#lib/codec.ts";
import { openProducer } from "../producer.ts";
import { partitionFor } from "../sink/rows.ts";

export interface NaiveOrder {
  readonly brokers: string;
  readonly topic: string;
  readonly partitions: number;
  readonly databaseUrl: string;
  readonly seconds: number;
}

export interface NaiveResult {
  readonly rows: number;
  readonly seconds: number;
}

interface Row {
  readonly position: string;
  readonly client_id: string;
  readonly id: string;
  readonly type: string;
  readonly data: string | null;
}

const PAGE =
  "SELECT position, client_id, id, type, data::text AS data FROM spillway.event_buffer WHERE recorded IS NULL ORDER BY position LIMIT 100";
const STAMP = "UPDATE spillway.event_buffer SET recorded = now() WHERE position = $1";

const { brokers, topic, partitions, databaseUrl, seconds } = JSON.parse(process.argv[2] ?? "null") as NaiveOrder;
const producer = await openProducer(brokers);
const client = new pg.Client({ connectionString: databaseUrl });
await client.connect();
const begin = performance.now();
const end = begin + seconds * 1_000;
let rows = 0;
while (performance.now() < end) {
  const page = await client.query<Row>(PAGE);
  if (page.rows.length === 0) break;
  for (const { position, client_id: clientId, id, type, data } of page.rows) {
    const now = Date.now();
    const value = encodeEvent({ clientId, id, type, occurredAtMs: now, receivedAtMs: now, data });
    const message = { key: Buffer.from(clientId), value, partition: partitionFor(clientId, partitions) };
    await producer.send({ topic, acks: -1, messages: [message] });
    await client.query(STAMP, [position]);
    rows++;
  }
}
const printed: NaiveResult = { rows, seconds: (performance.now() - begin) / 1_000 };
await client.end();
await producer.disconnect();
process.stdout.write(`${JSON.stringify(printed)}\n`);
process.exit(0);
