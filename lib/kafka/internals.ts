/**
 * The parts of kafkajs that its entry point does not export. The version is pinned (2.2.4, the last one), so these paths
 * and shapes stay as they are; every deep import of the project is in this file.
 */
import { createRequire } from "node:module";
import type { Logger } from "kafkajs";
import "./encoder.ts";

const load = createRequire(import.meta.url);

/** The library itself. Imported from here alone, so that what must be changed before it loads is changed. */
export const kafkajs = load("kafkajs") as typeof import("kafkajs");

/** A record as kafkajs decodes it. `key` and `value` are slices of the whole fetch response. */
export interface RawMessage {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

/** One partition's part of a Fetch answer. */
export interface RawPartition {
  readonly partition: number;
  readonly highWatermark: string;
  readonly lastStableOffset: string;
  /** The log's start; the name is kafkajs' misspelling. */
  readonly lastStartOffset: string;
}

/** What kafkajs makes of one: aborted and control records are not in `messages`, but `lastOffset` covers them. */
export interface RawBatch {
  readonly partition: number;
  readonly highWatermark: string;
  readonly fetchedOffset: string;
  readonly rawMessages: readonly RawMessage[];
  readonly messages: readonly RawMessage[];
  lastOffset(): string;
  isEmpty(): boolean;
}

interface FetchAnswer {
  readonly responses: readonly { readonly topicName: string; readonly partitions: readonly RawPartition[] }[];
}

interface Encoded {
  readonly buf: Buffer;
}

interface Protocol<Answer> {
  readonly request: { readonly apiVersion: number; encode(): Promise<Encoded> };
  readonly response: { decode(raw: Buffer): Promise<Answer>; parse(answer: Answer): Promise<Answer> };
}

/** Builds one request of a kind, in the newest version that both sides know. */
export type FetchProtocol = (options: {
  readonly isolationLevel: number;
  readonly maxWaitTime: number;
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly topics: readonly {
    readonly topic: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly fetchOffset: string;
      readonly maxBytes: number;
    }[];
  }[];
}) => Protocol<FetchAnswer>;

interface ListOffsetsAnswer {
  readonly responses: readonly { readonly topic: string; readonly partitions: readonly PartitionOffset[] }[];
}

/** As FetchProtocol, for ListOffsets. */
export type ListOffsetsProtocol = (options: {
  readonly replicaId: number;
  readonly isolationLevel: number;
  readonly topics: readonly {
    readonly topic: string;
    readonly partitions: readonly { readonly partition: number; readonly timestamp: number }[];
  }[];
}) => Protocol<ListOffsetsAnswer>;

export interface RawBroker {
  readonly connectionPool: { send<Answer>(protocol: Protocol<Answer>): Promise<Answer> };
  lookupRequest(apiKey: number, definition: unknown): unknown;
  metadata(topics: readonly string[]): Promise<unknown>;
  leaveGroup(member: { groupId: string; memberId: string }): Promise<unknown>;
}

interface PartitionOffset {
  readonly partition: number;
  readonly offset: string;
}

export interface RawCluster {
  /** Whose metadata are asked for, all at once. */
  readonly targetTopics: Set<string>;
  readonly brokerPool: { refreshMetadata(topics: readonly string[]): Promise<void> };
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  refreshMetadata(): Promise<void>;
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>;
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Record<string, number[]>;
  findBroker(where: { nodeId: string }): Promise<RawBroker>;
  findGroupCoordinator(group: { groupId: string }): Promise<RawBroker>;
  fetchTopicsOffset(
    topics: readonly {
      readonly topic: string;
      readonly partitions: readonly { readonly partition: number }[];
      readonly fromBeginning: boolean;
    }[],
  ): Promise<readonly { readonly topic: string; readonly partitions: readonly PartitionOffset[] }[]>;
}

export interface ClusterOptions {
  readonly logger: Logger;
  readonly instrumentationEmitter: { emit(name: string): void };
  readonly [option: string]: unknown;
}

export const Cluster = load("kafkajs/src/cluster/index.js") as {
  new (options: ClusterOptions): RawCluster;
  readonly prototype: RawCluster;
};

export const Batch = load("kafkajs/src/consumer/batch.js") as new (
  topic: string,
  fetchedOffset: string,
  data: RawPartition,
) => RawBatch;

export interface RequestQueueInstance {
  throttleCheckTimeoutId: unknown;
  readonly throttledUntil: number;
  readonly pending: readonly unknown[];
  checkPendingRequests(): void;
  scheduleCheckPendingRequests(): void;
  destroy(): void;
}

export const RequestQueue = load("kafkajs/src/network/requestQueue/index.js") as { prototype: RequestQueueInstance };

export const Broker = load("kafkajs/src/broker/index.js") as { readonly prototype: RawBroker };

type Kinds<T> = { readonly Fetch: T; readonly ListOffsets: T; readonly Metadata: T };
const apiKeys = load("kafkajs/src/protocol/requests/apiKeys.js") as Kinds<number>;
const { requests } = load("kafkajs/src/protocol/requests/index.js") as { requests: Kinds<unknown> };

/** The Fetch request of the newest version that this broker and kafkajs share. */
export function fetchProtocol(broker: RawBroker): FetchProtocol {
  return broker.lookupRequest(apiKeys.Fetch, requests.Fetch) as FetchProtocol;
}

/** The ListOffsets request, likewise. */
export function listOffsetsProtocol(broker: RawBroker): ListOffsetsProtocol {
  return broker.lookupRequest(apiKeys.ListOffsets, requests.ListOffsets) as ListOffsetsProtocol;
}

/**
 * The Metadata request for the brokers and no topic, which the library cannot say: an empty list goes out as null, and null is
 * all topics (from version 1 on).
 */
export function brokersProtocol(broker: RawBroker): Protocol<unknown> {
  const make = broker.lookupRequest(apiKeys.Metadata, requests.Metadata) as (options: {
    readonly topics: readonly string[];
    readonly allowAutoTopicCreation: boolean;
  }) => Protocol<unknown>;
  const { request, response } = make({ topics: [], allowAutoTopicCreation: false });
  const encode = async (): Promise<Encoded> => {
    const encoded = await request.encode();
    encoded.buf.writeInt32BE(0, 0);
    return encoded;
  };
  return { request: { ...request, encode }, response };
}

/** As ListOffsets' `replicaId`: the leader tells its own log's end. A consumer's (-1) is told the high watermark. */
export const ANY_REPLICA = -2;
/** As its `timestamp`. */
export const LATEST = -1;

/** `fetch`: only what no open or aborted transaction can take back. */
export const READ_COMMITTED = 1;
/** `listOffsets`: the log's true end, open transactions or not. */
export const READ_UNCOMMITTED = 0;

/** What a Cluster's emitter is told when a request got no answer in time. */
export const REQUEST_TIMEOUT = "network.request_timeout";
