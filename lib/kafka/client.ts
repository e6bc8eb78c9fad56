/** Kafka as the rest of Spillway sees it: four ports, one way to get them. */
import { createLogAdmin } from "./admin.ts";
import { createBatchProducer } from "./append.ts";
import type { KafkaOptions } from "./connection.ts";
import type { Group } from "./group-member.ts";
import { createGroupReader } from "./group-reader.ts";
import { createPartitionReader } from "./partition-reader.ts";
import type { BatchProducer, GroupReader, LogAdmin, PartitionReader } from "./ports.ts";
import { openSender } from "./sender.ts";

export type { KafkaOptions } from "./connection.ts";

/** How long one append may take, retries included; the producer is replaced then. */
const GIVE_UP_MS = 30_000;

export interface Kafka {
  /** @param giveUpMs how long one append may take, retries included. @throws LogError when no broker can be reached */
  producer(giveUpMs?: number): Promise<BatchProducer>;
  /** Connects when it is run. */
  groupReader(group: Group): GroupReader;
  /** @throws LogError when no broker can be reached */
  partitionReader(): Promise<PartitionReader>;
  /** @throws LogError when no broker can be reached */
  admin(): Promise<LogAdmin>;
}

/** Each port has connections of its own and ends with its own `close`; there is nothing else to end. */
export function connectKafka(options: KafkaOptions): Kafka {
  const { log, clock } = options;
  return {
    producer: (giveUpMs = GIVE_UP_MS) => createBatchProducer({ open: () => openSender(options), giveUpMs, log, clock }),
    groupReader: (group) => createGroupReader(options, group),
    partitionReader: () => createPartitionReader(options),
    admin: () => createLogAdmin(options),
  };
}
