/** Port 3 over kafkajs: a long poll at every leader, of which the first with news ends the round. */
import assert from "node:assert/strict";
import type { KafkaOptions } from "./connection.ts";
import { type LeaderFetch, Leaders } from "./leaders.ts";
import type { FetchedRecords, OffsetRange, PartitionReader } from "./ports.ts";

/** @throws LogError when no broker can be reached */
export async function createPartitionReader(options: KafkaOptions): Promise<PartitionReader> {
  const leaders = new Leaders(options);
  try {
    await leaders.connect();
  } catch (error) {
    await leaders.close();
    throw error;
  }
  return new Reader(leaders);
}

/** A long poll under way or ended at one leader. One that nobody waits for any more is forgotten, not stopped. */
interface Poll {
  readonly topic: string;
  readonly offsets: ReadonlyMap<number, bigint>;
  outcome?: { readonly fetched: FetchedRecords[] } | { readonly error: unknown };
}

class Reader implements PartitionReader {
  readonly #leaders: Leaders;
  /** By node id. A poll outlives a round that another leader ended, and serves the next if that asks for the same. */
  #polls = new Map<string, Poll>();
  /** What is known of each partition's bounds, for those whose leader is still silent. */
  readonly #known = new Map<string, { highWatermark: bigint; logStart: bigint }>();
  #wake: (() => void) | undefined;

  constructor(leaders: Leaders) {
    this.#leaders = leaders;
  }

  async fetch(request: LeaderFetch): Promise<readonly FetchedRecords[]> {
    assert(!this.#wake, "one fetch at a time");
    if (request.offsets.size === 0) return [];
    try {
      const split = await this.#leaders.split(request.topic, [...request.offsets.keys()]);
      const polls = new Map<string, Poll>();
      for (const [nodeId, partitions] of split) polls.set(nodeId, this.#poll(nodeId, partitions, request));
      this.#polls = polls;
      await this.#anyOutcome();
      return this.#collect(request);
    } catch (error) {
      this.#polls.clear();
      throw error;
    }
  }

  highWatermarks(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>> {
    return this.#leaders.highs(topic, partitions);
  }

  offsets(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, OffsetRange>> {
    return this.#leaders.ranges(topic, partitions);
  }

  leaderEnds(topic: string, partitions: readonly number[]): Promise<ReadonlyMap<number, bigint>> {
    return this.#leaders.leaderEnds(topic, partitions);
  }

  close(): Promise<void> {
    return this.#leaders.close();
  }

  /** The poll under way at this leader if it asks for just this, or a new one. */
  #poll(nodeId: string, partitions: readonly number[], request: LeaderFetch): Poll {
    const offsets = new Map(partitions.map((partition) => [partition, request.offsets.get(partition) ?? 0n]));
    const running = this.#polls.get(nodeId);
    if (running && isSame(running, request.topic, offsets)) return running;
    const poll: Poll = { topic: request.topic, offsets };
    void this.#leaders
      .fetch(nodeId, { ...request, offsets })
      .then(
        (fetched) => {
          poll.outcome = { fetched };
        },
        (error: unknown) => {
          poll.outcome = { error };
        },
      )
      .then(() => this.#wake?.());
    return poll;
  }

  /** Resolves when one of the polls has ended. */
  async #anyOutcome(): Promise<void> {
    const ended = () => [...this.#polls.values()].some(({ outcome }) => outcome);
    while (!ended()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  #collect({ topic, offsets }: LeaderFetch): FetchedRecords[] {
    const fetched = new Map<number, FetchedRecords>();
    for (const [nodeId, { outcome }] of this.#polls) {
      if (!outcome) continue;
      this.#polls.delete(nodeId);
      if ("error" in outcome) throw outcome.error;
      for (const each of outcome.fetched) {
        fetched.set(each.partition, each);
        const { highWatermark, logStart } = each;
        this.#known.set(`${topic}/${each.partition}`, { highWatermark, logStart });
      }
    }
    return [...offsets].map(([partition, offset]) => fetched.get(partition) ?? this.#silent(topic, partition, offset));
  }

  /** A partition whose leader has not answered yet: as much as is known, and the offset asked for is below its end. */
  #silent(topic: string, partition: number, offset: bigint): FetchedRecords {
    const known = this.#known.get(`${topic}/${partition}`);
    const highWatermark = known && known.highWatermark > offset ? known.highWatermark : offset;
    const logStart = known?.logStart ?? -1n;
    return { partition, fromOffset: offset, records: [], nextOffset: offset, highWatermark, logStart };
  }
}

function isSame(poll: Poll, topic: string, offsets: ReadonlyMap<number, bigint>): boolean {
  if (poll.topic !== topic || poll.offsets.size !== offsets.size) return false;
  return [...offsets].every(([partition, offset]) => poll.offsets.get(partition) === offset);
}
