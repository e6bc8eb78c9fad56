/** The role: joins the group, saves what it is assigned, tells how far saving has come, and whether it can. */
import type { Settings } from "#lib/config.ts";
import { type ConnectedLog, connectLog, type Surroundings } from "#lib/connect.ts";
import { NotBegun } from "#lib/continuity.ts";
import type { LogIdentity } from "#lib/control.ts";
import { RecordDecoder } from "#lib/decode.ts";
import type { Kafka } from "#lib/kafka/client.ts";
import type { GroupReader } from "#lib/kafka/ports.ts";
import { topicNames } from "#lib/log-settings.ts";
import type { Metrics } from "#lib/metrics.ts";
import { type Readiness, type Reason, reasons } from "#lib/operator.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import { ensureIdentity, isWrongStore } from "#lib/postgres/identity.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { requireRoom, type Wanted } from "#lib/postgres/room.ts";
import { LogGauge } from "#lib/retention.ts";
import { runAll, type Task } from "#lib/run.ts";
import { databaseAddress } from "#lib/setting-forms.ts";
import { Announcer } from "./announce.ts";
import { type Assignments, assignments } from "./assign.ts";
import { Circuit } from "./circuit.ts";
import type { sinkSettings } from "./config.ts";
import { AdaptiveController } from "./controller.ts";
import { type InHand, inHand, SavedWhole } from "./epochs.ts";
import { Lag } from "./lag.ts";
import { Lanes } from "./lanes.ts";
import { Keeper } from "./memory.ts";
import { Pace } from "./pace.ts";
import { StoreContact } from "./store-contact.ts";
import { Trimmer } from "./trim.ts";
import { Writer } from "./writer.ts";

/** One: the writer's. Everything else of the sink waits for it. */
const CONNECTIONS_MAX = 1;
const CONNECT_TIMEOUT_MS = 10_000;
/** A transaction that the database does not answer is given up so long after the stop: the process has 25 s. */
const STOP_MS_MAX = 12_000;

export class Sink implements Task {
  readonly name = "sink";
  readonly #settings: Settings<typeof sinkSettings>;
  readonly #surroundings: Surroundings & { readonly metrics: Metrics };
  readonly #circuit = new Circuit();
  #writer: Writer | null = null;
  /** What must be there before the work begins; null: it has begun. */
  #waiting: Reason | null;
  #unassigned: Assignments["unassigned"] = () => null;
  #trimmer: Trimmer | null = null;

