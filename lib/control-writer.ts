/** Writes the control topic: its keys, which are text, and their values, which are JSON. */
import type { LogIdentity } from "#lib/control.ts";
import type { BatchProducer } from "#lib/kafka/ports.ts";

/** A key and its value, which becomes JSON. */
export type Entry = readonly [key: string, value: unknown];

/** The log of an epoch. */
export const identityEntry = ({ epoch, topic, partitions }: LogIdentity): Entry => [
  `identity/${epoch}`,
  { topic, partitions },
];
/** The log that is to succeed another one; null: none is. */
const successorEntry = (epoch: number, next: LogIdentity | null): Entry => [
  `successor/${epoch}`,
  next === null ? { withdrawn: true } : { topic: next.topic, partitions: next.partitions },
];
/** A writer's schema. */
export const schemaEntry = (fingerprint: string, schema: string): Entry => [`schema/${fingerprint}`, { schema }];
/** @param place `epoch/partition` */
export const checkpointEntry = (place: string, nextOffset: bigint): Entry => [
  `checkpoint/${place}`,
  { nextOffset: nextOffset.toString() },
];

/** Publishes to the control topic. Calls wait for each other: the producer has one outstanding send. */
export class ControlWriter {
  readonly #topic: string;
  readonly #producer: BatchProducer;
  #last: Promise<unknown> = Promise.resolve();

  constructor(topic: string, producer: BatchProducer) {
    this.#topic = topic;
    this.#producer = producer;
  }

  /** @throws LogError */
  identity(identity: LogIdentity): Promise<void> {
    return this.entries([identityEntry(identity)]);
  }

  /** @throws LogError */
  successor(epoch: number, next: LogIdentity | null): Promise<void> {
    return this.entries([successorEntry(epoch, next)]);
  }

  /** @throws LogError */
  schema(fingerprint: string, schema: string): Promise<void> {
    return this.entries([schemaEntry(fingerprint, schema)]);
  }

  /** @throws LogError */
  checkpoints(epoch: number, nextOffsets: ReadonlyMap<number, bigint>): Promise<void> {
    return this.entries([...nextOffsets].map(([partition, next]) => checkpointEntry(`${epoch}/${partition}`, next)));
  }

  /** @throws LogError */
  entries(entries: readonly Entry[]): Promise<void> {
    const records = entries.map(([key, value]) => ({
      key: Buffer.from(key),
      value: Buffer.from(JSON.stringify(value)),
    }));
    const sent = this.#last.then(() => this.#producer.append(this.#topic, [{ partition: 0, records }]));
    this.#last = sent.catch(() => undefined);
    return sent.then(() => undefined);
  }
}
