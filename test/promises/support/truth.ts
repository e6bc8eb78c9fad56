/** What there really is: dumps of the topic, rows, checkpoints and dead letters, read past the product's own code paths. */
import pg from "pg";
import { systemClock as clock } from "#lib/clock.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import type { LogAdmin, OffsetRange, PartitionReader } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { partitionOf } from "#lib/partition.ts";
import type { Database } from "../../support/postgres.ts";
import { until } from "../../support/until.ts";
import { contentOf, decodeRecord, placed, type Seen } from "./content.ts";

export interface TopicRecord {
  readonly partition: number;
  readonly offset: bigint;
  /** Null: the bytes are no event of this client's. */
  readonly event: {
    readonly clientId: string;
    readonly id: string;
    readonly type: string;
    readonly content: string;
  } | null;
}

export interface SavedRow {
  readonly partition: number;
  readonly offset: bigint;
  readonly clientId: string;
  readonly id: string;
  readonly content: string;
}

/** A fresh reader's walk at the end. */
export interface FinalRead {
  readonly node: string;
  readonly clientId: string;
  readonly events: readonly Seen[];
}

/** The checker's second input. */
export interface Truth {
  /** By partition, ascending. */
  readonly topic: readonly TopicRecord[];
  /** First offset that the topic still has, by partition; what lies below can no longer be looked up. */
  readonly logStarts: ReadonlyMap<number, bigint>;
  readonly rows: readonly SavedRow[];
  /** S by partition. */
  readonly checkpoints: ReadonlyMap<number, bigint>;
  readonly dead: readonly { readonly partition: number; readonly offset: bigint }[];
  readonly finals: readonly FinalRead[];
}

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const FETCH_BYTES_MAX = 4 * 1024 * 1024;
const FETCH_WAIT_MS = 1_000;

/** The topic, read by a client of its own. */
export class LogView implements AsyncDisposable {
  readonly #topic: string;
  readonly epoch: number;
  readonly admin: LogAdmin;
  readonly #reader: PartitionReader;

  private constructor(topic: string, epoch: number, admin: LogAdmin, reader: PartitionReader) {
    this.#topic = topic;
    this.epoch = epoch;
    this.admin = admin;
    this.#reader = reader;
  }

  static async open(brokers: string, topic: string, epoch = 1): Promise<LogView> {
    const kafka = connectKafka({ brokers: brokers.split(","), clientId: "test-truth", log: silent, clock });
    return new LogView(topic, epoch, await kafka.admin(), await kafka.partitionReader());
  }

