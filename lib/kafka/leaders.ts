/** Requests straight to the leaders of a topic's partitions, below kafkajs' clients: no group, no retries. */
import { type KafkaOptions, openCluster } from "./connection.ts";
import { copyRecords } from "./copy.ts";
import { toLogError } from "./errors.ts";
import {
  ANY_REPLICA,
  Batch,
  fetchProtocol,
  LATEST,
  listOffsetsProtocol,
  type RawCluster,
  READ_COMMITTED,
  READ_UNCOMMITTED,
} from "./internals.ts";
import { type FetchedRecords, LogError, OffsetOutOfRange, type OffsetRange } from "./ports.ts";
import { coveredEnds, FETCH_VERSION } from "./response.ts";
import type { Wire } from "./wire.ts";

export interface LeaderFetch {
  readonly topic: string;
  readonly offsets: ReadonlyMap<number, bigint>;
  readonly maxWaitMs: number;
  readonly maxBytes: number;
}

/** Every method throws a LogError or an OffsetOutOfRange; after one, the next call learns the leaders anew first. */
export class Leaders {
  readonly #cluster: RawCluster;
  readonly #wire: Wire;
  #stale = false;

  constructor(options: KafkaOptions) {
    const { cluster, wire } = openCluster(options);
    this.#cluster = cluster;
    this.#wire = wire;
  }

  connect(): Promise<void> {
    return this.#attempt("connecting a reader", () => this.#cluster.connect());
  }

  /** The partitions by their leader's node id. */
  split(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<string, readonly number[]>> {
    return this.#attempt(`finding the leaders of ${topic}`, async () => {
      await this.#cluster.addMultipleTargetTopics([topic]);
      const byNode = new Map(Object.entries(this.#cluster.findLeaderForPartitions(topic, partitions)));
      requireAll(topic, partitions, new Set([...byNode.values()].flat()));
      return byNode;
    });
  }

  /** One round: the log's end, of every partition given. */
  highs(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>> {
    return this.#attempt(`asking for the high watermarks of ${topic}`, () => this.#ends(topic, partitions, false));
  }

  /** First and last. The first is asked for second: the range is then never larger than it was at some moment. */
  ranges(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, OffsetRange>> {
    return this.#attempt(`asking for the offsets of ${topic}`, async () => {
      const highs = await this.#ends(topic, partitions, false);
      const lows = await this.#ends(topic, partitions, true);
      return new Map([...highs].map(([partition, high]) => [partition, { low: lows.get(partition) ?? high, high }]));
    });
  }

  /** One round: the end of each leader's own log. */
  async leaderEnds(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>> {
    const byNode = await this.split(topic, partitions);
    return this.#attempt(`asking the leaders of ${topic} for their logs' ends`, async () => {
      const ends = await Promise.all([...byNode].map(([nodeId, led]) => this.#leaderEnds(nodeId, topic, led)));
      const all = new Map(ends.flat());
      requireAll(topic, partitions, all);
      return all;
    });
  }

  /** One long poll at one leader, for partitions that it leads. */
  async fetch(nodeId: string, request: LeaderFetch): Promise<FetchedRecords[]> {
    try {
      return await this.#attempt(`fetching from ${request.topic}`, () => this.#fetch(nodeId, request));
    } catch (error) {
      throw await this.#explain(error, request);
    }
  }

  /** On behalf of a member that could not do it itself: the group would wait for its session to time out. */
  leaveGroup(groupId: string, memberId: string): Promise<void> {
    return this.#attempt(`leaving group ${groupId}`, async () => {
      const coordinator = await this.#cluster.findGroupCoordinator({ groupId });
      await coordinator.leaveGroup({ groupId, memberId });
    });
  }

  /** At once: what is under way fails, and nothing else succeeds. */
  cut(): void {
    this.#wire.close();
  }

  async close(): Promise<void> {
    this.#wire.close();
    await this.#cluster.disconnect();
  }

