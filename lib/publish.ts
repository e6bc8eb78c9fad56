/**
 * Events → acknowledged positions. One producer lane with one outstanding send that carries all partitions: a lone event
 * leaves at once, a crowd gathers behind the send that is under way. Everything is bounded: bytes in flight, time, sends.
 *
 * One lane a process: at 64 connections one lane acknowledged 15.1k single events/s, two 9.9k, four 7.2k (2 cores).
 */
import { aborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import { encodeEvent } from "#lib/codec.ts";
import type { Contact } from "#lib/contact.ts";
import type { LogIdentity } from "#lib/control.ts";
import type { Position } from "#lib/cursor.ts";
import type { Event } from "#lib/event.ts";
import { type BatchProducer, LogError, type PartitionRecords } from "#lib/kafka/ports.ts";
import type { Metrics } from "#lib/metrics.ts";
import { partitionOf } from "#lib/partition.ts";
import { type Entry, PartitionQueues } from "#lib/publish-queues.ts";
import { NotAcknowledged, Request } from "#lib/publish-request.ts";

export interface PublisherParts {
  readonly producer: BatchProducer;
  readonly identity: LogIdentity;
  /** Of events accepted and not yet acknowledged; more is refused. */
  readonly inFlightBytesMax: number;
  /** After so long without an acknowledgement a request is answered; what was sent may still arrive. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly contact: Contact;
  readonly metrics: Metrics;
}

/** A record's Buffers, queue entry and promise, besides its bytes. */
const ENTRY_OVERHEAD_BYTES = 400;
/** How often requests are looked at for their deadline while any waits. */
const SWEEP_MS = 200;
const RETRY_MS = 200;
/**
 * From one send's beginning to the next's. Each send also costs the broker, every query node and the sink a round trip:
 * without a pace 2,000 single events/s made about 1,000 sends/s, which kept two cores busy and everybody waiting.
 */
const SEND_EVERY_MS = 2;
/** So many waiting records are worth a send at any time: with 64 connections in a closed loop about 30 wait. */
const CROWD_RECORDS = 16;

export class Publisher {
  readonly name = "publisher";
  readonly #parts: PublisherParts;
  readonly #queues = new PartitionQueues();
  /** In order of arrival, which is the order of their deadlines too. */
  #requests: Request[] = [];
  #bytes = 0;
  #sendBegunMs: number | null = null;
  #lastBegunMs = Number.NEGATIVE_INFINITY;
  #kicked = false;
  #sweeping = false;
  #failingSinceMs: number | null = null;
  #drained: (() => void) | null = null;

  constructor(parts: PublisherParts) {
    this.#parts = parts;
  }

  /** Publishes until `signal` aborts, then finishes what it has accepted. */
  async run(signal: AbortSignal): Promise<void> {
    await aborted(signal);
    if (this.#requests.some((request) => !request.settled)) {
      const drained = Promise.withResolvers<void>();
      this.#drained = drained.resolve;
      await drained.promise;
    }
  }

  /**
   * Appends events, of one client in the order given.
   * @returns their positions, in the order given, once the broker has made all of them durable
   * @throws NotAcknowledged
   */
  publish(events: readonly Event[]): Promise<readonly Position[]> {
    const { clock, identity, inFlightBytesMax, timeoutMs, metrics, contact } = this.#parts;
    if (this.#isAway()) {
      contact.refused(events.length);
      return Promise.reject(new NotAcknowledged("log-unreachable", "no", "the log does not answer"));
    }
    const encoded = events.map((event) => {
      const key = Buffer.from(event.clientId, "utf8");
      return { key, value: encodeEvent(event), partition: partitionOf(key, identity.partitions) };
    });
    const bytes = encoded.reduce((sum, { key, value }) => sum + key.length + value.length + ENTRY_OVERHEAD_BYTES, 0);
    if (this.#bytes + bytes > inFlightBytesMax)
      return Promise.reject(
        new NotAcknowledged("overloaded", "no", `${this.#bytes} bytes are in flight, of ${inFlightBytesMax} allowed`),
      );
    const settle = Promise.withResolvers<readonly Position[]>();
    const request = new Request(events.length, clock.elapsed() + timeoutMs, settle);
    this.#requests.push(request);
    this.#count(bytes);
    for (const [index, { key, value, partition }] of encoded.entries())
      this.#queues.push(partition, {
        request,
        index,
        record: { key, value },
        bytes: key.length + value.length + ENTRY_OVERHEAD_BYTES,
      });
    metrics.ingestAcceptedEvents.inc(events.length);
    this.#kick();
    this.#sweepLater();
    return settle.promise;
  }

  /** Only while a send is under way or waits to be tried again: with none, the next request is the one that finds out. */
  #isAway(): boolean {
    if (this.#sendBegunMs === null) return false;
    const { clock, timeoutMs } = this.#parts;
    return clock.elapsed() - (this.#failingSinceMs ?? this.#sendBegunMs) > timeoutMs;
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    // Added up, not set: two publishers in one process share the metric.
    this.#parts.metrics.ingestInFlightBytes.inc(bytes);
  }

  /**
   * Sends soon, unless a send is under way: at once after a pause, else no sooner than the pace allows or a crowd
   * waits. The turn's end first: what arrived with this event leaves with it.
   */
  #kick(): void {
    if (this.#kicked || this.#sendBegunMs !== null) return;
    this.#kicked = true;
    const send = (): void => {
      this.#kicked = false;
      void this.#send();
    };
    const earlyMs = SEND_EVERY_MS - (this.#parts.clock.elapsed() - this.#lastBegunMs);
    if (earlyMs > 0 && this.#queues.records < CROWD_RECORDS) this.#parts.clock.after(Math.ceil(earlyMs), send);
    else setImmediate(send);
  }

  async #send(): Promise<void> {
    const { producer, identity, clock, metrics, contact, timeoutMs } = this.#parts;
    const taken = this.#queues.take((entry) => this.#count(-entry.bytes));
    if (taken.size === 0) return;
    this.#sendBegunMs = clock.elapsed();
    this.#lastBegunMs = this.#sendBegunMs;
    const batches: PartitionRecords[] = [];
    for (const [partition, entries] of taken) {
      for (const entry of entries) entry.request.handed = true;
      batches.push({ partition, records: entries.map((entry) => entry.record) });
    }
    metrics.ingestSendRecords.observe(batches.reduce((sum, { records }) => sum + records.length, 0));
    let again = false;
    try {
      const bases = await contact.watch("appends", timeoutMs, () => producer.append(identity.topic, batches));
      this.#acknowledged(taken, bases);
    } catch (error) {
      again = this.#failed(taken, error);
    }
    metrics.ingestAppendMs.observe(clock.elapsed() - this.#sendBegunMs);
    // A log that is away is asked again after a moment, not in a circle.
    if (again) await clock.sleep(RETRY_MS);
    this.#sendBegunMs = null;
    this.#settleSome();
    this.#kick();
  }

  #acknowledged(taken: ReadonlyMap<number, readonly Entry[]>, bases: ReadonlyMap<number, bigint>): void {
    const { epoch } = this.#parts.identity;
    this.#failingSinceMs = null;
    for (const [partition, entries] of taken) {
      const base = bases.get(partition);
      for (const [at, entry] of entries.entries()) {
        this.#count(-entry.bytes);
        if (base === undefined) entry.request.fail(unknownOutcome(`partition ${partition} was not acknowledged`));
        else entry.request.acknowledged(entry.index, { epoch, partition, offset: base + BigInt(at) });
      }
      if (base !== undefined) this.#parts.metrics.ingestAcknowledgedEvents.inc(entries.length);
    }
  }

  /** @returns whether the same records wait for another attempt */
  #failed(taken: ReadonlyMap<number, readonly Entry[]>, error: unknown): boolean {
    const { clock, contact } = this.#parts;
    this.#failingSinceMs ??= this.#sendBegunMs ?? clock.elapsed();
    const kind = error instanceof LogError ? error.kind : "unknown";
    contact.tell("events not appended", { kind, error: error instanceof Error ? error.message : String(error) });
    for (const [partition, entries] of taken) {
      if (kind === "retriable") {
        // Surely not stored: the same records go first next time, in the same order.
        this.#queues.putBack(partition, entries);
        continue;
      }
      for (const entry of entries) {
        this.#count(-entry.bytes);
        this.#refuse(
          entry.request,
          kind === "fatal"
            ? new NotAcknowledged("refused", entry.request.begun ? "unknown" : "no", (error as Error).message, {
                cause: error,
              })
            : unknownOutcome("the log did not confirm the append", error),
        );
      }
    }
    return kind === "retriable";
  }

  #refuse(request: Request, why: NotAcknowledged): void {
    if (!request.settled) this.#parts.contact.refused(request.positions.length);
    request.fail(why);
  }

  #sweepLater(): void {
    if (this.#sweeping) return;
    this.#sweeping = true;
    this.#parts.clock.after(SWEEP_MS, () => {
      this.#sweeping = false;
      this.#settleSome();
      if (this.#requests.length > 0) this.#sweepLater();
    });
  }

  /** Answers requests whose time is over, and forgets those that are answered. */
  #settleSome(): void {
    const now = this.#parts.clock.elapsed();
    let first = 0;
    for (let request = this.#requests[first]; request !== undefined; request = this.#requests[++first]) {
      if (request.settled) continue;
      if (request.deadlineMs > now) break;
      const stored = request.handed ? "unknown" : "no";
      this.#refuse(request, new NotAcknowledged("log-unreachable", stored, "the log did not acknowledge in time"));
    }
    if (first > 0) this.#requests = this.#requests.slice(first);
    // Nobody waits any more: whether the log answers again, the next request or the control topic will tell.
    if (this.#requests.length === 0 && this.#sendBegunMs === null) {
      this.#failingSinceMs = null;
      this.#parts.contact.answered("appends");
    }
    this.#queues.dropSettled((entry) => this.#count(-entry.bytes));
    if (this.#drained !== null && this.#requests.every((request) => request.settled)) this.#drained();
  }
}

const unknownOutcome = (message: string, cause?: unknown): NotAcknowledged =>
  new NotAcknowledged("log-unreachable", "unknown", message, { cause });