  constructor(settings: Settings<typeof sinkSettings>, surroundings: Surroundings & { readonly metrics: Metrics }) {
    this.#settings = settings;
    this.#surroundings = surroundings;
    this.#waiting = {
      what: `log: ${surroundings.contact.brokers}: it is connecting`,
      sinceMs: surroundings.clock.now(),
    };
  }

  ready(): Readiness {
    const { contact } = this.#surroundings;
    const unassigned = this.#unassigned();
    const kept = `a sink that was killed keeps its partitions for ${this.#settings.SPILLWAY_SESSION_TIMEOUT_MS} ms`;
    const group = `group: no assignment; ${unassigned?.why ?? kept}`;
    const missing = [
      ...this.#storeReasons(),
      ...contact.reasons("control topic"),
      ...(this.#waiting ? [this.#waiting] : reasons(group, unassigned?.sinceMs ?? null)),
    ];
    return { ready: missing.length === 0, missing, degraded: this.#trimmer?.reasons ?? [] };
  }

  /** One, from the first question without an answer on. */
  #storeReasons(): readonly Reason[] {
    const { outage } = this.#circuit;
    const silentSinceMs = this.#writer?.unansweredSinceMs ?? null;
    const since = [outage?.sinceMs, silentSinceMs].filter((ms) => typeof ms === "number");
    const why = outage === null ? "no answer" : `${outage.errorClass}: ${outage.error}`;
    const what = `store: ${databaseAddress(this.#settings.DATABASE_URL)}: ${why}`;
    return reasons(what, since.length > 0 ? Math.min(...since) : null);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, contact, metrics } = this.#surroundings;
    const sinceMs = clock.now();
    const connected = await connectLog("sink", this.#settings, this.#surroundings, signal, (why) => {
      this.#waiting = { what: `log: ${contact.brokers}: ${why}`, sinceMs };
    });
    try {
      const pool = new Pool({
        url: this.#settings.DATABASE_URL,
        max: CONNECTIONS_MAX,
        name: "spillway-sink",
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        log,
        clock,
        counted: { metrics, pool: "sink" },
      });
      const cancel = whenAborted(signal, () => clock.after(STOP_MS_MAX, () => pool.abandon()));
      try {
        const saving = { name: "saving", run: (stop: AbortSignal) => this.#saveEpochs(pool, connected, stop) };
        await runAll([connected.control, saving], signal, log);
      } finally {
        await pool.close();
        cancel();
      }
    } finally {
      await connected.close();
    }
  }

  /** One log after the other. */
  async #saveEpochs(pool: Pool, connected: ConnectedLog, signal: AbortSignal): Promise<void> {
    const { log } = this.#surroundings;
    while (!signal.aborted) {
      const found = await this.#openStore(pool, connected, signal);
      if (found === null) return;
      const over = new AbortController();
      const stop = AbortSignal.any([signal, over.signal]);
      try {
        await this.#work(pool, connected, found, stop, () => over.abort());
      } catch (error) {
        if (!isNotBegun(error)) throw error;
        log.warn("database went back to before its log was adopted", { error: (error as Error).message });
      }
    }
  }

  /** Waits for the database. @returns the log to be saved; null when the signal aborted @throws what `isWrongStore` tells */
  async #openStore(pool: Pool, connected: ConnectedLog, signal: AbortSignal): Promise<InHand | null> {
    const { log, clock } = this.#surroundings;
    const contact = new StoreContact({ ...this.#surroundings, circuit: this.#circuit });
    this.#waiting = { what: "store: not opened yet", sinceMs: clock.now() };
    while (!signal.aborted) {
      try {
        await requireRoom(pool, this.#wanted(pool), log);
        const files = await migrate(pool);
        if (files.length > 0) log.info("store brought up to date", { files: files.join(",") });
        await ensureIdentity(pool, connected.control.identities());
        const found = await inHand(pool, connected, log);
        contact.succeeded("store answers again");
        this.#waiting = null;
        return found;
      } catch (error) {
        if (isWrongStore(error)) throw error;
        await clock.sleep(contact.failed("store not opened yet", error, 0), signal);
      }
    }
    return null;
  }

  #wanted(pool: Pool): Wanted {
    const { DATABASE_URL: url, SPILLWAY_DATABASE_CONNECTIONS_MAX: budget } = this.#settings;
    return { share: CONNECTIONS_MAX, held: () => pool.size.total, budget, address: databaseAddress(url) };
  }

  /** One group a log: members of one that want a topic each would be given partitions that they cannot read. */
  #groupReader(kafka: Kafka, { epoch, topic }: LogIdentity): GroupReader {
    const { group } = topicNames(this.#settings);
    const sessionTimeoutMs = this.#settings.SPILLWAY_SESSION_TIMEOUT_MS;
    return kafka.groupReader({ topic, groupId: epoch === 1 ? group : `${group}.${epoch}`, sessionTimeoutMs });
  }

  /** Saves one log until the signal aborts. @param done called when it is saved whole and another one succeeds it */
  async #work(
    pool: Pool,
    connected: ConnectedLog,
    { identity, begins }: InHand,
    signal: AbortSignal,
    done: () => void,
  ): Promise<void> {
    const { log, clock, metrics, contact } = this.#surroundings;
    const { control, controlWriter, kafka } = connected;
    const reader = this.#groupReader(kafka, identity);
    const lanes = new Lanes(reader, clock, log, this.#settings.SPILLWAY_SINK_WAITING_BYTES);
    const saved = (partitions: readonly number[]) => readCheckpoints(pool, identity.epoch, partitions);
    const told = { epoch: identity.epoch, control, writer: controlWriter, reader, lanes, saved };
    const announcer = new Announcer({ ...told, clock, log, contact });
    const lag = new Lag({ topic: identity.topic, reader: connected.reader, lanes, clock, metrics });
    const moved = (nextOffsets: ReadonlyMap<number, bigint>): void => {
      announcer.offer(nextOffsets);
      lag.moved(nextOffsets);
    };
    const handlers = assignments({
      identity,
      begins,
      pool,
      admin: connected.admin,
      openReader: () => kafka.partitionReader(),
      lanes,
      clock,
      log,
      started: moved,
    });
    this.#unassigned = handlers.unassigned;
    const controller = new AdaptiveController();
    const storeIsAway = (): boolean => this.#circuit.outage !== null;
    const writer = new Writer({
      pool,
      epoch: identity.epoch,
      decoder: new RecordDecoder(identity.partitions, (fingerprint) => control.schema(fingerprint)),
      lanes,
      starts: (partitions) => handlers.starts(partitions),
      pace: new Pace(controller, this.#surroundings),
      urgency: () => this.#trimmer?.urgency ?? 0,
      circuit: this.#circuit,
      clock,
      log,
      contact,
      metrics,
      saved: moved,
    });
    this.#writer = writer;
    const group: Task = { name: "group reader", run: (stop) => reader.run(handlers, stop) };
    this.#trimmer = new Trimmer({
      identity,
      pool,
      admin: connected.admin,
      gauge: new LogGauge({ ...connected, identity, openReader: () => kafka.partitionReader(), clock, metrics }),
      lanes,
      starts: (partitions) => handlers.starts(partitions),
      storeIsAway,
      marginMs: this.#settings.SPILLWAY_LOG_MARGIN_MS,
      bytesMax: this.#settings.SPILLWAY_LOG_BYTES_MAX,
      clock,
      log,
      contact,
      metrics,
    });
    const part = (): number => lanes.partitions.length / identity.partitions;
    const keeper = new Keeper({ pool, controller, storeIsAway, part, clock, log });
    const whole = new SavedWhole(identity.epoch, pool, connected, this.#surroundings, done);
    await runAll([announcer, keeper, writer, group, this.#trimmer, whole], signal, log);
  }
}

/** Whether this is what a task ended by. */
const isNotBegun = (error: unknown): boolean =>
  error instanceof NotBegun || (error instanceof Error && error.cause !== undefined && isNotBegun(error.cause));

/** @returns what undoes the wish, and what it led to */
function whenAborted(signal: AbortSignal, begin: () => () => void): () => void {
  let undo = (): void => signal.removeEventListener("abort", onAbort);
  const onAbort = (): void => {
    undo = begin();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return () => undo();
}
