/** The role: connects to the log, publishes what the routes hand over, tells whether it can. It has no database connection. */
import type { Settings } from "#lib/config.ts";
import { type ConnectedLog, connectLog, type Surroundings } from "#lib/connect.ts";
import type { LogIdentity } from "#lib/control.ts";
import type { Position } from "#lib/cursor.ts";
import { eachEpoch } from "#lib/epochs.ts";
import type { Event } from "#lib/event.ts";
import type { Metrics } from "#lib/metrics.ts";
import { type Readiness, type Reason, reasons } from "#lib/operator.ts";
import { Publisher } from "#lib/publish.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { LogGauge } from "#lib/retention.ts";
import { RetentionGuard } from "#lib/retention-guard.ts";
import { runAll, type Task } from "#lib/run.ts";
import { Succession } from "#lib/succession.ts";
import { publishWriterSchema } from "#lib/topics.ts";
import type { ingestSettings } from "./config.ts";

export type IngestSettings = Settings<Omit<typeof ingestSettings, "PORT">>;

export class Ingest implements Task {
  readonly name = "ingest";
  readonly #settings: IngestSettings;
  readonly #surroundings: Surroundings & { readonly metrics: Metrics };
  readonly #begunMs: number;
  #publisher: Publisher | null = null;
  #guard: RetentionGuard | null = null;
  #waiting = "it is connecting";

  constructor(settings: IngestSettings, surroundings: Surroundings & { readonly metrics: Metrics }) {
    this.#settings = settings;
    this.#surroundings = surroundings;
    this.#begunMs = surroundings.clock.now();
  }

  /** @throws NotAcknowledged, also before the log was reached for the first time */
  publish(events: readonly Event[]): Promise<readonly Position[]> {
    const full = this.#guard?.admit(events.length);
    if (full) return Promise.reject(full);
    if (this.#publisher) return this.#publisher.publish(events);
    return Promise.reject(
      new NotAcknowledged("log-unreachable", "no", `the log was not reached yet: ${this.#waiting}`),
    );
  }

  ready(): Readiness {
    const missing = this.#missing();
    return { ready: missing.length === 0, missing, degraded: this.#guard?.reasons ?? [] };
  }

  #missing(): readonly Reason[] {
    const { contact } = this.#surroundings;
    if (this.#publisher === null) return reasons(`log: ${contact.brokers}: ${this.#waiting}`, this.#begunMs);
    return contact.reasons("appends", "control topic");
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, metrics, contact } = this.#surroundings;
    const connected = await connectLog("ingest", this.#settings, this.#surroundings, signal, (why) => {
      this.#waiting = why;
    });
    try {
      const producer = await connected.kafka.producer();
      try {
        await publishWriterSchema(connected);
        const succession = new Succession(connected, this.#surroundings);
        const publisher = new Publisher({
          producer,
          identity: connected.identity,
          isClosed: (identity) => succession.isClosed(identity),
          inFlightBytesMax: this.#settings.SPILLWAY_IN_FLIGHT_BYTES,
          timeoutMs: this.#settings.SPILLWAY_APPEND_TIMEOUT_MS,
          clock,
          contact,
          metrics,
        });
        this.#publisher = publisher;
        const guarding = eachEpoch("retention guard", connected, (identity) => this.#newGuard(connected, identity));
        await runAll([connected.control, guarding, publisher, succession.lead(publisher)], signal, log);
      } finally {
        await producer.close();
      }
    } finally {
      await connected.close();
    }
  }

  #newGuard(connected: ConnectedLog, identity: LogIdentity): RetentionGuard {
    const { log, clock, metrics, contact } = this.#surroundings;
    const openReader = () => connected.kafka.partitionReader();
    this.#guard = new RetentionGuard({
      gauge: new LogGauge({ ...connected, identity, openReader, clock, metrics }),
      bytesMax: this.#settings.SPILLWAY_LOG_BYTES_MAX,
      clock,
      log,
      contact,
      metrics,
    });
    return this.#guard;
  }
}
