/**
 * Events → acknowledged positions. One producer lane with one outstanding send that carries all partitions: a lone event
 * leaves at once, a crowd gathers behind the send that is under way. Everything is bounded: bytes in flight, time, sends.
 * One lane a process: at 64 connections one lane acknowledged 15.1k single events/s, two 9.9k, four 7.2k (2 cores).
 */
import { aborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import type { LogIdentity } from "#lib/control.ts";
import type { Position } from "#lib/cursor.ts";
import type { Event } from "#lib/event.ts";
import { isRecordRefused } from "#lib/kafka/errors.ts";
import { type BatchProducer, LogError } from "#lib/kafka/ports.ts";
import type { Metrics } from "#lib/metrics.ts";
import { entriesOf, handedBatches, PartitionQueues, type Taken } from "#lib/publish-queues.ts";
import { closed, late, NotAcknowledged, Request, Requests, unknownOutcome } from "#lib/publish-request.ts";

export interface PublisherParts {
  readonly producer: BatchProducer;
  /** The log to begin with. */
  readonly identity: LogIdentity;
  /** Whether a log that refuses records for their size takes none at all, since another one succeeds it. */
  readonly isClosed: (identity: LogIdentity) => Promise<boolean>;
  /** Of events accepted and not yet acknowledged; more is refused. */
  readonly inFlightBytesMax: number;
  /** After so long without an acknowledgement a request is answered; what was sent may still arrive. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly contact: Contact;
  readonly metrics: Metrics;
}

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
  readonly #queues: PartitionQueues;
  #identity: LogIdentity;
  /** Cancels the timer that ends a hold: not a clock, beside which it might fire too early. Null: nothing is held. */
  #held: (() => void) | null = null;
  readonly #requests = new Requests();
  #bytes = 0;
  #sendBegunMs: number | null = null;
  #lastBegunMs = Number.NEGATIVE_INFINITY;
  #kicked = false;
  #sweeping = false;
  #failingSinceMs: number | null = null;
  #drained: (() => void) | null = null;

  constructor(parts: PublisherParts) {
    this.#parts = parts;
    this.#identity = parts.identity;
    this.#queues = new PartitionQueues(parts.identity.partitions);
  }

  /** The log that it appends to. */
  get identity(): LogIdentity {
    return this.#identity;
  }

  /** Begins no send for so long, or until `adopt`: events wait meanwhile, each no longer than its request does. */
  hold(ms: number): void {
    this.#held?.();
    this.#held = this.#parts.clock.after(ms, () => {
      this.#held = null;
      this.#kick();
    });
  }

  /** Goes on with another log: what was not sent yet goes there, and what surely was not stored. */
  adopt(identity: LogIdentity): void {
    this.#identity = identity;
    this.#queues.adopt(identity.partitions);
    this.hold(0);
  }

  /** Publishes until `signal` aborts, then finishes what it has accepted. */
  async run(signal: AbortSignal): Promise<void> {
    await aborted(signal);
    if (!this.#requests.settled) {
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
    const { clock, inFlightBytesMax, timeoutMs, metrics, contact } = this.#parts;
    if (this.#isAway()) {
      contact.refused(events.length);
      return Promise.reject(new NotAcknowledged("log-unreachable", "no", "the log does not answer"));
    }
    const entries = entriesOf(events);
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    if (this.#bytes + bytes > inFlightBytesMax)
      return Promise.reject(
        new NotAcknowledged("overloaded", "no", `${this.#bytes} bytes are in flight, of ${inFlightBytesMax} allowed`),
      );
    const settle = Promise.withResolvers<readonly Position[]>();
    const request = new Request(events.length, clock.elapsed() + timeoutMs, settle);
    this.#requests.add(request);
    this.#count(bytes);
    for (const entry of entries) this.#queues.push({ ...entry, request });
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
    const { producer, clock, metrics, contact, timeoutMs } = this.#parts;
    if (this.#held !== null) return;
    const identity = this.#identity;
    const taken = this.#queues.take((entry) => this.#count(-entry.bytes));
    if (taken.size === 0) return;
    this.#sendBegunMs = clock.elapsed();
    this.#lastBegunMs = this.#sendBegunMs;
    const batches = handedBatches(taken);
    metrics.ingestSendRecords.observe(batches.reduce((sum, { records }) => sum + records.length, 0));
    let again = false;
    try {
      const bases = await contact.watch("appends", timeoutMs, () => producer.append(identity.topic, batches));
      if (this.#identity.epoch !== identity.epoch) throw late(identity);
      this.#acknowledged(identity.epoch, taken, bases);
    } catch (error) {
      const isClosed = isRecordRefused(error) && (await this.#parts.isClosed(identity));
      again = this.#failed(taken, isClosed ? closed(identity, error as LogError) : error);
    }
    metrics.ingestAppendMs.observe(clock.elapsed() - this.#sendBegunMs);
    // A log that is away is asked again after a moment, not in a circle.
    if (again) await clock.sleep(RETRY_MS);
    this.#sendBegunMs = null;
    this.#settleSome();
    this.#kick();
  }

  #acknowledged(epoch: number, taken: Taken, bases: ReadonlyMap<number, bigint>): void {
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
  #failed(taken: Taken, error: unknown): boolean {
    const { clock, contact } = this.#parts;
    this.#failingSinceMs ??= this.#sendBegunMs ?? clock.elapsed();
    const kind = error instanceof LogError ? error.kind : "unknown";
    contact.tell("events not appended", { kind, error: error instanceof Error ? error.message : String(error) });
    for (const entries of taken.values()) {
      if (kind === "retriable") {
        // Surely not stored: the same records go first next time, in the same order.
        this.#queues.putBack(entries);
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
      if (this.#requests.size > 0) this.#sweepLater();
    });
  }

  /** Answers requests whose time is over, and forgets those that are answered. */
  #settleSome(): void {
    this.#requests.sweep(this.#parts.clock.elapsed(), (request) => {
      const stored = request.handed ? "unknown" : "no";
      this.#refuse(request, new NotAcknowledged("log-unreachable", stored, "the log did not acknowledge in time"));
    });
    // Nobody waits any more: whether the log answers again, the next request or the control topic will tell.
    if (this.#requests.size === 0 && this.#sendBegunMs === null) {
      this.#failingSinceMs = null;
      this.#parts.contact.answered("appends");
    }
    this.#queues.dropSettled((entry) => this.#count(-entry.bytes));
    if (this.#drained !== null && this.#requests.settled) this.#drained();
  }
}
