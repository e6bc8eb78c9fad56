/** One kafkajs consumer, from joining the group to its end. It restarts nothing by itself. */
import type { Consumer, EachBatchPayload } from "kafkajs";
import type { Clock } from "#lib/clock.ts";
import { Assignment } from "./assignment.ts";
import { BRIEF_RETRY, type KafkaOptions, openConnection } from "./connection.ts";
import type { RawBatch } from "./internals.ts";
import type { Leaders } from "./leaders.ts";
import type { GroupHandlers } from "./ports.ts";
import { Watchdog } from "./watchdog.ts";
import type { Wire } from "./wire.ts";

const HEARTBEAT_MS = 3_000;
/** How long a rebalance waits for every member to join again. */
const REBALANCE_TIMEOUT_MS = 180_000;
/** The longest poll, and the sleep when all is paused: what a record or a resumed partition waits at most. */
const MAX_WAIT_MS = 100;
/**
 * A poll that finds less goes on waiting. Nobody waits for the group, since readers see unsaved events; but answered for
 * every few records, 2,000 events/s cost it and the broker some hundred polls a second, and the database as many commits.
 */
const FETCH_BYTES_MIN = 64 * 1024;
/** Small: the library holds a whole answer decoded, and every lane may overshoot by its part. No slower than four times it. */
const FETCH_BYTES_MAX = 1024 * 1024;
const PARTITION_FETCH_BYTES_MAX = 256 * 1024;
/** How long leaving may take before the connections are cut; the group then waits for the session to time out. */
const LEAVE_MS = 3_000;

export interface Group {
  readonly topic: string;
  readonly groupId: string;
  /** How long the group waits for a silent member before its partitions go to others. Above 3,000. */
  readonly sessionTimeoutMs: number;
}

/** `lost`: kafkajs gave up. `failed`: the owner's handlers did, or an offset is out of range. */
export type MemberEnd = { readonly kind: "stopped" } | { readonly kind: "lost" | "failed"; readonly error: unknown };

export class Member {
  readonly #group: Group;
  readonly #leaders: Leaders;
  readonly #handlers: GroupHandlers;
  readonly #clock: Clock;
  readonly #consumer: Consumer;
  readonly #wire: Wire;
  readonly #watchdog: Watchdog;
  readonly #end = Promise.withResolvers<MemberEnd>();
  /** Ends with the first join. */
  #starting: Promise<void> = Promise.resolve();
  #ended = false;
  #assignment: Assignment | undefined;
  /** Its name in the group, once it has joined. */
  memberId: string | undefined;

  constructor(options: KafkaOptions, group: Group, leaders: Leaders, handlers: GroupHandlers) {
    const { client, wire, onRequestTimeout } = openConnection(options);
    this.#group = group;
    this.#leaders = leaders;
    this.#handlers = handlers;
    this.#clock = options.clock;
    this.#wire = wire;
    this.#watchdog = new Watchdog(options.clock, options.log, group);
    this.#consumer = client.consumer({
      groupId: group.groupId,
      sessionTimeout: group.sessionTimeoutMs,
      rebalanceTimeout: REBALANCE_TIMEOUT_MS,
      heartbeatInterval: HEARTBEAT_MS,
      maxWaitTimeInMs: MAX_WAIT_MS,
      minBytes: FETCH_BYTES_MIN,
      maxBytes: FETCH_BYTES_MAX,
      maxBytesPerPartition: PARTITION_FETCH_BYTES_MAX,
      allowAutoTopicCreation: false,
      retry: { ...BRIEF_RETRY, restartOnFailure: () => Promise.resolve(false) },
    });
    const { events } = this.#consumer;
    this.#consumer.on(events.REQUEST_TIMEOUT, onRequestTimeout);
    this.#consumer.on(events.FETCH, () => this.#watchdog.reset());
    this.#consumer.on(events.REBALANCING, () => this.#revoke());
    this.#consumer.on(events.GROUP_JOIN, ({ payload }) => {
      this.memberId = payload.memberId;
      this.#join(payload.memberAssignment[group.topic] ?? []);
    });
    this.#consumer.on(events.CRASH, ({ payload }) => this.#finish({ kind: "lost", error: payload.error }));
  }

  /** Until `signal` aborts or the member cannot go on. It has left the group, or its connections are cut, afterwards. */
  async run(signal: AbortSignal): Promise<MemberEnd> {
    const stop = () => this.#finish({ kind: "stopped" });
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    else this.#starting = this.#start().catch((error: unknown) => this.#finish({ kind: "lost", error }));
    const end = await this.#end.promise;
    signal.removeEventListener("abort", stop);
    this.#watchdog.stop();
    await this.#leave();
    return end;
  }

  pause(partitions: readonly number[]): void {
    this.#assignment?.pause(partitions);
  }

  resume(partitions: readonly number[]): void {
    this.#assignment?.resume(partitions);
  }

  seek(partition: number, offset: bigint): void {
    this.#assignment?.seek(partition, offset);
  }

  async commitHint(offsets: ReadonlyMap<number, bigint>): Promise<void> {
    const { topic } = this.#group;
    const owned = [...offsets].filter(([partition]) => this.#assignment?.owns(partition));
    if (owned.length === 0) return;
    const hints = owned.map(([partition, offset]) => ({ topic, partition, offset: offset.toString() }));
    await this.#consumer.commitOffsets(hints).catch(() => undefined);
  }

  async #start(): Promise<void> {
    this.#watchdog.reset();
    await this.#consumer.connect();
    // Only until the seek that follows each join; with the latest instead, a lost seek would pass over records.
    await this.#consumer.subscribe({ topics: [this.#group.topic], fromBeginning: true });
    await this.#consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: 1,
      eachBatch: (payload) => Promise.resolve(this.#deliver(payload)),
    });
  }

  /** kafkajs does not wait for this handler: what must come before the next fetch is done before it returns. */
  #join(partitions: readonly number[]): void {
    this.#revoke();
    if (this.#ended) return;
    const assignment = new Assignment({
      topic: this.#group.topic,
      partitions,
      consumer: this.#consumer,
      leaders: this.#leaders,
      handlers: this.#handlers,
      clock: this.#clock,
      onFailure: (error) => this.#finish({ kind: "failed", error }),
      onDoubt: () => this.#join(partitions),
    });
    this.#assignment = assignment;
    assignment.begin();
  }

  #revoke(): void {
    const assignment = this.#assignment;
    if (!assignment) return;
    this.#assignment = undefined;
    assignment.end();
  }

  /** Nothing may be thrown here: kafkajs would take it for its own failure, and stop without a word on some kinds. */
  #deliver({ batch, resolveOffset, isRunning, isStale }: EachBatchPayload): void {
    if (this.#ended || !isRunning() || isStale()) return;
    this.#assignment?.deliver(batch as unknown as RawBatch, resolveOffset);
  }

  #finish(end: MemberEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#revoke();
    this.#end.resolve(end);
  }

  /**
   * kafkajs waits for its requests to be answered; a broker that is away would hold it up. And it leaves nothing when it is
   * told to stop while it joins: the group would wait for the session to time out.
   */
  async #leave(): Promise<void> {
    const cancelCut = this.#clock.after(LEAVE_MS, () => this.#wire.close());
    await new Promise<void>((resolve) => {
      const cancelWait = this.#clock.after(2 * LEAVE_MS, resolve);
      this.#starting
        .then(() => this.#consumer.disconnect())
        .catch(() => undefined)
        .finally(() => {
          cancelWait();
          resolve();
        });
    });
    cancelCut();
    this.#wire.close();
  }
}
