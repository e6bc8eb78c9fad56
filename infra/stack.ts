/** Provides Kafka and Postgres, each in the first way that works: given by the environment, native, Docker. */
import { givenKafka, givenPostgres } from "./given.ts";
import { nativeKafka } from "./kafka-native.ts";
import { nativePostgres } from "./postgres-native.ts";
import { type KafkaOptions, type KafkaServer, Missing, type PostgresOptions, type PostgresServer } from "./server.ts";

/** Chosen and said in one line, not yet started. @throws Missing when no way works, with what to install */
export async function provideKafka(options: KafkaOptions): Promise<KafkaServer> {
  const brokers = process.env["KAFKA_BROKERS"];
  const server = brokers
    ? givenKafka(brokers, options.say)
    : await orDocker(
        () => nativeKafka(options),
        async () => (await import("./containers.ts")).containerKafka(options),
      );
  options.say(server.what);
  return server;
}

/** Chosen and said in one line, not yet started. @throws Missing when no way works, with what to install */
export async function providePostgres(options: PostgresOptions): Promise<PostgresServer> {
  const url = process.env["DATABASE_URL"];
  const server = url
    ? givenPostgres(url, options.say)
    : await orDocker(
        () => nativePostgres(options),
        async () => (await import("./containers.ts")).containerPostgres(options),
      );
  options.say(server.what);
  return server;
}

/** Only a missing tool leads to Docker: a server that is there but fails is a fault to be seen. */
async function orDocker<S>(native: () => Promise<S>, docker: () => Promise<S>): Promise<S> {
  try {
    return await native();
  } catch (missing) {
    if (!(missing instanceof Missing)) throw missing;
    try {
      return await docker();
    } catch (error) {
      if (error instanceof Missing) throw new Missing(`${missing.message}\n${error.message}`, { cause: error });
      throw error;
    }
  }
}
