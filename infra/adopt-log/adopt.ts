/** The steps of `npm run adopt-log`, of which each may be done again: docs/adopt-log tells why in this order. */
import type { Clock } from "#lib/clock.ts";
import type { ConnectedLog } from "#lib/connect.ts";
import type { LogIdentity, Successor } from "#lib/control.ts";
import { LogError } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { HOLD_MS, handOver } from "#lib/succession.ts";
import { topicFaults } from "#lib/topics.ts";
import { EVENT_TOPIC_CONFIG, isClosed } from "#schemas/topics.ts";
import { whole } from "../figures.ts";

type Connected = Pick<ConnectedLog, "admin" | "kafka" | "control" | "controlWriter" | "identity" | "reader">;

/** So few unsaved records are saved within a second or two, while events wait for it. */
const NEARLY_SAVED_RECORDS = 10_000;
const LOOK_EVERY_MS = 100;
const TELL_EVERY_MS = 5_000;
/** From the announcement on: well before whoever appends goes on by itself. */
const SAVED_WITHIN_MS = HOLD_MS - 10_000;
/** What was on its way to the log when events began to wait has arrived, or failed, by then. */
const SETTLED_MS = 500;
/** Longer than brokers take to find that one of them is dead (9 s), and to elect leaders. */
const ATTEMPTS = 30;
const RETRY_MS = 1_000;

export class Adoption {
  readonly #connected: Connected;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #say: (line: string) => void;

  constructor(
    connected: Connected,
    { clock, log, say }: { readonly clock: Clock; readonly log: Log; readonly say: (line: string) => void },
  ) {
    this.#connected = connected;
    this.#clock = clock;
    this.#log = log;
    this.#say = say;
  }

  /** Until the new log is in use. @throws Error that says what is in the way; `signal`'s reason when it aborts before the last step */
  async run(wanted: Omit<LogIdentity, "epoch">, signal: AbortSignal): Promise<void> {
    const { identity, control, controlWriter } = this.#connected;
    const next: LogIdentity = { epoch: identity.epoch + 1, topic: wanted.topic, partitions: wanted.partitions };
    if (identity.topic === wanted.topic) {
      if (identity.partitions !== wanted.partitions)
        throw new Error(`${named(identity)} is in use already: a log's partitions never change. Give another --topic`);
      this.#say(`${named(identity)} is in use already. Nothing to do.`);
      return;
    }
    await this.#requireAlone(identity, next);
    await this.#requireNew(identity, next);
    this.#say(`In use is ${named(identity)}; ${named(next)} is to succeed it.`);
    await this.#untilNearlySaved(identity, signal);
    // That may have taken long.
    await this.#requireAlone(identity, next);
    const begunMs = this.#clock.elapsed();
    this.#say("Events wait from now on.");
    try {
      await controlWriter.successor(identity.epoch, next);
      await this.#untilSaved(identity, next, begunMs, signal);
    } catch (error) {
      if (!this.#other(identity, next)) await this.#withdraw(identity);
      throw error;
    }
    this.#say(`All is saved; ${identity.topic} is being closed for good.`);
    // There is no way back from here: it is tried again, and whoever appends would finish it too.
    await this.#insist("log not handed over yet", () =>
      handOver(this.#connected, { clock: this.#clock }, identity, next),
    );
    await control.refresh();
    const ms = Math.round(this.#clock.elapsed() - begunMs);
    this.#say(`${named(next)} is in use, ${ms} ms after events began to wait.`);
    this.#say(
      `Delete ${identity.topic} when its saved records are no longer wanted for rebuilds: nothing else ever does.`,
    );
  }

  async #withdraw({ epoch }: LogIdentity): Promise<void> {
    try {
      await this.#connected.controlWriter.successor(epoch, null);
      this.#say("Events go on to the log that was in use: nothing was changed.");
    } catch (error) {
      this.#log.warn("announcement not withdrawn", { error: (error as Error).message });
      const within = `within ${HOLD_MS / 1_000} s`;
      this.#say(`Events go on to the log that was in use by themselves, ${within}: nothing was changed.`);
    }
  }

