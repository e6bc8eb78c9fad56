/**
 * One log is succeeded by another: docs/adopt-log tells who does what, and why nothing is lost whoever dies or sleeps. Here is
 * what whoever appends events does.
 */
import { aborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { ConnectedLog, Surroundings } from "#lib/connect.ts";
import type { LogIdentity, Successor } from "#lib/control.ts";
import { isRecordRefused } from "#lib/kafka/errors.ts";
import { type BatchProducer, LogError } from "#lib/kafka/ports.ts";
import type { Publisher } from "#lib/publish.ts";
import type { Task } from "#lib/run.ts";
import { CLOSED_TOPIC_CONFIG, isClosed } from "#schemas/topics.ts";

/**
 * So long after the announcement whoever appends holds events back: longer than the command tries, shorter than anybody is to
 * be refused. If the command died meanwhile, appends go on by themselves.
 */
export const HOLD_MS = 30_000;
/** Leaders learn of a topic's settings a moment after they were changed. */
const PROBE_AGAIN_MS = 50;
/** Of one partition: of all together, the more there are, the longer it takes. */
const PROBE_LIMIT_MS = 20_000;
/** Each on connections of its own: a refusal costs the producer its place, about 50 ms. */
const PROBES_AT_ONCE = 4;
const PROBE_GIVE_UP_MS = 5_000;
/** In the rare case that a leader takes it, it is a dead letter that tells what it was. */
const PROBE = { key: Buffer.from("spillway"), value: Buffer.from("Is this log closed? A log that takes this is not.") };

type Parts = Pick<ConnectedLog, "admin" | "kafka" | "control" | "controlWriter">;

/**
 * Closes a log and puts its successor in its place: from the first step on there is no way back, and whoever is killed in the
 * middle, another one does it all again. The successor is in use only once no leader takes appends to the old log.
 * @throws LogError; Error when another one was faster with another log
 */
export async function handOver(
  { admin, kafka, control, controlWriter }: Parts,
  { clock }: Pick<Surroundings, "clock">,
  from: LogIdentity,
  to: LogIdentity,
): Promise<void> {
  await requireNext(control, from, to);
  await admin.configure(from.topic, CLOSED_TOPIC_CONFIG);
  const partitions = Array.from({ length: from.partitions }, (_, partition) => partition);
  const probing = Array.from({ length: Math.min(PROBES_AT_ONCE, partitions.length) }, async () => {
    const producer = await kafka.producer(PROBE_GIVE_UP_MS);
    try {
      for (let next = partitions.pop(); next !== undefined; next = partitions.pop())
        await untilRefused(producer, clock, from.topic, next);
    } finally {
      await producer.close();
    }
  });
  await Promise.all(probing);
  // Whoever was slow or asleep meanwhile must not put its log in the place of another one, which may hold events by now.
  await requireNext(control, from, to);
  await controlWriter.identity(to);
}

/** @throws LogError; Error when another log is, or is to be, in this one's place */
async function requireNext(control: Parts["control"], from: LogIdentity, to: LogIdentity): Promise<void> {
  await control.refresh();
  const known = control.identities().find(({ epoch }) => epoch === to.epoch);
  const next = known ?? control.successor(from.epoch)?.identity;
  if (next === undefined || next.topic === to.topic) return;
  const does = known === undefined ? "is announced to succeed it" : "succeeds it already";
  throw new Error(`${from.topic} is not succeeded by ${to.topic}: ${next.topic} ${does}`);
}

/** @throws LogError */
async function untilRefused(producer: BatchProducer, clock: Clock, topic: string, partition: number): Promise<void> {
  const untilMs = clock.elapsed() + PROBE_LIMIT_MS;
  while (!(await refuses(producer, topic, partition))) {
    if (clock.elapsed() >= untilMs)
      throw new LogError("retriable", `${topic} still took appends ${PROBE_LIMIT_MS} ms after it was closed`);
    await clock.sleep(PROBE_AGAIN_MS);
  }
}

/** @throws LogError when nobody knows */
async function refuses(producer: BatchProducer, topic: string, partition: number): Promise<boolean> {
  try {
    await producer.append(topic, [{ partition, records: [PROBE] }]);
    return false;
  } catch (error) {
    if (isRecordRefused(error)) return true;
    throw error;
  }
}

/** Brings a publisher from one log to the next. */
export class Succession {
  readonly #parts: Parts;
  readonly #surroundings: Pick<Surroundings, "clock" | "log">;
  #finishing: Promise<void> | null = null;

  constructor(parts: Parts, surroundings: Pick<Surroundings, "clock" | "log">) {
    this.#parts = parts;
    this.#surroundings = surroundings;
  }

  /**
   * A log refused records: whether it takes none, since another one succeeds it. Then whoever closed it may be dead before it
   * had put the other one in its place, so that is done from here too.
   */
  async isClosed(identity: LogIdentity): Promise<boolean> {
    const facts = await this.#parts.admin.facts(identity.topic).catch(() => null);
    // Where nobody can tell, the records are not to blame.
    if (facts === null) return true;
    if (facts === undefined || !isClosed(facts.config)) return false;
    this.#finishing ??= this.#finish(identity).finally(() => {
      this.#finishing = null;
    });
    return true;
  }

  /** A task that holds a publisher back from the announcement on, until it goes on with the successor. */
  lead(publisher: Pick<Publisher, "identity" | "hold" | "adopt">): Task {
    return {
      name: "log succession",
      run: async (signal) => {
        let heldFor: Successor | undefined;
        const look = (): void => {
          heldFor = this.#look(publisher, heldFor);
        };
        const ignore = this.#parts.control.onMoved(look);
        look();
        await aborted(signal);
        ignore();
        await this.#finishing;
      },
    };
  }

  /** @returns what it is held back for now */
  #look(
    publisher: Pick<Publisher, "identity" | "hold" | "adopt">,
    heldFor: Successor | undefined,
  ): Successor | undefined {
    const { control } = this.#parts;
    const { clock, log } = this.#surroundings;
    const current = control.identity();
    if (current !== undefined && current.epoch > publisher.identity.epoch) {
      publisher.adopt(current);
      log.info("log adopted: events go there from now on", { ...current });
      return undefined;
    }
    const successor = control.successor(publisher.identity.epoch);
    if (successor === heldFor) return heldFor;
    const leftMs = successor === undefined ? 0 : HOLD_MS - Math.max(0, clock.now() - successor.atMs);
    publisher.hold(Math.max(0, leftMs));
    if (leftMs > 0) log.info("log is about to be succeeded: events wait", { ...successor?.identity });
    return successor;
  }

  async #finish(from: LogIdentity): Promise<void> {
    const { control } = this.#parts;
    const { log } = this.#surroundings;
    try {
      await control.refresh();
      if (control.identity()?.epoch !== from.epoch) return;
      const to = control.successor(from.epoch)?.identity;
      if (to === undefined)
        log.error("log takes no events, and no other one is announced to succeed it", {
          topic: from.topic,
          remedy: `run npm run adopt-log, or set ${Object.keys(CLOSED_TOPIC_CONFIG)} of the topic as it was`,
        });
      else await handOver(this.#parts, this.#surroundings, from, to);
    } catch (error) {
      log.warn("log not handed over yet", { error: (error as Error).message });
    }
  }
}
