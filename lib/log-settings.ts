/** Settings of roles that use the log: where the brokers are, how they want to be reached, and what of theirs is ours. */
import { choice, integer, list, optionalText, type Settings, text } from "#lib/config.ts";

export const logSettings = {
  KAFKA_BROKERS: list(
    "Kafka brokers to start from, as `host:port`, with commas between them; each as `kafka+ssl://host:port` where they want TLS. IPv6 by a name.",
    { format: "brokers" },
  ),
  KAFKA_TRUSTED_CERT: optionalText("Authorities that brokers' certificates must come from: PEM, or a file of it.", {
    secret: true,
    otherwise: "those that Node.js trusts",
  }),
  KAFKA_CLIENT_CERT: optionalText("This process' own certificate for brokers that want one: PEM, or a file of it.", {
    secret: true,
    otherwise: "none",
  }),
  KAFKA_CLIENT_CERT_KEY: optionalText("The key to it: PEM without a passphrase, or a file of it.", {
    secret: true,
    otherwise: "none",
  }),
  KAFKA_SSLMODE: choice(
    "How brokers' certificates are checked; by `verify-ca`, with `KAFKA_TRUSTED_CERT` only, they need not name their hosts (Heroku).",
    ["verify-full", "verify-ca"],
    { default: "verify-full" },
  ),
  KAFKA_USERNAME: optionalText("User for brokers that want SASL.", { otherwise: "no SASL" }),
  KAFKA_PASSWORD: optionalText("Its password.", { secret: true, otherwise: "none" }),
  KAFKA_SASL_MECHANISM: choice("How the password is proved.", ["plain", "scram-sha-256", "scram-sha-512"], {
    default: "scram-sha-512",
  }),
  KAFKA_PREFIX: optionalText("Stands before the names of all topics and of the group, as shared clusters want it.", {
    format: "topic",
    otherwise: "none",
  }),
  SPILLWAY_TOPIC: text("Topic of the events.", { format: "topic", default: "spillway.events" }),
  SPILLWAY_CONTROL_TOPIC: optionalText("Compacted topic of what roles tell each other.", {
    format: "topic",
    otherwise: "`SPILLWAY_TOPIC` + `.control`",
  }),
  SPILLWAY_GROUP: optionalText("Consumer group of the sinks; that of a log that was adopted has its epoch behind it.", {
    otherwise: "`SPILLWAY_TOPIC` + `.sink`",
  }),
  SPILLWAY_PARTITIONS: integer("Partitions of the topic; used once, when it is created.", {
    default: 12,
    minimum: 1,
    maximum: 1_000,
  }),
};

export type LogSettings = Settings<typeof logSettings>;

/** The names as Kafka knows them. */
export function topicNames(settings: LogSettings): { topic: string; control: string; group: string } {
  const { KAFKA_PREFIX: prefix, SPILLWAY_TOPIC: topic } = settings;
  return {
    topic: `${prefix}${topic}`,
    control: `${prefix}${settings.SPILLWAY_CONTROL_TOPIC || `${topic}.control`}`,
    group: `${prefix}${settings.SPILLWAY_GROUP || `${topic}.sink`}`,
  };
}

/** As Kafka has it; group and client ids may be longer. */
const NAME_CHARACTERS_MAX = 249;

/** @returns which names Kafka would not take, or would make unfit for what they are for */
export function nameProblems(settings: LogSettings): string[] {
  const { topic, control } = topicNames(settings);
  const problems = [topic, control].flatMap((name) => {
    if (name === "." || name === "..") return [`SPILLWAY_TOPIC or SPILLWAY_CONTROL_TOPIC is ${name}: take a name.`];
    if (name.length <= NAME_CHARACTERS_MAX) return [];
    return [
      `The topic's name ${name} has ${name.length} characters, and Kafka takes ${NAME_CHARACTERS_MAX}: shorten SPILLWAY_TOPIC ` +
        "(SPILLWAY_CONTROL_TOPIC, KAFKA_PREFIX).",
    ];
  });
  if (topic === control)
    problems.push(
      `SPILLWAY_TOPIC and SPILLWAY_CONTROL_TOPIC are both ${topic}: a log that is compacted would lose events. Unset the second.`,
    );
  return problems;
}
