/** Reads the log's every partition to its end, and goes on reading: the only writer of the tail. */
import { unlessAborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import type { LogIdentity } from "#lib/control.ts";
import { encodeCursor } from "#lib/cursor.ts";
import type { RecordDecoder } from "#lib/decode.ts";
import { eventJson } from "#lib/event.ts";
import { type FetchedRecords, LogError, OffsetOutOfRange, type PartitionReader } from "#lib/kafka/ports.ts";
import { type Reason, reasons } from "#lib/operator.ts";
import type { NewTailEvent } from "./partition-tail.ts";
import type { SameLog } from "./same-log.ts";
import type { Tail } from "./tail.ts";

export interface TailReaderParts {
  readonly identity: LogIdentity;
  readonly reader: Pick<PartitionReader, "fetch">;
  readonly decoder: RecordDecoder;
  readonly tail: Tail;
  /** Asks the database for the checkpoints and lets the tail know them; true when it answered. */
  refresh(): Promise<boolean>;
  readonly sameLog: Pick<SameLog, "met" | "proveRead">;
  readonly clock: Clock;
  readonly contact: Contact;
}

/** One long poll; also how late a restarted partition begins to be read again. */
const POLL_MS = 500;
const FETCH_BYTES = 4 * 1024 * 1024;
/** Records decoded in one go; requests are served in between. */
const SLICE_RECORDS = 1_000;
/** A full tail looks this often whether something was dropped. */
const FULL_MS = 50;
const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 5_000;
/**
 * After a failure, or so long without an answer (the tail was full, the process frozen), the topic may have been made anew
 * unseen: it is proved to be the one that was read before anything more is taken from it.
 */
const UNSEEN_MS_MAX = 5_000;
/** A fetch without an answer for so long, of which it may wait for news itself, tells that the log is away. */
const SILENT_MS = POLL_MS + 3_000;

export class TailReader {
  readonly name = "unsaved tail";
  readonly #parts: TailReaderParts;
  #missing = "log: nothing was read yet";
  #missingSinceMs: number | null;
  #backoffMs = BACKOFF_MS_MIN;
  /** When the log last answered, on the clock's `elapsed`; null: it failed since. */
  #answeredMs: number | null;
  #proof: Promise<void> | null = null;

  constructor(parts: TailReaderParts) {
    this.#parts = parts;
    this.#missingSinceMs = parts.clock.now();
    this.#answeredMs = parts.clock.elapsed();
  }

  /** Why the log is not read, though it answers; none while it is. */
  get missing(): readonly Reason[] {
    return reasons(this.#missing, this.#missingSinceMs);
  }

  /**
   * Waits for a proof that is under way.
   * @throws LogError while nobody knows whether the log is the one that was read: what it says of itself does not count
   */
  async requireProved(): Promise<void> {
    await this.#proof?.catch(() => undefined);
    if (this.#answeredMs === null)
      throw new LogError("retriable", "after a failure it is not known yet whether it is the one that was read");
  }

  /**
   * Reads until `signal` aborts; an unreachable log is waited for.
   * @throws OffsetOutOfRange when unsaved records are gone; ContinuityBroken when it is another log
   */
  async run(signal: AbortSignal): Promise<void> {
    const { tail, clock } = this.#parts;
    while (!signal.aborted) {
      if (tail.full) await tail.relieve();
      if (tail.full) await clock.sleep(FULL_MS, signal);
      else await this.#round(signal);
    }
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { tail, contact } = this.#parts;
    try {
      if (this.#unseen()) await unlessAborted(signal, this.#prove());
      await this.#fetch(signal);
      this.#missingSinceMs = null;
      this.#backoffMs = BACKOFF_MS_MIN;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof OffsetOutOfRange) await this.#outOfRange(error, signal);
      else if (!(error instanceof LogError) || error.kind === "fatal") throw error;
      else {
        contact.failed("unsaved tail", error);
        await this.#backOff(error.message, signal);
      }
    }
    tail.measure();
  }

  #unseen(): boolean {
    return this.#answeredMs === null || this.#parts.clock.elapsed() - this.#answeredMs >= UNSEEN_MS_MAX;
  }

  async #prove(): Promise<void> {
    const { sameLog, clock } = this.#parts;
    this.#answeredMs = null;
    this.#proof = sameLog.proveRead(this.#next());
    try {
      await this.#proof;
    } finally {
      this.#proof = null;
    }
    this.#answeredMs = clock.elapsed();
  }

  /** Where each partition goes on. */
  #next(): Map<number, bigint> {
    const { tail } = this.#parts;
    return new Map(tail.partitions.map((partition) => [partition, tail.partition(partition).next]));
  }

  async #backOff(error: string, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { clock, contact, identity } = this.#parts;
    const backoffMs = this.#backoffMs;
    this.#backoffMs = Math.min(BACKOFF_MS_MAX, backoffMs * 2);
    contact.tell("log not read", { topic: identity.topic, error, backoffMs });
    await clock.sleep(backoffMs * (0.5 + clock.random() / 2), signal);
  }

  async #fetch(signal: AbortSignal): Promise<void> {
    const { reader, identity, clock, contact } = this.#parts;
    const offsets = this.#next();
    const request = { topic: identity.topic, offsets, maxWaitMs: POLL_MS, maxBytes: FETCH_BYTES };
    const fetching = (): ReturnType<typeof reader.fetch> => unlessAborted(signal, reader.fetch(request));
    const answer = await contact.watch("unsaved tail", SILENT_MS, fetching).catch((error: unknown) => {
      this.#answeredMs = null;
      throw error;
    });
    this.#answeredMs = clock.elapsed();
    for (const fetched of answer) {
      if (signal.aborted) return;
      await this.#take(fetched, offsets.get(fetched.partition) ?? 0n);
    }
  }

  async #take(fetched: FetchedRecords, asked: bigint): Promise<void> {
    const { clock, tail, sameLog } = this.#parts;
    const { partition, records, nextOffset } = fetched;
    tail.told(partition, fetched);
    let from = asked;
    for (let at = 0; at < records.length; at += SLICE_RECORDS) {
      const slice = records.slice(at, at + SLICE_RECORDS);
      const end = (slice.at(-1)?.offset ?? from) + 1n;
      const events = await tail.prepared(partition, await this.#events(partition, slice));
      if (events === null || !tail.take(partition, from, events, end)) return;
      from = end;
      if (tail.full) await tail.relieve();
      if (at + SLICE_RECORDS < records.length) await clock.turn();
    }
    tail.take(partition, from, [], nextOffset);
    const last = records.at(-1);
    if (last) sameLog.met(partition, last);
  }

  /** Records that are no events are passed over, as the sink does with them. */
  async #events(partition: number, records: FetchedRecords["records"]): Promise<NewTailEvent[]> {
    const { decoder, identity } = this.#parts;
    const events: NewTailEvent[] = [];
    for (const one of await decoder.decode(partition, records)) {
      if (!one.ok) continue;
      const { offset } = one.record;
      const cursor = encodeCursor({ epoch: identity.epoch, partition, offset });
      events.push({ event: one.event, offset, json: eventJson(one.event, cursor) });
    }
    return events;
  }

  /** Below the log's start is right where all that is missing has been saved. Otherwise events are lost: stop, and say so. */
  async #outOfRange(error: OffsetOutOfRange, signal: AbortSignal): Promise<void> {
    const { tail, refresh, clock } = this.#parts;
    const { topic, wanted, range } = error;
    const partition = tail.partition(error.partition);
    if (wanted !== partition.next) return;
    if (wanted >= range.low) throw error;
    tail.told(error.partition, { highWatermark: range.high, logStart: range.low });
    const answered = await refresh();
    if (partition.next >= range.low) return;
    if (answered) throw error;
    const unknown = `${topic}/${error.partition} begins at offset ${range.low}, and without the database nobody knows whether what lay from ${wanted} on was saved`;
    this.#missing = `log: ${unknown}`;
    this.#missingSinceMs ??= clock.now();
    await this.#backOff(unknown, signal);
  }
}
