/** A query node on the real broker and database, with a hand that writes the log and saves as the sink does. */
import { systemClock } from "#lib/clock.ts";
import { encodeEvent } from "#lib/codec.ts";
import { encodeCursor } from "#lib/cursor.ts";
import { type Event, eventJson, timeText } from "#lib/event.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import type { BatchProducer, LogAdmin } from "#lib/kafka/ports.ts";
import { partitionOf } from "#lib/partition.ts";
import { EVENT_TOPIC_CONFIG } from "#schemas/topics.ts";
import { sharedBrokers, uniqueTopic } from "../../support/kafka.ts";
import { type Database, freshDatabase } from "../../support/postgres.ts";
import { type App, startApp } from "../../support/process.ts";
import { silentLog } from "../../support/records.ts";

const PARTITIONS = 2;
/** What a send takes for one partition. */
const SEND_EVENTS_MAX = 2_000;
const SEND_BYTES_MAX = 768 * 1024;

/** An event on the log. */
export interface Placed {
  readonly event: Event;
  readonly partition: number;
  readonly offset: bigint;
  readonly cursor: string;
  /** As every answer must show it. */
  readonly json: string;
}

export interface PageAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly events: readonly { readonly id: string; readonly cursor: string }[];
  readonly next: string;
  readonly hasMore: boolean;
  readonly code?: string;
}

export class Given implements AsyncDisposable {
  readonly topic: string;
  readonly database: Database;
  readonly #producer: BatchProducer;
  readonly #admin: LogAdmin;
  /** Everything appended, in order. */
  readonly placed: Placed[] = [];
  #nextId = 0;

  private constructor(topic: string, database: Database, producer: BatchProducer, admin: LogAdmin) {
    this.topic = topic;
    this.database = database;
    this.#producer = producer;
    this.#admin = admin;
  }

  static async create(): Promise<Given> {
    const kafka = connectKafka({
      brokers: [sharedBrokers()],
      clientId: "test",
      log: silentLog,
      clock: systemClock,
    });
    const topic = uniqueTopic();
    const admin = await kafka.admin();
    await admin.ensureTopic({ topic, partitions: PARTITIONS, config: EVENT_TOPIC_CONFIG });
    return new Given(topic, await freshDatabase(), await kafka.producer(), admin);
  }

  node(env: Readonly<Record<string, string>> = {}): Promise<App> {
    return startApp("apps/query/main.ts", {
      KAFKA_BROKERS: sharedBrokers(),
      DATABASE_URL: this.database.url,
      SPILLWAY_TOPIC: this.topic,
      ...env,
    });
  }

  /** An event of its own id unless given. */
  event(clientId: string, more: Partial<Event> = {}): Event {
    const n = this.#nextId++;
    return {
      clientId,
      id: `id-${n}`,
      type: "made",
      occurredAtMs: 1_700_000_000_000 + n,
      receivedAtMs: 1_700_000_500_000 + n,
      data: `{"n":${n},"text":"é 😀 \\" \\\\"}`,
      ...more,
    };
  }

  async append(...events: readonly Event[]): Promise<Placed[]> {
    const placed: Placed[] = [];
    for (let at = 0; at < events.length; ) {
      const sent = await this.#send(events.slice(at, at + SEND_EVENTS_MAX));
      placed.push(...sent);
      at += sent.length;
    }
    for (const one of placed) this.placed.push(one);
    return placed;
  }

