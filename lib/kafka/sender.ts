/** One kafkajs producer, from its connection to its first failure. */
import type { Producer } from "kafkajs";
import { type KafkaOptions, openConnection } from "./connection.ts";
import type { PartitionRecords } from "./ports.ts";
import type { Wire } from "./wire.ts";

/** Retries of one send: at most a second apart, for longer than an append may take, whose own deadline ends them. */
const SEND_RETRY = { initialRetryTime: 100, maxRetryTime: 1_000, factor: 0.2, multiplier: 2, retries: 60 };
/** How long the leader may wait for its replicas before it answers. */
const REPLICAS_TIMEOUT_MS = 10_000;

export interface Acknowledged {
  readonly partition: number;
  readonly errorCode: number;
  readonly baseOffset?: string;
}

export interface Sender {
  /** Does nothing when it has connected before. */
  connect(): Promise<void>;
  /**
   * May resolve without some partitions: those were not sent, or their answer was lost. kafkajs leaves a broker out of a
   * retry when it has answered once, even if it has become the leader of another partition since.
   */
  send(topic: string, batches: readonly PartitionRecords[]): Promise<readonly Acknowledged[]>;
  /** How many Produce requests went out so far: none since a moment means nothing was stored since. */
  readonly produceRequests: number;
  /** At once: what is under way fails, and nothing is sent any more. */
  cut(): void;
  /** For an idle one. */
  close(): Promise<void>;
}

/** A new idempotent producer, with a producer id of its own. */
export function openSender(options: KafkaOptions): Sender {
  const { client, wire, onRequestTimeout } = openConnection(options);
  const producer = client.producer({
    idempotent: true,
    allowAutoTopicCreation: false,
    retry: SEND_RETRY,
    // Asked even when a message names its partition. Any other could choose another partition at a retry.
    createPartitioner:
      () =>
      ({ message }) =>
        message.partition as number,
  });
  producer.on(producer.events.REQUEST_TIMEOUT, onRequestTimeout);
  let connected = false;
  return {
    connect: async () => {
      if (connected) return;
      await producer.connect();
      connected = true;
    },
    send: (topic, batches) => send(producer, topic, batches),
    get produceRequests() {
      return wire.produceRequests;
    },
    cut: () => wire.close(),
    close: () => close(producer, wire),
  };
}

function send(producer: Producer, topic: string, batches: readonly PartitionRecords[]): Promise<Acknowledged[]> {
  return producer.send({
    topic,
    acks: -1,
    timeout: REPLICAS_TIMEOUT_MS,
    messages: batches.flatMap(({ partition, records }) => records.map(({ key, value }) => ({ key, value, partition }))),
  });
}

async function close(producer: Producer, wire: Wire): Promise<void> {
  try {
    await producer.disconnect();
  } finally {
    wire.close();
  }
}
