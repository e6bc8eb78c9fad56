/** Finds out before any process of ours runs whether Kafka's log is the one that PostgreSQL's rows were saved from. */
import { systemClock as clock } from "#lib/clock.ts";
import { readSettings } from "#lib/config.ts";
import { isBroken, prove } from "#lib/continuity.ts";
import { connectKafka } from "#lib/kafka/client.ts";
import { OffsetOutOfRange } from "#lib/kafka/ports.ts";
import { readKafkaAccess } from "#lib/kafka-access.ts";
import { createLog } from "#lib/log.ts";
import { logSettings, topicNames } from "#lib/log-settings.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import { Pool } from "#lib/postgres/pool.ts";
import type { KafkaServer, PostgresServer } from "./server.ts";

const TIMEOUT_MS = 5_000;

/**
 * One may have been removed without the other. The roles would find that too, and end again and again. Whatever else keeps
 * the two from being looked at is theirs to meet and to tell.
 * @throws Error that says what to delete to begin anew
 */
export async function requireBelonging(kafka: KafkaServer, postgres: PostgresServer): Promise<void> {
  try {
    await proveSaved(kafka.brokers, postgres.url);
  } catch (cause) {
    if (!isBroken(cause)) return;
    throw new Error(
      "Kafka's data and PostgreSQL's do not belong together: what PostgreSQL holds was saved from another log " +
        `(${found(cause)}).\n  ${kafka.what}\n  ${postgres.what}\n` +
        `To begin anew, without what was saved, delete PostgreSQL's data: ${postgres.deletion}\n` +
        "To keep what was saved, bring Kafka's data back.",
      { cause },
    );
  }
}

const found = (fault: unknown): string =>
  fault instanceof OffsetOutOfRange
    ? `${fault.topic}/${fault.partition} is saved up to offset ${fault.wanted}, but Kafka holds ${fault.range.low} to ${fault.range.high}`
    : "the record that was saved last is not the one that Kafka holds there";

/** @throws what `prove` does when they do not belong together; anything else when they cannot be looked at */
async function proveSaved(brokers: string, url: string): Promise<void> {
  const settings = readSettings(logSettings, { ...process.env, KAFKA_BROKERS: brokers });
  const log = createLog("start", "silent");
  await using stack = new AsyncDisposableStack();
  const database = { url, max: 1, name: "spillway-start", connectTimeoutMs: TIMEOUT_MS, log, clock };
  const pool = stack.adopt(new Pool(database), (one) => one.close());
  // Refused where nothing was ever saved, which is as it should be. Of logs that succeeded each other the last one: those before
  // may be deleted.
  const [saved] = await pool.query<{ epoch: number; topic: string; partitions: number }>(
    `SELECT log_epoch AS epoch, topic, partitions FROM spillway.log_identity
      WHERE EXISTS (SELECT FROM spillway.log_identity WHERE topic = $1) ORDER BY log_epoch DESC LIMIT 1`,
    [topicNames(settings).topic],
    TIMEOUT_MS,
  );
  if (saved === undefined) return;
  const { topic } = saved;
  const checkpoints = await readCheckpoints(pool, saved.epoch, [...Array(saved.partitions).keys()]);
  const kafka = connectKafka({ ...readKafkaAccess(settings), clientId: "spillway-start", log, clock });
  const admin = stack.adopt(await kafka.admin(), (one) => one.close());
  if ((await admin.facts(topic)) !== undefined)
    return prove({ topic, openReader: () => kafka.partitionReader() }, checkpoints);
  for (const [partition, { nextOffset }] of checkpoints)
    if (nextOffset > 0n) throw new OffsetOutOfRange(topic, partition, nextOffset, { low: 0n, high: 0n });
}