  /** Another log that is announced, by another command. */
  #other({ epoch }: LogIdentity, { topic }: LogIdentity): Successor | undefined {
    const announced = this.#connected.control.successor(epoch);
    return announced?.identity.topic === topic ? undefined : announced;
  }

  /** @throws Error while another command is at work, or where one has gone too far */
  async #requireAlone(from: LogIdentity, next: LogIdentity): Promise<void> {
    const other = this.#other(from, next);
    if (other === undefined) return;
    // Whoever appends may be putting that one in its place at this moment.
    const facts = await this.#connected.admin.facts(from.topic);
    if (facts !== undefined && isClosed(facts.config))
      throw new Error(`${from.topic} is closed, and ${named(other.identity)} is to succeed it: run this with that one`);
    if (this.#clock.now() - other.atMs <= HOLD_MS) throw announced(other);
  }

  /** @throws Error when the topic cannot become a log */
  async #requireNew(from: LogIdentity, { topic, partitions }: LogIdentity): Promise<void> {
    const { admin, control } = this.#connected;
    const known = control.identities().find((one) => one.topic === topic);
    if (known) throw new Error(`${named(known)} was a log before: what it holds is no new log. Give another --topic`);
    const facts = await admin.ensureTopic({ topic, partitions, config: EVENT_TOPIC_CONFIG });
    const { faults } = topicFaults(topic, facts);
    // A topic that is made while a broker is away has one copy, for ever.
    const copies = (await admin.facts(from.topic))?.replication ?? 0;
    if (facts.replication < copies)
      faults.push(
        `Topic ${topic} has replication ${facts.replication}, and ${from.topic} has ${copies}: delete it, and run this ` +
          "again once all brokers answer.",
      );
    if (facts.partitions !== partitions)
      faults.push(
        `Topic ${topic} has ${facts.partitions} partitions and not ${partitions}: delete it, or name another.`,
      );
    // The leaders of a topic that was just made take a moment.
    const ranges = await this.#insist("the new topic does not answer yet", () => admin.offsets(topic));
    const held = [...ranges.values()].some(({ high }) => high > 0n);
    if (held) faults.push(`Topic ${topic} has held records already: name another one.`);
    if (faults.length > 0) throw new Error(faults.join(" "));
  }

  /** As the sinks publish it. */
  async #unsaved({ topic, epoch, partitions }: LogIdentity): Promise<number> {
    const { reader, control } = this.#connected;
    const all = [...Array(partitions).keys()];
    const ranges = await reader.offsets(topic, all);
    const ends = await reader.leaderEnds(topic, all);
    await control.refresh();
    let unsaved = 0n;
    for (const [partition, end] of ends) {
      const next = control.checkpoint(epoch, partition)?.nextOffset ?? ranges.get(partition)?.low ?? 0n;
      // What came and was saved since the end was asked for makes up for nothing of another partition.
      if (next < end) unsaved += end - next;
    }
    return Number(unsaved);
  }

  async #untilNearlySaved(identity: LogIdentity, signal: AbortSignal): Promise<void> {
    let toldMs = Number.NEGATIVE_INFINITY;
    for (;;) {
      // A leader may be moving.
      const unsaved = await this.#insist("the log in use does not answer yet", () => this.#unsaved(identity));
      if (unsaved <= NEARLY_SAVED_RECORDS) return;
      if (this.#clock.elapsed() - toldMs >= TELL_EVERY_MS) {
        toldMs = this.#clock.elapsed();
        this.#say(
          `${whole(unsaved)} records are unsaved: waiting until the sinks have nearly caught up. Nothing is changed yet.`,
        );
      }
      await this.#clock.sleep(LOOK_EVERY_MS, signal);
      signal.throwIfAborted();
    }
  }

  async #untilSaved(identity: LogIdentity, next: LogIdentity, begunMs: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(LOOK_EVERY_MS, signal);
      signal.throwIfAborted();
      const elapsedMs = this.#clock.elapsed() - begunMs;
      if (elapsedMs < SETTLED_MS) continue;
      const unsaved = await this.#unsaved(identity).catch((error: unknown) => {
        // A leader may be moving, while there is time.
        if (!isPassing(error) || elapsedMs > SAVED_WITHIN_MS) throw error;
        this.#log.warn("the log in use does not answer yet", { error: error.message });
        return Number.POSITIVE_INFINITY;
      });
      const other = this.#other(identity, next);
      if (other !== undefined) throw announced(other);
      if (unsaved === 0) return;
      if (elapsedMs > SAVED_WITHIN_MS)
        throw new Error(
          `After ${Math.round(elapsedMs)} ms ${whole(unsaved)} records were still unsaved: look whether every sink is ready ` +
            "(/readyz) and whether something else appends to the topic, then run this again",
        );
    }
  }

  /** @throws LogError what no wait mends, at once; others after some attempts */
  async #insist<T>(failed: string, work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (!isPassing(error) || attempt === ATTEMPTS) throw error;
        this.#log.warn(failed, { error: error.message });
      }
      await this.#clock.sleep(RETRY_MS);
    }
  }
}

const isPassing = (error: unknown): error is LogError => error instanceof LogError && error.kind !== "fatal";

const announced = ({ identity }: Successor): Error =>
  new Error(
    `${named(identity)} is announced to succeed it at this moment: let that command end, then see what is in use`,
  );

const named = ({ epoch, topic, partitions }: LogIdentity): string =>
  `${topic} (epoch ${epoch}, ${partitions} partitions)`;
