/** Port 4 over kafkajs: topics as they should be and as they are, offsets, and deletion of what is saved. */
import assert from "node:assert/strict";
import type { Admin } from "kafkajs";
import type { Clock } from "#lib/clock.ts";
import { type KafkaOptions, openConnection } from "./connection.ts";
import { isFatal, toLogError } from "./errors.ts";
import { kafkajs } from "./internals.ts";
import { type LogAdmin, OffsetOutOfRange, type OffsetRange, type TopicFacts, type TopicSpec } from "./ports.ts";
import type { Wire } from "./wire.ts";

/** Enough for two copies to stay while one broker is away; a smaller cluster cannot hold that promise. */
const REPLICATION = 3;
const INSYNC_REPLICAS_MIN = 2;
/** How long a new topic may take until it is known everywhere and every partition has a leader. */
const TOPIC_READY_MS = 30_000;
const LOOK_AGAIN_MS = 100;
/** As `configSource` of a setting. */
const OWN_SETTING = 1;

/** @throws LogError when no broker can be reached */
export async function createLogAdmin(options: KafkaOptions): Promise<LogAdmin> {
  const { client, wire, onRequestTimeout } = openConnection(options);
  const admin = client.admin();
  admin.on(admin.events.REQUEST_TIMEOUT, onRequestTimeout);
  try {
    await admin.connect();
  } catch (error) {
    wire.close();
    throw toLogError("connecting the administration client", error);
  }
  return new KafkaAdmin(admin, wire, options.clock);
}

class KafkaAdmin implements LogAdmin {
  readonly #admin: Admin;
  readonly #wire: Wire;
  readonly #clock: Clock;

  constructor(admin: Admin, wire: Wire, clock: Clock) {
    this.#admin = admin;
    this.#wire = wire;
    this.#clock = clock;
  }

  async ensureTopic(spec: TopicSpec): Promise<TopicFacts> {
    const endsAt = this.#clock.elapsed() + TOPIC_READY_MS;
    let obstacle: unknown;
    do {
      try {
        const facts = await this.#facts(spec.topic);
        if (facts) return facts;
        await this.#create(spec);
        obstacle = new Error("created, but not known yet");
      } catch (error) {
        obstacle = error;
        if (isFatal(error) || this.#wire.closed) break;
      }
      await this.#clock.sleep(LOOK_AGAIN_MS);
    } while (this.#clock.elapsed() < endsAt);
    throw toLogError(`ensuring topic ${spec.topic}`, obstacle);
  }

  async facts(topic: string): Promise<TopicFacts | undefined> {
    try {
      return await this.#facts(topic);
    } catch (error) {
      throw toLogError(`asking what topic ${topic} is`, error);
    }
  }

  async offsets(topic: string): Promise<ReadonlyMap<number, OffsetRange>> {
    try {
      const all = await this.#admin.fetchTopicOffsets(topic);
      return new Map(
        all.map(({ partition, low, high }) => [partition, { low: BigInt(low), high: BigInt(high) }] as const),
      );
    } catch (error) {
      throw toLogError(`asking for the offsets of ${topic}`, error);
    }
  }

  async configure(topic: string, changes: Readonly<Record<string, string>>): Promise<void> {
    try {
      // The request replaces all that was set on the topic: what is not named in it falls back to the broker's default.
      const set = { ...(await this.#settings(topic)).own, ...changes };
      const configEntries = Object.entries(set).map(([name, value]) => ({ name, value }));
      const resources = [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configEntries }];
      await this.#admin.alterConfigs({ validateOnly: false, resources });
    } catch (error) {
      throw toLogError(`changing settings of topic ${topic}`, error);
    }
  }

  async deleteBelow(topic: string, offsets: ReadonlyMap<number, bigint>): Promise<void> {
    // Besides the check, this loads the topic's metadata, without which kafkajs fails to delete.
    const ranges = await this.offsets(topic);
    const partitions = [...offsets].filter(([partition, offset]) => isAhead(topic, partition, offset, ranges));
    if (partitions.length === 0) return;
    try {
      await this.#admin.deleteTopicRecords({
        topic,
        partitions: partitions.map(([partition, offset]) => ({ partition, offset: offset.toString() })),
      });
    } catch (error) {
      throw toLogError(`deleting records of ${topic}`, error);
    }
  }

  async close(): Promise<void> {
    try {
      await this.#admin.disconnect();
    } finally {
      this.#wire.close();
    }
  }

  /** undefined when there is no such topic; rejects while a partition has no leader. */
  async #facts(topic: string): Promise<TopicFacts | undefined> {
    let partitions: { leader: number; replicas: number[] }[] | undefined;
    try {
      const { topics } = await this.#admin.fetchTopicMetadata({ topics: [topic] });
      partitions = topics[0]?.partitions;
    } catch (error) {
      if ((error as { type?: unknown }).type === "UNKNOWN_TOPIC_OR_PARTITION") return undefined;
      throw error;
    }
    if (!partitions?.length || partitions.some(({ leader }) => leader < 0)) {
      throw new Error(`${topic} has partitions without a leader`);
    }
    return {
      partitions: partitions.length,
      replication: Math.min(...partitions.map(({ replicas }) => replicas.length)),
      config: (await this.#settings(topic)).all,
    };
  }

  /** A topic's settings, and those among them that were set on the topic itself. */
  async #settings(topic: string): Promise<Record<"all" | "own", Record<string, string>>> {
    const { resources } = await this.#admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic }],
    });
    const entries = resources[0]?.configEntries ?? [];
    const named = (some: typeof entries): Record<string, string> =>
      Object.fromEntries(some.map(({ configName, configValue }) => [configName, configValue]));
    return { all: named(entries), own: named(entries.filter((entry) => isOwn(entry))) };
  }

  /** Does nothing when another process was faster. */
  async #create({ topic, partitions, config }: TopicSpec): Promise<void> {
    const { brokers } = await this.#admin.describeCluster();
    const safe = brokers.length >= REPLICATION;
    const entries = { "min.insync.replicas": String(safe ? INSYNC_REPLICAS_MIN : 1), ...config };
    await this.#admin.createTopics({
      topics: [
        {
          topic,
          numPartitions: partitions,
          replicationFactor: safe ? REPLICATION : 1,
          configEntries: Object.entries(entries).map(([name, value]) => ({ name, value })),
        },
      ],
    });
  }
}

/** Set on the topic: the library's types do not know of the answer's `configSource`. */
const isOwn = (entry: object): boolean => "configSource" in entry && entry.configSource === OWN_SETTING;

/** Whether there is anything below `offset` to delete. */
function isAhead(topic: string, partition: number, offset: bigint, ranges: ReadonlyMap<number, OffsetRange>): boolean {
  const range = ranges.get(partition);
  assert(range, `${topic} has no partition ${partition}`);
  assert(offset >= 0n, `${topic}/${partition}: ${offset} is no offset (-1 would delete everything)`);
  if (offset > range.high) throw new OffsetOutOfRange(topic, partition, offset, range);
  return offset > range.low;
}
