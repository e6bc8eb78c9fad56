/** How every client of this folder is set up: deadlines, retries, logs, and sockets that can be cut. */

import type { ConnectionOptions } from "node:tls";
import type { Kafka as Client, logCreator, SASLOptions } from "kafkajs";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import "./codecs.ts";
import "./corrections.ts";
import { Cluster, kafkajs, type RawCluster, READ_UNCOMMITTED, REQUEST_TIMEOUT } from "./internals.ts";
import { Wire } from "./wire.ts";

export interface KafkaOptions {
  /** `host:port` of some brokers; the others are learnt from them. */
  readonly brokers: readonly string[];
  /** What the brokers' logs and quotas call this process. */
  readonly clientId: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly ssl?: ConnectionOptions | boolean;
  readonly sasl?: SASLOptions;
}

const CONNECTION_TIMEOUT_MS = 5_000;
/** After it the connection is cut: kafkajs alone would ask again on the same dead one. */
const REQUEST_TIMEOUT_MS = 15_000;
const METADATA_MAX_AGE_MS = 300_000;

/** All five are named: kafkajs' own defaults depend on NODE_ENV. Four attempts, about 1 s. */
export const BRIEF_RETRY = { initialRetryTime: 100, maxRetryTime: 1_000, factor: 0.2, multiplier: 2, retries: 3 };

export interface Connection {
  readonly client: Client;
  readonly wire: Wire;
  /** To be called when a request of this client got no answer in time. */
  readonly onRequestTimeout: () => void;
}

/** A client with sockets of its own. Nothing is connected yet. */
export function openConnection(options: KafkaOptions): Connection {
  const wire = new Wire(options.brokers);
  const client = new kafkajs.Kafka({
    brokers: wire.brokers,
    clientId: options.clientId,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    enforceRequestTimeout: true,
    socketFactory: wire.open,
    retry: BRIEF_RETRY,
    logLevel: kafkajs.logLevel.INFO,
    logCreator: routeTo(options.log, wire),
    ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
    ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
  });
  return { client, wire, onRequestTimeout: () => wire.reset(`no answer for ${REQUEST_TIMEOUT_MS} ms`) };
}

/** The layer below clients, for requests that they do not offer. Nothing is connected yet. */
export function openCluster(options: KafkaOptions): { readonly cluster: RawCluster; readonly wire: Wire } {
  const { client, wire, onRequestTimeout } = openConnection(options);
  const cluster = new Cluster({
    logger: client.logger(),
    socketFactory: wire.open,
    brokers: wire.brokers,
    ssl: options.ssl,
    sasl: options.sasl,
    clientId: options.clientId,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    enforceRequestTimeout: true,
    metadataMaxAge: METADATA_MAX_AGE_MS,
    retry: BRIEF_RETRY,
    allowAutoTopicCreation: false,
    // Of offsets that are asked for, not of what is fetched: see `highWatermarks` in ports.ts.
    isolationLevel: READ_UNCOMMITTED,
    instrumentationEmitter: { emit: (name) => name === REQUEST_TIMEOUT && onRequestTimeout() },
  });
  return { cluster, wire };
}

/**
 * What is no news: a port throws what a `Response` or connection line tells of (a broker that is away made forty of them a
 * second), a group reader tells of a member's crash, a producer throws what it was refused for (each partition of a log
 * that is being closed, once), and is replaced after its last retry, so the warning about limited retries does not hold.
 */
const NO_NEWS =
  /^(Response |Crash: |Connection error|Closed connection|Failed to connect|The request included a message larger than|Limiting retries for the idempotent producer)/;

function routeTo(log: Log, wire: Wire): logCreator {
  return () =>
    ({ level, namespace, log: { message, timestamp: _, logger: __, stack: ___, ...rest } }) => {
      const minor = level > kafkajs.logLevel.WARN || wire.closed || NO_NEWS.test(message);
      const fields = Object.fromEntries(Object.entries(rest).filter(([, value]) => typeof value !== "object"));
      log[minor ? "debug" : "warn"](`kafkajs: ${message}`, { ...fields, ...(namespace ? { part: namespace } : {}) });
    };
}
