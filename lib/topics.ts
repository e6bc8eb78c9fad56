/** Creates the topics where they are missing, verifies what is there, and tells which log this is. */

import type { Clock } from "#lib/clock.ts";
import { WRITER_FINGERPRINT, WRITER_SCHEMA } from "#lib/codec.ts";
import type { Contact } from "#lib/contact.ts";
import { Control, type LogIdentity } from "#lib/control.ts";
import { ControlWriter } from "#lib/control-writer.ts";
import type { BatchProducer, LogAdmin, PartitionReader, TopicFacts } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";

import { CONTROL_TOPIC_CONFIG, EVENT_TOPIC_CONFIG, isClosed } from "#schemas/topics.ts";

/** What opening the log takes. */
export interface OpenLog {
  /** Name of the first epoch's topic. */
  readonly topic: string;
  readonly controlTopic: string;
  /** Used only if the topic is created now. */
  readonly partitions: number;
  readonly admin: LogAdmin;
  readonly reader: PartitionReader;
  /** For the control topic alone. */
  readonly producer: BatchProducer;
  readonly log: Log;
  readonly clock: Clock;
  readonly contact: Contact;
}

/** An open log: its identity, and the control topic read to its end. */
export interface OpenedLog {
  readonly identity: LogIdentity;
  /** What of the topic only weakens a promise. */
  readonly warnings: readonly string[];
  readonly control: Control;
  readonly controlWriter: ControlWriter;
}

/** A topic is not what the promises need. The message says what and what to do. */
export class TopicUnfit extends Error {
  constructor(message: string) {
    super(message);
    this.name = "TopicUnfit";
  }
}

/**
 * Makes sure of the topics and reads the control topic to its end.
 * @throws TopicUnfit when what is there would break a promise; LogError when the log does not answer
 */
export async function openLog(given: OpenLog): Promise<OpenedLog> {
  const { topic, controlTopic, admin, reader, log, clock, contact } = given;
  const wantedControl = { topic: controlTopic, partitions: 1, config: CONTROL_TOPIC_CONFIG };
  const ensure = async (): Promise<void> => requireControl(controlTopic, await admin.ensureTopic(wantedControl));
  await ensure();
  const controlWriter = new ControlWriter(controlTopic, given.producer);
  const control = new Control({ topic: controlTopic, reader, ensure, writer: controlWriter, log, clock, contact });
  await control.refresh();
  const current = control.identity();
  const wanted = current?.topic ?? topic;
  const facts = await admin.ensureTopic({
    topic: wanted,
    partitions: current?.partitions ?? given.partitions,
    config: EVENT_TOPIC_CONFIG,
  });
  const { faults, warnings } = topicFaults(wanted, facts);
  if (faults.length > 0) throw new TopicUnfit(faults.join(" "));
  const identity = current ?? { epoch: 1, topic, partitions: facts.partitions };
  requirePartitions(identity, facts.partitions, log);
  // Whoever comes at the same time publishes the same: the identity follows from the topic alone.
  if (current === undefined) await controlWriter.identity(identity);
  await control.refresh();
  return { identity, warnings, control, controlWriter };
}

/** A writer's first act: its schema must be known before a record of it can be met. @throws LogError */
export async function publishWriterSchema({ control, controlWriter }: OpenedLog): Promise<void> {
  if ((await control.schema(WRITER_FINGERPRINT)) === undefined)
    await controlWriter.schema(WRITER_FINGERPRINT, WRITER_SCHEMA);
}

/** Anything else would forget writers' schemas, or read them in another order. @throws TopicUnfit */
function requireControl(topic: string, { partitions, config }: TopicFacts): void {
  if (partitions === 1 && config["cleanup.policy"] === "compact") return;
  throw new TopicUnfit(
    `The control topic ${topic} has ${partitions} partitions and cleanup.policy=${config["cleanup.policy"]}, but must have one ` +
      "partition and be compacted only. Set it so, or name another topic in SPILLWAY_CONTROL_TOPIC.",
  );
}

/**
 * A client's events lie in the partition that the number at the beginning gave it: that number is the log's for ever, and
 * what somebody adds to the topic is not part of it.
 * @throws TopicUnfit when partitions are gone
 */
function requirePartitions({ epoch, topic, partitions }: LogIdentity, found: number, log: Log): void {
  const what = `Topic ${topic} has ${found} partitions, but the log of epoch ${epoch} was begun with ${partitions}`;
  if (found < partitions)
    throw new TopicUnfit(
      `${what}: Kafka takes none away, so the topic was made anew, and a client's events would lie elsewhere. What is saved stays ` +
        `as it is. Restore the topic with its ${partitions} partitions and their offsets, or begin a new log: another ` +
        "SPILLWAY_TOPIC and another database.",
    );
  if (found > partitions)
    log.warn("topic has more partitions than its log", {
      topic,
      warning:
        `${what}: somebody added ${found - partitions}. Every event is where it was and Spillway goes on with the first ` +
        `${partitions}; what others write to the added ones is set aside as dead letters. Nothing needs to be done.`,
    });
}

/** What of a topic's settings breaks a promise, and what only weakens it. Pure. */
export function topicFaults(topic: string, facts: TopicFacts): { faults: string[]; warnings: string[] } {
  const faults: string[] = [];
  const warnings: string[] = [];
  const is = (name: string): string => facts.config[name] ?? "";
  const fault = (name: string, why: string, wanted: string): void => {
    faults.push(`Topic ${topic} has ${name}=${is(name)}: ${why}. Set it to ${wanted}.`);
  };
  if (is("cleanup.policy") !== "delete")
    fault("cleanup.policy", "compaction would delete acknowledged events", "delete");
  const maxBytes = Number(is("max.message.bytes"));
  const needed = Number(EVENT_TOPIC_CONFIG["max.message.bytes"]);
  // A log that is closed is about to be succeeded by another one, and read until then.
  if (maxBytes < needed && !isClosed(facts.config))
    fault("max.message.bytes", "batches of acknowledged size would be refused", `${needed} or more`);
  if (facts.replication >= 3 && Number(is("min.insync.replicas")) < 2)
    fault("min.insync.replicas", "acks=all would mean one copy", "2");
  if (facts.replication < 3)
    warnings.push(`replication is ${facts.replication}: the loss of a broker's disk loses acknowledged events`);
  const limited = Number(is("retention.ms")) >= 0 || Number(is("retention.bytes")) >= 0;
  if (limited)
    warnings.push(
      `retention.ms=${is("retention.ms")}, retention.bytes=${is("retention.bytes")}: the broker deletes events by itself, ` +
        "saved or not; the promise of durability ends there",
    );
  if (is("message.timestamp.type") !== "LogAppendTime" && Number(is("retention.ms")) >= 0)
    fault(
      "message.timestamp.type",
      "with a time limit a producer's clock could expire events at once",
      "LogAppendTime",
    );
  return { faults, warnings };
}
