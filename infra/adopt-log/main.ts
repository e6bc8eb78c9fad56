/** `npm run adopt-log`: a running installation goes over to a new topic, which may have more partitions. */
import { parseArgs } from "node:util";
import { systemClock as clock } from "#lib/clock.ts";
import { logLevel, readSettings } from "#lib/config.ts";
import { connectLog } from "#lib/connect.ts";
import { Contact } from "#lib/contact.ts";
import { LogError } from "#lib/kafka/ports.ts";
import { readKafkaAccess } from "#lib/kafka-access.ts";
import { createLog } from "#lib/log.ts";
import { logSettings, topicNames } from "#lib/log-settings.ts";
import { refusedFlag } from "../flags.ts";
import { Adoption } from "./adopt.ts";

const USAGE = `npm run adopt-log -- --topic NAME --partitions N

  Makes a new topic and brings every running role over to it: new events go there, saved rows, unsaved ones and cursors stay
  valid. Events wait for a second or two meanwhile; followers reconnect with their cursors. It waits until the sinks have
  nearly caught up, and changes nothing before. Run it again with the same words after it was interrupted.

  --topic        of the new log; it must be new, or never used; KAFKA_PREFIX comes before it
  --partitions   of the new log

  KAFKA_… and SPILLWAY_… are set as for the roles: SPILLWAY_TOPIC stays as it is afterwards too
`;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const wrong = (what: string): Error => new Error(`${what}. What it accepts:\n\n${USAGE}`);

function readFlags() {
  const options = { topic: { type: "string" }, partitions: { type: "string" }, help: { type: "boolean" } } as const;
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw refusedFlag(error, USAGE);
  }
}

async function main(): Promise<void> {
  const { topic, partitions, help } = readFlags();
  if (help) return say(USAGE);
  if (!topic) throw wrong("Which topic? Give --topic");
  const count = Number(partitions);
  if (!Number.isInteger(count) || count < 1 || count > PARTITIONS_MAX)
    throw wrong(`--partitions ${partitions ?? "is missing: it"} must be a whole number from 1 to ${PARTITIONS_MAX}`);
  const log = createLog("adopt-log", logLevel() === "info" ? "warn" : logLevel());
  const settings = readSettings(logSettings);
  const kafkaAccess = readKafkaAccess(settings);
  const contact = new Contact({ brokers: kafkaAccess.brokers, log, clock });
  const stop = new AbortController();
  const end = (signal: string): void =>
    stop.abort(new Error(`Stopped by ${signal}. Run it again with the same words to go over to the new log`));
  process.once("SIGINT", end).once("SIGTERM", end);
  const surroundings = { log, clock, contact, kafkaAccess };
  const next = topicNames({ ...settings, SPILLWAY_TOPIC: topic }).topic;
  if (!TOPIC_NAME.test(next))
    throw wrong(`--topic gives ${next}: a topic's name has up to ${TOPIC_NAME_MAX} of A-Z a-z 0-9 . _ -`);
  const connected = await connectLog("adopt-log", settings, surroundings, stop.signal, () => undefined);
  try {
    await new Adoption(connected, { log, clock, say }).run({ topic: next, partitions: count }, stop.signal);
  } finally {
    await connected.close();
  }
}

/** For a log that did not answer. */
const REMEDY = "Run it again with the same words once every broker answers";
/** As of SPILLWAY_PARTITIONS. */
const PARTITIONS_MAX = 1_000;
/** As Kafka has it. */
const TOPIC_NAME_MAX = 249;
const TOPIC_NAME = new RegExp(`^(?!\\.{1,2}$)[\\w.-]{1,${TOPIC_NAME_MAX}}$`);

try {
  await main();
} catch (error) {
  const remedy = error instanceof LogError && error.kind !== "fatal" ? `. ${REMEDY}` : "";
  process.stderr.write(`adopt-log: ${error instanceof Error ? error.message : String(error)}${remedy}\n`);
  process.exitCode = 1;
}
