/** The role: connects to the log, publishes what the routes hand over, tells whether it can. It has no database connection. */
import type { Settings } from "#lib/config.ts";
import { connectLog, type Surroundings } from "#lib/connect.ts";
import type { Control } from "#lib/control.ts";
import type { Position } from "#lib/cursor.ts";
import type { Event } from "#lib/event.ts";
import type { Readiness } from "#lib/http.ts";
import type { Metrics } from "#lib/metrics.ts";
import { Publisher } from "#lib/publish.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { runAll, type Task } from "#lib/run.ts";
import { publishWriterSchema } from "#lib/topics.ts";
import type { ingestSettings } from "./config.ts";

export type IngestSettings = Settings<Omit<typeof ingestSettings, "PORT">>;

export class Ingest implements Task {
  readonly name = "ingest";
  readonly #settings: IngestSettings;
  readonly #surroundings: Surroundings & { readonly metrics: Metrics };
  #publisher: Publisher | null = null;
  #control: Control | null = null;
  #waiting = "it is connecting";

  constructor(settings: IngestSettings, surroundings: Surroundings & { readonly metrics: Metrics }) {
    this.#settings = settings;
    this.#surroundings = surroundings;
  }

  /** @throws NotAcknowledged, also before the log was reached for the first time */
  publish(events: readonly Event[]): Promise<readonly Position[]> {
    if (this.#publisher) return this.#publisher.publish(events);
    return Promise.reject(
      new NotAcknowledged("log-unreachable", "no", `the log was not reached yet: ${this.#waiting}`),
    );
  }

  ready(): Readiness {
    const missing: string[] = [];
    const { clock } = this.#surroundings;
    const failing = this.#publisher?.failingSinceMs ?? null;
    const unreachable = this.#control?.unreachableSinceMs ?? null;
    if (this.#publisher === null) missing.push(`log: ${this.#waiting}`);
    else if (failing !== null) missing.push(`log: appends fail for ${Math.round(clock.elapsed() - failing)} ms`);
    else if (unreachable !== null) missing.push(`log: no answer since ${new Date(unreachable).toISOString()}`);
    return { ready: missing.length === 0, missing };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, metrics } = this.#surroundings;
    const connected = await connectLog("ingest", this.#settings, this.#surroundings, signal, (why) => {
      this.#waiting = why;
    });
    try {
      const producer = await connected.kafka.producer();
      try {
        await publishWriterSchema(connected);
        const publisher = new Publisher({
          producer,
          identity: connected.identity,
          inFlightBytesMax: this.#settings.SPILLWAY_IN_FLIGHT_BYTES,
          timeoutMs: this.#settings.SPILLWAY_APPEND_TIMEOUT_MS,
          clock,
          log,
          metrics,
        });
        this.#control = connected.control;
        this.#publisher = publisher;
        await runAll([connected.control, publisher], signal, log);
      } finally {
        await producer.close();
      }
    } finally {
      await connected.close();
    }
  }
}