  /** A leader that has just been chosen is not known everywhere yet: it is asked for again. */
  offsets(): Promise<ReadonlyMap<number, OffsetRange>> {
    return until(`the offsets of ${this.#topic}`, () => this.admin.offsets(this.#topic));
  }

  /** Every record of every partition up to the ends at this moment. */
  async records(): Promise<TopicRecord[]> {
    const records: TopicRecord[] = [];
    const ranges = await this.offsets();
    for (const [partition, { low, high }] of [...ranges].sort(([a], [b]) => a - b))
      for (let next = low; next < high; ) {
        const request = { topic: this.#topic, offsets: new Map([[partition, next]]), maxWaitMs: FETCH_WAIT_MS };
        const fetched = await until(`records of ${this.#topic}/${partition}`, async () => {
          const [answer] = await this.#reader.fetch({ ...request, maxBytes: FETCH_BYTES_MAX });
          return answer;
        });
        for (const { offset, key, value } of fetched.records)
          records.push({
            ...placed(this.epoch, partition, offset),
            event: eventOf(partition, ranges.size, key, value),
          });
        next = fetched.nextOffset;
      }
    return records;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.close();
    await this.admin.close();
  }
}

function eventOf(
  partition: number,
  partitions: number,
  key: Buffer | null,
  value: Buffer | null,
): TopicRecord["event"] {
  const event = decodeRecord(value);
  if (event === null || key === null || key.toString("utf8") !== event.clientId) return null;
  if (partitionOf(key, partitions) !== partition) return null;
  const { clientId, id, type, content } = event;
  return { clientId, id, type, content };
}

type Queried = Pick<Database, "query">;

/** @param partitions of the topic of each epoch */
async function readRows(database: Queried, partitions: ReadonlyMap<number, number>): Promise<SavedRow[]> {
  const rows = await database.query<{
    c: string;
    epoch: number;
    o: string;
    id: string;
    type: string;
    ms: string;
    data: string | null;
  }>(
    `SELECT client_id AS c, log_epoch AS epoch, "offset"::text AS o, id, type, (extract(epoch FROM occurred_at) * 1000)::bigint::text AS ms,
            data::text AS data FROM spillway.event`,
  );
  return rows.map(({ c: clientId, epoch, o, id, type, ms, data }) => ({
    ...placed(epoch, partitionOf(Buffer.from(clientId, "utf8"), partitions.get(epoch) ?? 1), BigInt(o)),
    clientId,
    id,
    content: contentOf({
      clientId,
      id,
      type,
      occurredAt: Number(ms),
      ...(data !== null && { data: JSON.parse(data) as unknown }),
    }),
  }));
}

/** S by partition; empty before the store was made. */
export async function readCheckpoints(database: Queried): Promise<Map<number, bigint>> {
  const [made] = await database.query<{ made: boolean }>(
    "SELECT to_regclass('spillway.checkpoint') IS NOT NULL AS made",
  );
  if (!made?.made) return new Map();
  const rows = await database.query<{ epoch: number; partition: number; next: string }>(
    "SELECT log_epoch AS epoch, partition, next_offset::text AS next FROM spillway.checkpoint",
  );
  const places = rows.map(({ epoch, partition, next }) => placed(epoch, partition, BigInt(next)));
  return new Map(places.map(({ partition, offset }) => [partition, offset]));
}

/** Resolves once every record that the topic has at each look lies below its partition's checkpoint. */
export async function untilSaved(view: LogView, database: Database, limitMs = 60_000): Promise<void> {
  await until(
    "everything is saved",
    async () => {
      const ranges = await view.offsets();
      const checkpoints = await readCheckpoints(database);
      const ends = [...ranges].map(([partition, { high }]) => placed(view.epoch, partition, high));
      const left = ends.filter(({ partition, offset }) => (checkpoints.get(partition) ?? 0n) < offset);
      if (left.length > 0)
        throw new Error(
          left.map(({ partition: p, offset }) => `partition ${p}: ${checkpoints.get(p)} of ${offset}`).join(", "),
        );
      return true;
    },
    { limitMs },
  );
}

/** All of it but the final reads. The topics are read last, so that every row and checkpoint has its record. */
export async function readTruth(views: readonly LogView[], database: Database): Promise<Omit<Truth, "finals">> {
  const partitions = new Map<number, number>();
  for (const view of views) partitions.set(view.epoch, (await view.offsets()).size);
  const store = await inOneSnapshot(database.url, (snapshot) => readStore(snapshot, partitions));
  const topic: TopicRecord[] = [];
  const logStarts = new Map<number, bigint>();
  for (const view of views) {
    for (const record of await view.records()) topic.push(record);
    for (const [number, { low }] of await view.offsets()) {
      const { partition, offset } = placed(view.epoch, number, low);
      logStarts.set(partition, offset);
    }
  }
  return { topic, logStarts, ...store };
}

async function readStore(
  database: Queried,
  partitions: ReadonlyMap<number, number>,
): Promise<Pick<Truth, "rows" | "checkpoints" | "dead">> {
  const checkpoints = await readCheckpoints(database);
  const [made] = await database.query<{ made: boolean }>("SELECT to_regclass('spillway.event') IS NOT NULL AS made");
  if (!made?.made) return { rows: [], checkpoints, dead: [] };
  const dead = await database.query<{ epoch: number; partition: number; o: string }>(
    'SELECT log_epoch AS epoch, partition, "offset"::text AS o FROM spillway.dead_letter',
  );
  return {
    rows: await readRows(database, partitions),
    checkpoints,
    dead: dead.map(({ epoch, partition, o }) => placed(epoch, partition, BigInt(o))),
  };
}

/** A sink may still save: rows and checkpoints of different moments would contradict each other. */
async function inOneSnapshot<T>(url: string, read: (snapshot: Queried) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    return await read({
      query: async <Row>(text: string, values: readonly unknown[] = []) =>
        (await client.query(text, [...values])).rows as Row[],
    });
  } finally {
    await client.end();
  }
}