  /** The first of these events that one send to one partition can hold. */
  async #send(events: readonly Event[]): Promise<Placed[]> {
    const records: { key: Buffer; value: Buffer }[] = [];
    const partition = partitionOf(Buffer.from(events[0]?.clientId ?? ""), PARTITIONS);
    let bytes = 0;
    for (const event of events) {
      const record = { key: Buffer.from(event.clientId), value: encodeEvent(event) };
      bytes += record.key.length + record.value.length;
      if (partitionOf(record.key, PARTITIONS) !== partition || (records.length > 0 && bytes > SEND_BYTES_MAX)) break;
      records.push(record);
    }
    const base = (await this.#producer.append(this.topic, [{ partition, records }])).get(partition) ?? -1n;
    return events.slice(0, records.length).map((event, nth) => {
      const offset = base + BigInt(nth);
      const cursor = encodeCursor({ epoch: 1, partition, offset });
      return { event, partition, offset, cursor, json: eventJson(event, cursor) };
    });
  }

  /** A record that is no event. */
  async appendRaw(clientId: string, value: string): Promise<void> {
    const key = Buffer.from(clientId);
    const partition = partitionOf(key, PARTITIONS);
    await this.#producer.append(this.topic, [{ partition, records: [{ key, value: Buffer.from(value) }] }]);
  }

  /** Saves as the sink does: rows of first copies and the checkpoint, in one statement. @param below exclusive */
  async save(partition: number, below: bigint): Promise<void> {
    const events = this.placed.filter((one) => one.partition === partition && one.offset < below);
    await this.database.query(
      `WITH saved AS (
        INSERT INTO spillway.event
        SELECT c, 1, o, i, t, w, r, d::json FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[],
          $5::timestamptz[], $6::timestamptz[], $7::text[]) AS given (c, o, i, t, w, r, d) ORDER BY o
        ON CONFLICT DO NOTHING)
      INSERT INTO spillway.checkpoint VALUES (1, $8, $9)
      ON CONFLICT (log_epoch, partition) DO UPDATE SET next_offset = excluded.next_offset`,
      [
        events.map(({ event }) => event.clientId),
        events.map(({ offset }) => offset.toString()),
        events.map(({ event }) => event.id),
        events.map(({ event }) => event.type),
        events.map(({ event }) => timeText(event.occurredAtMs)),
        events.map(({ event }) => timeText(event.receivedAtMs)),
        events.map(({ event }) => event.data),
        partition,
        below.toString(),
      ],
    );
  }

  /** The checkpoint goes back and takes its rows along, as after a failover to a stale standby. */
  async rewind(partition: number, below: bigint): Promise<void> {
    await this.database.query(
      `WITH gone AS (DELETE FROM spillway.event WHERE "offset" >= $2 AND client_id = ANY ($3))
      UPDATE spillway.checkpoint SET next_offset = $2 WHERE partition = $1`,
      [
        partition,
        below.toString(),
        this.placed.filter((one) => one.partition === partition).map((one) => one.event.clientId),
      ],
    );
  }

  /** The log forgets what lies below, and roles without a database know of a checkpoint that is `known`. */
  async trim(partition: number, below: bigint, known: bigint): Promise<void> {
    await this.#admin.deleteBelow(this.topic, new Map([[partition, below]]));
    const checkpoint = {
      key: Buffer.from(`checkpoint/1/${partition}`),
      value: Buffer.from(`{"nextOffset":"${known}"}`),
    };
    await this.#producer.append(`${this.topic}.control`, [{ partition: 0, records: [checkpoint] }]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#producer.close();
    await this.#admin.close();
    await this.database.drop();
  }
}

/** `GET /api/v1/events` with these parameters. */
export async function page(
  app: App,
  parameters: Readonly<Record<string, string | readonly string[]>>,
  token?: string,
): Promise<PageAnswer> {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) for (const one of [value].flat()) search.append(name, one);
  const answer = await fetch(`${app.url}/api/v1/events?${search}`, {
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  });
  const text = await answer.text();
  return { ...(JSON.parse(text) as PageAnswer), status: answer.status, headers: answer.headers, text };
}

/** The body that shows just these events. */
export const bodyOf = (placed: readonly Placed[], next: string, hasMore = false): string =>
  `{"events":[${placed.map(({ json }) => json).join(",")}],"next":"${next}","hasMore":${hasMore}}`;
