/** The role: reads the log's unsaved part, knows the checkpoints, answers pages, feeds followers, tells whether it can. */
import type { Settings } from "#lib/config.ts";
import { type ConnectedLog, connectLog, type Surroundings } from "#lib/connect.ts";
import type { Control } from "#lib/control.ts";
import { RecordDecoder } from "#lib/decode.ts";
import { eachEpoch } from "#lib/epochs.ts";
import type { Metrics } from "#lib/metrics.ts";
import { type Readiness, reasons } from "#lib/operator.ts";
import { partitionOf } from "#lib/partition.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { runAll, type Task } from "#lib/run.ts";
import { databaseAddress } from "#lib/setting-forms.ts";
import { Barrier, roundOf } from "./barrier.ts";
import { Checkpoints, firstCheckpoints } from "./checkpoints.ts";
import type { querySettings } from "./config.ts";
import { DeadLetters } from "./dead-letters/dead-letters.ts";
import { Republisher } from "./dead-letters/publish.ts";
import { Disk } from "./disk/disk.ts";
import { type Live, liveNode } from "./live-node.ts";
import { ClientOrder, type Epochs } from "./places.ts";
import { Reach } from "./reach.ts";
import { type Page, type PageQuery, Reader } from "./read.ts";
import { SameLog } from "./same-log.ts";
import { startOffsets } from "./start-offsets.ts";
import { type PartitionLag, partitionLags, readinessOf } from "./status.ts";
import { Store } from "./store.ts";
import { Tail } from "./tail.ts";
import { TailReader } from "./tail-reader.ts";
import { Verdicts } from "./verdicts.ts";

export type QuerySettings = Settings<Omit<typeof querySettings, "PORT">>;

/** What exists once the log was reached. */
interface Running {
  readonly epochs: Epochs;
  readonly control: Control;
  readonly tail: Tail;
  readonly tailReader: TailReader;
  readonly checkpoints: Checkpoints;
  readonly deadLetters: DeadLetters;
  readonly live: Live;
}

export class Query implements Task {
  readonly name = "query";
  readonly #settings: QuerySettings;
  readonly #surroundings: Surroundings & { readonly metrics: Metrics };
  readonly #store: Store;
  readonly #database: string;
  readonly #leavers = new Set<() => void>();
  #running: Running | null = null;
  readonly #begunMs: number;
  #waiting = "The log was not reached yet: it is connecting";
  #reads = 0;