  async #attempt<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      if (this.#wire.closed) throw new Error("it was closed");
      if (this.#stale) {
        await this.#cluster.refreshMetadata();
        this.#stale = false;
      }
      return await work();
    } catch (error) {
      this.#stale = true;
      throw toLogError(doing, error);
    }
  }

  async #ends(topic: string, partitions: readonly number[], fromBeginning: boolean): Promise<Map<number, bigint>> {
    await this.#cluster.addMultipleTargetTopics([topic]);
    const wanted = { topic, partitions: partitions.map((partition) => ({ partition })), fromBeginning };
    const answers = await this.#cluster.fetchTopicsOffset([wanted]);
    const ends = new Map(
      answers.flatMap((answer) =>
        answer.partitions.map(({ partition, offset }) => [partition, BigInt(offset)] as const),
      ),
    );
    requireAll(topic, partitions, ends);
    return ends;
  }

  async #leaderEnds(nodeId: string, topic: string, led: readonly number[]): Promise<[number, bigint][]> {
    const broker = await this.#cluster.findBroker({ nodeId });
    const partitions = led.map((partition) => ({ partition, timestamp: LATEST }));
    const { responses } = await broker.connectionPool.send(
      listOffsetsProtocol(broker)({
        replicaId: ANY_REPLICA,
        isolationLevel: READ_UNCOMMITTED,
        topics: [{ topic, partitions }],
      }),
    );
    return responses.flatMap((each) => each.partitions.map(({ partition, offset }) => [partition, BigInt(offset)]));
  }

  async #fetch(nodeId: string, { topic, offsets, maxWaitMs, maxBytes }: LeaderFetch): Promise<FetchedRecords[]> {
    const broker = await this.#cluster.findBroker({ nodeId });
    const partitions = [...offsets].map(([partition, offset]) => ({
      partition,
      fetchOffset: offset.toString(),
      maxBytes,
    }));
    const protocol = fetchProtocol(broker)({
      isolationLevel: READ_COMMITTED,
      maxWaitTime: maxWaitMs,
      minBytes: 1,
      maxBytes,
      topics: [{ topic, partitions }],
    });
    if (protocol.request.apiVersion !== FETCH_VERSION) throw new Error("the broker is older than Kafka 2.3");
    let ends: ReadonlyMap<number, bigint> = new Map();
    const decode = (raw: Buffer) => {
      ends = coveredEnds(raw);
      return protocol.response.decode(raw);
    };
    const { responses } = await broker.connectionPool.send({
      ...protocol,
      response: { ...protocol.response, decode },
    });
    return responses.flatMap((response) =>
      response.partitions.map((data) => {
        const from = offsets.get(data.partition) ?? 0n;
        const end = ends.get(data.partition) ?? from;
        return {
          partition: data.partition,
          fromOffset: from,
          // Compressed batches come whole: what lies below the offset asked for is left out here.
          records: copyRecords(new Batch(topic, from.toString(), data).messages),
          nextOffset: end > from ? end : from,
          highWatermark: BigInt(data.highWatermark),
          logStart: BigInt(data.lastStartOffset),
        };
      }),
    );
  }

  /** The broker says that an offset is out of range, not what the range is. */
  async #explain(error: unknown, { topic, offsets }: LeaderFetch): Promise<unknown> {
    const cause = error instanceof LogError ? error.cause : undefined;
    if (!(cause instanceof Error) || cause.name !== "KafkaJSOffsetOutOfRange") return error;
    const ranges = await this.ranges(topic, [...offsets.keys()]);
    return outOfRange(topic, offsets, ranges) ?? error;
  }
}

/** The first wanted offset that the log does not have, as the error to throw. */
export function outOfRange(
  topic: string,
  wanted: ReadonlyMap<number, bigint>,
  ranges: ReadonlyMap<number, OffsetRange>,
): OffsetOutOfRange | undefined {
  for (const [partition, offset] of wanted) {
    const range = ranges.get(partition);
    if (range && (offset < range.low || offset > range.high)) {
      return new OffsetOutOfRange(topic, partition, offset, range);
    }
  }
  return undefined;
}

/** kafkajs leaves out partitions it does not know, silently. */
function requireAll(topic: string, wanted: readonly number[], named: { has(partition: number): boolean }): void {
  const missing = wanted.filter((partition) => !named.has(partition));
  if (missing.length > 0) throw new Error(`no broker named partition ${missing.join(", ")} of ${topic}`);
}
