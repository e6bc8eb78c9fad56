/**
 * The control topic: what roles without a database must know. Identity of the log by epoch, checkpoints as the sinks
 * publish them, and every writer's schema by fingerprint. The last value of a key counts.
 */
import { unlessAborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import { identityOf, member, text } from "#lib/control-values.ts";
import { type ControlWriter, checkpointEntry, type Entry, identityEntry, schemaEntry } from "#lib/control-writer.ts";
import { LogError, type LogRecord, OffsetOutOfRange, type PartitionReader, TopicMissing } from "#lib/kafka/ports.ts";
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

/** The log that is announced to succeed another one: docs/adopt-log. */
export interface Successor {
  readonly identity: LogIdentity;
  /** When it was announced, ms since 1970. */
  readonly atMs: number;
}

export interface ControlParts {
  readonly topic: string;
  readonly reader: Pick<PartitionReader, "fetch" | "highWatermarks">;
  /** Makes the topic where it is missing. */
  readonly ensure: () => Promise<unknown>;
  readonly writer: Pick<ControlWriter, "entries">;
  readonly log: Log;
  readonly clock: Clock;
  readonly contact: Contact;
}

/** Somebody has made the topics anew, and the log in use is another now: no process may go on by the one it began with. */
export class LogReplaced extends Error {
  constructor(controlTopic: string, { epoch, topic, partitions }: LogIdentity, now: LogIdentity) {
    super(
      `This process began with epoch ${epoch} as ${topic} with ${partitions} partitions, and the control topic ${controlTopic} now ` +
        `says ${now.topic} with ${now.partitions}: the topics were made anew. Restart every role, so that all go by the same.`,
    );
    this.name = "LogReplaced";
  }
}

/** How long one fetch waits for news, and how long after a failure the next is tried. */
const POLL_MS = 1_000;
const RETRY_MS = 500;
/** A fetch without an answer for so long, of which it may wait for news itself, tells that the log is away. */
const SILENT_MS = POLL_MS + 3_000;
/** Of one append. */
const ENTRIES_MAX = 500;

/**
 * Follows the control topic. After a failure it is read from its beginning: somebody may have deleted it meanwhile, and
 * another of the same name need not be shorter. What that one lacks and this process knows is published again.
 */
export class Control {
  readonly name = "control topic";
  readonly #parts: ControlParts;
  readonly #identities = new Map<number, LogIdentity>();
  readonly #checkpoints = new Map<string, PublishedCheckpoint>();
  readonly #schemas = new Map<string, string>();
  readonly #successors = new Map<number, Successor>();
  readonly #listeners = new Set<() => void>();
  /** A log or a successor was met that nobody was told of yet. */
  #moved = false;
  #next = 0n;
  #reading: Promise<void> | null = null;
  /** Keys met since the topic was last begun. */
  readonly #met = new Set<string>();
  /** The identities known when the topic failed; null: it has not failed since it was last read to its end. */
  #doubted: readonly LogIdentity[] | null = null;

  constructor(parts: ControlParts) {
    this.#parts = parts;
  }

  /** The log in use: the highest epoch's. Undefined before anybody has published one. */
  identity(): LogIdentity | undefined {
    return this.identities().at(-1);
  }

  /** Every epoch's log, ascending. */
  identities(): readonly LogIdentity[] {
    return [...this.#identities.values()].sort((a, b) => a.epoch - b.epoch);
  }

  /** What is announced to succeed this epoch's log; undefined: nothing, or it was withdrawn. */
  successor(epoch: number): Successor | undefined {
    return this.#successors.get(epoch);
  }

  /** Calls `listener` whenever a log or a successor was met. @returns what ends that */
  onMoved(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
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
    const { topic, reader } = this.#parts;
    const end = (await reader.highWatermarks(topic, [0])).get(0) ?? 0n;
    for (let vain = 0; this.#next < end; ) {
      const before = this.#next;
      await this.#read();
      vain = this.#next === before ? vain + 1 : 0;
      // The first may have been on its way when the end was asked for; the second saw it.
      if (vain > 1) throw new LogError("retriable", `${topic} ends at ${end}: behind ${before} a transaction is open`);
    }
  }

  /** Follows the topic until `signal` aborts. An unreachable log is waited for. @throws LogReplaced */
  async run(signal: AbortSignal): Promise<void> {
    const { topic, clock, contact } = this.#parts;
    while (!signal.aborted) {
      try {
        await unlessAborted(signal, this.#doubted === null ? this.#read() : this.#restore(this.#doubted));
      } catch (error) {
        if (error === signal.reason) return;
        if (!(error instanceof LogError || error instanceof OffsetOutOfRange)) throw error;
        contact.failed("control topic", error);
        contact.tell("control topic not read", { topic, error: error.message });
        await clock.sleep(RETRY_MS, signal);
      }
    }
  }

  /** Reads the topic anew and mends it. @throws LogReplaced, LogError */
  async #restore(before: readonly LogIdentity[]): Promise<void> {
    const { topic, ensure, writer, log } = this.#parts;
    try {
      await this.refresh();
    } catch (error) {
      if (!(error instanceof TopicMissing)) throw error;
      log.warn("control topic is missing: it is made anew", { topic });
      await ensure();
      await this.refresh();
    }
    for (const one of before) {
      const now = this.#identities.get(one.epoch) ?? one;
      if (now.topic !== one.topic || now.partitions !== one.partitions) throw new LogReplaced(topic, one, now);
    }
    const lost = this.#known().filter(([key]) => !this.#met.has(key));
    if (lost.length > 0) {
      log.warn("control topic was made anew: what this process knows is published again", { topic, keys: lost.length });
      for (let at = 0; at < lost.length; at += ENTRIES_MAX) await writer.entries(lost.slice(at, at + ENTRIES_MAX));
    }
    this.#doubted = null;
  }

  #known(): Entry[] {
    return [
      ...this.identities().map(identityEntry),
      ...[...this.#schemas].map(([fingerprint, schema]) => schemaEntry(fingerprint, schema)),
      ...[...this.#checkpoints].map(([place, { nextOffset }]) => checkpointEntry(place, nextOffset)),
    ];
  }

  /** A reader does one fetch at a time: who comes during one shares it. It ends at once if the topic holds anything new. */
  #read(): Promise<void> {
    this.#reading ??= this.#fetch().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #fetch(): Promise<void> {
    const { topic, reader, contact } = this.#parts;
    const request = { topic, offsets: new Map([[0, this.#next]]), maxWaitMs: POLL_MS, maxBytes: 1 << 20 };
    try {
      for (const fetched of await contact.watch("control topic", SILENT_MS, () => reader.fetch(request))) {
        for (const record of fetched.records) this.#take(record);
        if (fetched.nextOffset > this.#next) this.#next = fetched.nextOffset;
      }
      if (this.#moved) for (const listener of this.#listeners) listener();
      this.#moved = false;
    } catch (error) {
      this.#doubted ??= this.identities();
      this.#next = 0n;
      this.#met.clear();
      throw error;
    }
  }

  #take(record: LogRecord): void {
    const key = record.key?.toString("utf8") ?? "";
    const slash = key.indexOf("/");
    const rest = key.slice(slash + 1);
    this.#met.add(key);
    try {
      const value: unknown = JSON.parse(record.value?.toString("utf8") ?? "null");
      if (value === null) return;
      switch (key.slice(0, slash)) {
        case "identity":
          this.#identities.set(Number(rest), identityOf(Number(rest), value));
          this.#moved = true;
          break;
        case "successor":
          this.#takeSuccessor(Number(rest), value, record.timestampMs);
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
      const { topic, log } = this.#parts;
      log.warn("control record not understood", { topic, key, offset: record.offset, error: `${error}` });
    }
  }

  #takeSuccessor(epoch: number, value: unknown, atMs: number): void {
    if (member(value, "withdrawn") === true) this.#successors.delete(epoch);
    else this.#successors.set(epoch, { identity: identityOf(epoch + 1, value), atMs });
    this.#moved = true;
  }
}
