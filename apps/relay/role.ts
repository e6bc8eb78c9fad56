/** The role: opens the log and the application's database, relays from one to the other, tells whether it can. */
import type { Settings } from "#lib/config.ts";
import { type ConnectedLog, connectLog, type Surroundings } from "#lib/connect.ts";
import type { LogIdentity } from "#lib/control.ts";
import { eachEpoch } from "#lib/epochs.ts";
import type { Event } from "#lib/event.ts";
import type { BatchProducer } from "#lib/kafka/ports.ts";
import type { Metrics } from "#lib/metrics.ts";
import { type Readiness, type Reason, reasons } from "#lib/operator.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { requireRoom } from "#lib/postgres/room.ts";
import { Publisher } from "#lib/publish.ts";
import { LogGauge } from "#lib/retention.ts";
import { Alarm } from "#lib/retention-alarm.ts";
import { RetentionGuard } from "#lib/retention-guard.ts";
import { runAll, type Task } from "#lib/run.ts";
import { databaseAddress } from "#lib/setting-forms.ts";
import { Succession } from "#lib/succession.ts";
import { publishWriterSchema } from "#lib/topics.ts";
import { EventBuffer } from "./buffer.ts";
import type { relaySettings } from "./config.ts";
import { Housekeeping } from "./housekeeping.ts";
import { PAGE_BYTES_MAX, Relay } from "./relay.ts";

/** One page is published at a time, and an earlier one that was given up may still be held. */
const IN_FLIGHT_BYTES_MAX = 4 * PAGE_BYTES_MAX;
const PUBLISH_TIMEOUT_MS = 4_500;
const CONNECTIONS_MAX = 1;
const CONNECT_TIMEOUT_MS = 10_000;
/** A statement that the database does not answer is given up so long after the stop: the process has 25 s. */
const STOP_MS_MAX = 12_000;

export class RelayRole implements Task {
  readonly name = "relay role";
  readonly #settings: Settings<typeof relaySettings>;
  readonly #surroundings: Surroundings & { readonly metrics: Metrics };
  readonly #storeAlarm: Alarm;
  readonly #logAlarm: Alarm;
  /** What must be there before the work begins; null: it has begun. */
  #waiting: Reason | null;
  #weakened: readonly { readonly reasons: readonly Reason[] }[] = [];

  constructor(settings: Settings<typeof relaySettings>, surroundings: Surroundings & { readonly metrics: Metrics }) {
    this.#settings = settings;
    this.#surroundings = surroundings;
    this.#storeAlarm = new Alarm("event buffer did not answer", "event buffer answers again", surroundings);
    this.#logAlarm = new Alarm("rows not published", "rows are published again", surroundings);
    const { contact, clock } = surroundings;
    this.#waiting = { what: `log: ${contact.brokers}: it is connecting`, sinceMs: clock.now() };
  }

  ready(): Readiness {
    const { contact } = this.#surroundings;
    const told = (prefix: string, alarm: Alarm): readonly Reason[] =>
      alarm.reasons.map(({ what, sinceMs }) => ({ what: `${prefix}: ${what}`, sinceMs }));
    const missing = [
      ...told(`event buffer: ${databaseAddress(this.#settings.DATABASE_URL)}`, this.#storeAlarm),
      ...told(`log: ${contact.brokers}`, this.#logAlarm),
      ...contact.reasons("control topic"),
      ...reasons(this.#waiting?.what ?? "", this.#waiting?.sinceMs ?? null),
    ];
    return { ready: missing.length === 0, missing, degraded: this.#weakened.flatMap((part) => part.reasons) };
  }

  async run(signal: AbortSignal): Promise<void> {
    const { contact, clock, log, metrics } = this.#surroundings;
    const sinceMs = clock.now();
    const connected = await connectLog("relay", this.#settings, this.#surroundings, signal, (why) => {
      this.#waiting = { what: `log: ${contact.brokers}: ${why}`, sinceMs };
    });
    await using stack = new AsyncDisposableStack();
    stack.defer(() => connected.close());
    const producer = stack.adopt(await connected.kafka.producer(), (one) => one.close());
    await publishWriterSchema(connected);
    const pool = new Pool({
      url: this.#settings.DATABASE_URL,
      max: CONNECTIONS_MAX,
      name: "spillway-relay",
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      log,
      clock,
      counted: { metrics, pool: "relay" },
    });
    stack.defer(() => pool.close());
    // The process ends with this role: a timer that comes after its end finds no connection to cut.
    signal.addEventListener("abort", () => clock.after(STOP_MS_MAX, () => pool.abandon()), { once: true });
    await this.#work(pool, producer, connected, signal);
  }

  async #work(pool: Pool, producer: BatchProducer, connected: ConnectedLog, signal: AbortSignal): Promise<void> {
    const { clock, log, contact, metrics } = this.#surroundings;
    const { identity, control, kafka } = connected;
    const newGuard = (of: LogIdentity): RetentionGuard =>
      new RetentionGuard({
        gauge: new LogGauge({ ...connected, identity: of, openReader: () => kafka.partitionReader(), clock, metrics }),
        bytesMax: this.#settings.SPILLWAY_LOG_BYTES_MAX,
        clock,
        log,
        contact,
        metrics,
      });
    let guard = newGuard(identity);
    const succession = new Succession(connected, this.#surroundings);
    const publisher = new Publisher({
      producer,
      identity,
      isClosed: (of) => succession.isClosed(of),
      inFlightBytesMax: IN_FLIGHT_BYTES_MAX,
      timeoutMs: PUBLISH_TIMEOUT_MS,
      clock,
      contact,
      metrics,
    });
    const { DATABASE_URL: url, SPILLWAY_DATABASE_CONNECTIONS_MAX: budget } = this.#settings;
    const wanted = { share: CONNECTIONS_MAX, held: () => pool.size.total, budget, address: databaseAddress(url) };
    const buffer = new EventBuffer(pool, () => requireRoom(pool, wanted, log));
    const keepMs = this.#settings.SPILLWAY_BUFFER_KEEP_MS;
    const housekeeping = new Housekeeping({ buffer, keepMs, clock, log, metrics });
    const publish = async (events: readonly Event[]): Promise<unknown> => {
      const full = guard.admit(events.length);
      if (full) throw full;
      return publisher.publish(events);
    };
    const relay = new Relay({
      buffer,
      publish,
      tend: (works) => housekeeping.tend(works),
      storeAlarm: this.#storeAlarm,
      logAlarm: this.#logAlarm,
      clock,
      log,
      metrics,
    });
    const guarding = eachEpoch("retention guard", connected, (of) => {
      guard = newGuard(of);
      this.#weakened = [guard, housekeeping];
      return guard;
    });
    this.#waiting = null;
    await runAll([control, guarding, publisher, succession.lead(publisher), relay], signal, log);
  }
}
