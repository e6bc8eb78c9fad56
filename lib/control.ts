/**
 * The control topic: what roles without a database must know. Identity of the log by epoch, checkpoints as the sinks
 * publish them, and every writer's schema by fingerprint. Keys are text, values JSON; the last value of a key counts.
 */
import type { Clock } from "#lib/clock.ts";
import { type BatchProducer, LogError, type LogRecord, type PartitionReader } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";

/** One log: fixed within its epoch. */
export interface LogIdentity {
  readonly epoch: number;
  readonly topic: string;
  readonly partitions: number;
}

/** A published checkpoint. Never above the true one, unless that went back: as a start it is safe, as a lag too high. */
export interface PublishedCheckpoint {
  readonly nextOffset: bigint;
  /** When it was published, ms since 1970. */
  readonly atMs: number;
}

/** How long one fetch waits for news, and how long after a failure the next is tried. */
const POLL_MS = 1_000;
const RETRY_MS = 500;

/** Follows the control topic. */
export class Control {
  readonly name = "control topic";
  readonly #topic: string;
  readonly #reader: PartitionReader;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #identities = new Map<number, LogIdentity>();
  readonly #checkpoints = new Map<string, PublishedCheckpoint>();
  readonly #schemas = new Map<string, string>();
  #next = 0n;
  #reading: Promise<void> | null = null;
  #unreachableSinceMs: number | null = null;

  constructor(given: { topic: string; reader: PartitionReader; log: Log; clock: Clock }) {
    this.#topic = given.topic;
    this.#reader = given.reader;
    this.#log = given.log;
    this.#clock = given.clock;
  }

  /** Since when the log does not answer, ms since 1970; null while it does. Known within a poll. */
  get unreachableSinceMs(): number | null {
    return this.#unreachableSinceMs;
  }

  /** The log in use: the highest epoch's. Undefined before anybody has published one. */
  identity(): LogIdentity | undefined {
    return this.identities().at(-1);
  }

  /** Every epoch's log, ascending. */
  identities(): readonly LogIdentity[] {
    return [...this.#identities.values()].sort((a, b) => a.epoch - b.epoch);
  }

  /** The last published checkpoint of a partition. */
  checkpoint(epoch: number, partition: number): PublishedCheckpoint | undefined {
    return this.#checkpoints.get(`${epoch}/${partition}`);
  }

  /** A writer's schema, from memory or, when it is new here, from the topic's end. @throws LogError when that cannot be read */
  async schema(fingerprint: string): Promise<string | undefined> {
    const known = this.#schemas.get(fingerprint);
    if (known !== undefined) return known;
    await this.refresh();
    return this.#schemas.get(fingerprint);
  }

  /** Reads up to the end that the topic has now. @throws LogError */
  async refresh(): Promise<void> {
    const end = (await this.#reader.highWatermarks(this.#topic, [0])).get(0) ?? 0n;
    while (this.#next < end) await this.#read();
  }

  /** Follows the topic until `signal` aborts. An unreachable log is waited for. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#read();
        this.#unreachableSinceMs = null;
      } catch (error) {
        if (!(error instanceof LogError)) throw error;
        this.#unreachableSinceMs ??= this.#clock.now();
        this.#log.warn("control topic not read", { topic: this.#topic, error: error.message });
        await this.#clock.sleep(RETRY_MS, signal);
      }
    }
  }

  /** A reader does one fetch at a time: who comes during one shares it. It ends at once if the topic holds anything new. */
  #read(): Promise<void> {
    this.#reading ??= this.#fetch().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #fetch(): Promise<void> {
    const offsets = new Map([[0, this.#next]]);
    const request = { topic: this.#topic, offsets, maxWaitMs: POLL_MS, maxBytes: 1 << 20 };
    for (const fetched of await this.#reader.fetch(request)) {
      for (const record of fetched.records) this.#take(record);
      if (fetched.nextOffset > this.#next) this.#next = fetched.nextOffset;
    }
  }

  #take(record: LogRecord): void {
    const key = record.key?.toString("utf8") ?? "";
    const slash = key.indexOf("/");
    const rest = key.slice(slash + 1);
    try {
      const value: unknown = JSON.parse(record.value?.toString("utf8") ?? "null");
      if (value === null) return;
      switch (key.slice(0, slash)) {
        case "identity":
          this.#identities.set(Number(rest), identityOf(Number(rest), value));
          break;
        case "checkpoint":
          this.#checkpoints.set(rest, { nextOffset: BigInt(text(value, "nextOffset")), atMs: record.timestampMs });
          break;
        case "schema":
          this.#schemas.set(rest, text(value, "schema"));
          break;
        default:
          // A newer Spillway may publish more: what this build does not know is none of its business.
          break;
      }
    } catch (error) {
      this.#log.warn("control record not understood", {
        topic: this.#topic,
        key,
        offset: record.offset,
        error: `${error}`,
      });
    }
  }
}

function identityOf(epoch: number, value: unknown): LogIdentity {
  const partitions = member(value, "partitions");
  if (!Number.isInteger(epoch) || typeof partitions !== "number") throw new Error("this is no log's identity");
  return { epoch, topic: text(value, "topic"), partitions };
}

function text(value: unknown, name: string): string {
  const found = member(value, name);
  if (typeof found !== "string") throw new Error(`it has no text "${name}"`);
  return found;
}

const member = (value: unknown, name: string): unknown =>
  (value as Readonly<Record<string, unknown>> | undefined)?.[name];

/** Publishes to the control topic. Calls wait for each other: the producer has one outstanding send. */
export class ControlWriter {
  readonly #topic: string;
  readonly #producer: BatchProducer;
  #last: Promise<unknown> = Promise.resolve();

  constructor(topic: string, producer: BatchProducer) {
    this.#topic = topic;
    this.#producer = producer;
  }

  /** @throws LogError */
  identity({ epoch, topic, partitions }: LogIdentity): Promise<void> {
    return this.#append([[`identity/${epoch}`, { topic, partitions }]]);
  }

  /** @throws LogError */
  schema(fingerprint: string, schema: string): Promise<void> {
    return this.#append([[`schema/${fingerprint}`, { schema }]]);
  }

  /** @throws LogError */
  checkpoints(epoch: number, nextOffsets: ReadonlyMap<number, bigint>): Promise<void> {
    return this.#append(
      [...nextOffsets].map(([partition, next]) => [
        `checkpoint/${epoch}/${partition}`,
        { nextOffset: next.toString() },
      ]),
    );
  }

  #append(entries: readonly (readonly [string, unknown])[]): Promise<void> {
    const records = entries.map(([key, value]) => ({
      key: Buffer.from(key),
      value: Buffer.from(JSON.stringify(value)),
    }));
    const sent = this.#last.then(() => this.#producer.append(this.#topic, [{ partition: 0, records }]));
    this.#last = sent.catch(() => undefined);
    return sent.then(() => undefined);
  }
}
