/** A role's way to the log: connections to Kafka, the topics made sure of, the control topic read. */
import { unlessAborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import { connectKafka, type Kafka } from "#lib/kafka/client.ts";
import { type LogAdmin, LogError, type PartitionReader } from "#lib/kafka/ports.ts";
import type { KafkaAccess } from "#lib/kafka-access.ts";
import type { Log } from "#lib/log.ts";
import { type LogSettings, topicNames } from "#lib/log-settings.ts";
import { withKafkaRemedy } from "#lib/remedies.ts";
import { type OpenedLog, openLog } from "#lib/topics.ts";

/** Ends connections in the reverse order of their opening. */
export interface ConnectedLog extends OpenedLog {
  readonly kafka: Kafka;
  readonly admin: LogAdmin;
  /** For the control topic and single fetches; a role that reads the events opens another. */
  readonly reader: PartitionReader;
  close(): Promise<void>;
}

/** What the process gives to every role in it. */
export interface Surroundings {
  readonly log: Log;
  readonly clock: Clock;
  readonly contact: Contact;
  /** How the brokers are reached. */
  readonly kafkaAccess: KafkaAccess;
}

const RETRY_MS = 1_000;
/** Of an append to the control topic: short, since a stop waits for it, and the next one says the same and more. */
const CONTROL_GIVE_UP_MS = 5_000;

/**
 * Waits until the log answers. `waiting` hears of each failure, so that readiness can tell what is missing.
 * @throws TopicUnfit when what is there would break a promise; `signal`'s AbortError when it aborts first
 */
export async function connectLog(
  role: string,
  settings: LogSettings,
  { log, clock, contact, kafkaAccess }: Surroundings,
  signal: AbortSignal,
  waiting: (why: string) => void,
): Promise<ConnectedLog> {
  const kafka = connectKafka({ ...kafkaAccess, clientId: `spillway-${role}`, log, clock });
  for (;;) {
    try {
      // A broker that takes connections and never answers holds an attempt up for a minute.
      const attempt = connectOnce(kafka, settings, { log, clock, contact, kafkaAccess });
      const connected = await unlessAborted(signal, attempt);
      log.info("log opened", { ...connected.identity });
      // They weaken what an acknowledgement means. All roles would say the same at once.
      if (role === "ingest")
        for (const warning of connected.warnings)
          log.warn("topic is weaker than advised", { topic: connected.identity.topic, warning });
      return connected;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof LogError)) throw error;
      const why = withKafkaRemedy(error.message);
      log.warn("log not reached yet", { brokers: contact.brokers, error: why });
      waiting(why);
    }
    await clock.sleep(RETRY_MS, signal);
  }
}

/** @throws TopicUnfit, LogError */
async function connectOnce(
  kafka: Kafka,
  settings: LogSettings,
  { log, clock, contact }: Surroundings,
): Promise<ConnectedLog> {
  await using stack = new AsyncDisposableStack();
  const admin = stack.adopt(await kafka.admin(), (one) => one.close());
  const reader = stack.adopt(await kafka.partitionReader(), (one) => one.close());
  const producer = stack.adopt(await kafka.producer(CONTROL_GIVE_UP_MS), (one) => one.close());
  const names = topicNames(settings);
  const opened = await openLog({
    topic: names.topic,
    controlTopic: names.control,
    partitions: settings.SPILLWAY_PARTITIONS,
    admin,
    reader,
    producer,
    log,
    clock,
    contact,
  });
  const open = stack.move();
  const close = (): Promise<void> => {
    contact.end();
    return open.disposeAsync();
  };
  return { ...opened, kafka, admin, reader, close };
}
