/** Real Kafka for tests: one broker that all tests of a run share, and private ones to be killed. */
import { randomUUID } from "node:crypto";
import { inject } from "vitest";
import type { KafkaOptions, KafkaServer } from "../../infra/server.ts";
import { provideKafka } from "../../infra/stack.ts";
import { newFolder } from "./folder.ts";

/** The shared broker's address, as KAFKA_BROKERS wants it. Only in tests of the project `promises`. */
export function sharedBrokers(): string {
  return inject("kafkaBrokers");
}

/** A topic name that no other test uses. Control topic and group derive from it. */
export function uniqueTopic(name = "events"): string {
  return `test.${name}.${randomUUID().slice(0, 8)}`;
}

/**
 * A broker of the test's own, running: `await using kafka = await privateKafka()`, or call `remove` in `afterAll`.
 * Costs 3 s and 340 MB. `kill` then `start` brings it back within about 7 s.
 * @param advertisedPort the port that clients are told to use, when a proxy stands before it; `ownPort` is the broker's own
 */
export async function privateKafka(
  options: Pick<KafkaOptions, "advertisedPort" | "guarded"> = {},
): Promise<KafkaServer & AsyncDisposable> {
  const kafka = await provideKafka({ dataDir: newFolder("kafka"), say: () => undefined, ...options });
  await kafka.start();
  return disposable(kafka);
}

/** Adds what `await using` calls at the end of the block. */
export function disposable<S extends { remove(): Promise<void> }>(server: S): S & AsyncDisposable {
  return Object.defineProperty(server, Symbol.asyncDispose, { value: () => server.remove() }) as S & AsyncDisposable;
}