  constructor(settings: QuerySettings, surroundings: Surroundings & { readonly metrics: Metrics }) {
    this.#settings = settings;
    this.#surroundings = surroundings;
    this.#begunMs = surroundings.clock.now();
    this.#database = databaseAddress(settings.DATABASE_URL);
    this.#store = new Store({
      url: settings.DATABASE_URL,
      connectionsMax: settings.SPILLWAY_QUERY_CONNECTIONS_MAX,
      budget: settings.SPILLWAY_DATABASE_CONNECTIONS_MAX,
      ...surroundings,
    });
  }

  /** @throws ProblemError log-unreachable before the log was reached, behind when another log is in use */
  order(clientId: string): ClientOrder {
    return new ClientOrder(clientId, this.#ensure().epochs);
  }

  /** @throws ProblemError as Reader.read, and overloaded */
  async read(order: ClientOrder, query: PageQuery): Promise<Page> {
    const { live } = this.#of(order);
    if (this.#reads >= this.#settings.SPILLWAY_READS_MAX)
      throw new ProblemError(problem("overloaded", `${this.#reads} reads are under way on this node: try another.`));
    this.#reads++;
    try {
      const page = await live.reader.read(order, query);
      // Its barrier asked for news of the logs too: one that had been adopted before this read began is known by now.
      this.#of(order);
      return page;
    } finally {
      this.#reads--;
    }
  }

  /**
   * @param order of who will read or follow; left out: it is made from the same log
   * @throws ProblemError as `order`
   */
  live(order?: ClientOrder): Live {
    return (order === undefined ? this.#ensure() : this.#of(order)).live;
  }

  /** Calls `leave` whenever followers must come again: this node goes over to another log. */
  onLeft(leave: () => void): void {
    this.#leavers.add(leave);
  }

  /**
   * What a caller is to be told of an error. A cursor of a log that is not known here may be one of a log that was adopted a
   * moment ago.
   */
  async explained(error: unknown): Promise<unknown> {
    const running = this.#running;
    if (running === null || !(error instanceof ProblemError && error.problem.code === "cursor-gone")) return error;
    try {
      await running.control.refresh();
      this.#ensure();
      return error;
    } catch (cause) {
      if (cause instanceof ProblemError) return cause;
      const detail = "Whether the cursor is one of a log that was just adopted could not be asked: try again.";
      return new ProblemError(problem("log-unreachable", detail), { cause });
    }
  }

  /** @throws ProblemError as `order` */
  get deadLetters(): DeadLetters {
    return this.#ensure().deadLetters;
  }

  /** Per partition, as far as this node knows. */
  lag(): PartitionLag[] {
    return partitionLags(this.#ensure());
  }

  ready(): Readiness {
    const { contact } = this.#surroundings;
    if (this.#running !== null) return readinessOf(this.#running, contact, this.#database);
    const missing = reasons(`log: ${contact.brokers}: ${this.#waiting}`, this.#begunMs);
    return { ready: false, missing, degraded: [] };
  }

  async run(signal: AbortSignal): Promise<void> {
    try {
      const connected = await connectLog("query", this.#settings, this.#surroundings, signal, (why) => {
        this.#waiting = `The log was not reached yet: ${why}`;
      });
      try {
        const following = eachEpoch("log in use", connected, (identity) => ({
          run: (stop) => this.#follow({ ...connected, identity }, stop),
        }));
        await runAll([connected.control, following], signal, this.#surroundings.log);
      } finally {
        await connected.close();
      }
    } finally {
      await this.#store.close();
    }
  }

  async #follow(connected: ConnectedLog, signal: AbortSignal): Promise<void> {
    const { log, clock, metrics, contact } = this.#surroundings;
    const { identity, control, kafka } = connected;
    const reader = await kafka.partitionReader();
    try {
      const { lookUps, pages } = this.#store;
      const sameLog = new SameLog({ topic: identity.topic, openReader: () => kafka.partitionReader() });
      const open = (): Promise<void> => this.#store.open(identity, control.identities(), sameLog);
      const { known, prepare } = await firstCheckpoints(lookUps, connected, open, log);
      const starts = await startOffsets(connected, known, this.#surroundings, signal);
      const decoder = new RecordDecoder(identity.partitions, (fingerprint) => control.schema(fingerprint));
      const { SPILLWAY_TAIL_BYTES: bytesMax, SPILLWAY_TAIL_FOLDER: folder } = this.#settings;
      await using disk = await Disk.open({ folder, bytesMax: this.#settings.SPILLWAY_TAIL_DISK_BYTES, log, clock });
      const tail = new Tail({ bytesMax, disk, log, clock, metrics }, starts);
      const { epoch, partitions } = identity;
      const checkpoints = new Checkpoints({ epoch, rows: lookUps, tail, log, clock, known, prepare });
      const refresh = (): Promise<boolean> => checkpoints.refresh();
      const tailReader = new TailReader({ identity, reader, decoder, tail, refresh, sameLog, clock, contact });
      const ask = roundOf(
        () => connected.reader.highWatermarks(identity.topic, tail.partitions),
        () => control.refresh(),
        () => tailReader.requireProved(),
      );
      const barrier = new Barrier(ask, clock, contact);
      const reach = new Reach({ tail, barrier });
      const verdicts = new Verdicts({
        epoch,
        succeeds: control.identities().some((one) => one.epoch < epoch),
        partitionOf: (clientId) => partitionOf(Buffer.from(clientId), partitions),
        rows: lookUps,
        tail,
        checkpoints,
        clock,
        metrics,
      });
      const reads = new Reader({ tail, rows: pages, checkpoints, reach, clock, metrics });
      const heartbeatMs = this.#settings.SPILLWAY_HEARTBEAT_MS;
      const live = liveNode({ reader: reads, reach, tail, verdicts, clock, log, metrics, heartbeatMs });
      await using republisher = new Republisher(connected, this.#surroundings);
      const deadLetters = new DeadLetters({ rows: this.#store.deadLetters, decoder, republisher, log, metrics });
      const epochs = { epoch, partitions: new Map(control.identities().map((one) => [one.epoch, one.partitions])) };
      this.#running = { epochs, control, tail, tailReader, checkpoints, deadLetters, live };
      await runAll([tailReader, barrier, checkpoints], signal, log);
      this.#leave();
    } finally {
      this.#running = null;
      await reader.close();
    }
  }

  /** Followers come again with their cursors: they are fed from one log. */
  #leave(): void {
    this.#waiting = "Another log was adopted, and this node goes over to it: try again";
    this.#running = null;
    for (const leave of this.#leavers) leave();
  }

  /** @throws ProblemError as `order`; behind, too, when another log is in use than the one that this order is of */
  #of({ epoch }: ClientOrder): Running {
    const running = this.#ensure();
    if (running.epochs.epoch === epoch) return running;
    throw new ProblemError(problem("behind", "Another log was adopted meanwhile: try again."));
  }

  #ensure(): Running {
    const running = this.#running;
    if (running === null) throw new ProblemError(problem("log-unreachable", `${this.#waiting}.`));
    const current = running.control.identity()?.epoch;
    if (current !== running.epochs.epoch)
      throw new ProblemError(
        problem("behind", `Log epoch ${current} was adopted, and this node goes over to it: try again.`),
      );
    return running;
  }
}
