/** kafkajs alone, set up as ingest sets it up: idempotent, and each record goes to the partition that it names. */
import { Kafka, logLevel, type Producer } from "kafkajs";

/** A producer that is connected. @param brokers `host:port` of some, with commas between them */
export async function openProducer(brokers: string): Promise<Producer> {
  const kafka = new Kafka({ brokers: brokers.split(","), logLevel: logLevel.ERROR, connectionTimeout: 5_000 });
  const producer = kafka.producer({
    idempotent: true,
    createPartitioner:
      () =>
      ({ message: { partition } }) =>
        partition ?? 0,
  });
  await producer.connect();
  return producer;
}
