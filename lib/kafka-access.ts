/** How brokers are reached, over TLS and with SASL: made from the settings and checked, before the first connection. */
import assert from "node:assert";
import type { ConnectionOptions } from "node:tls";
import { type Clock, systemClock } from "./clock.ts";
import { ConfigError } from "./config.ts";
import type { KafkaOptions } from "./kafka/client.ts";
import { type LogSettings, nameProblems } from "./log-settings.ts";
import { type PemPair, pairProblems, readPem } from "./pem.ts";
import { TLS_SCHEME } from "./setting-forms.ts";

/** `brokers` are plain `host:port`. */
export type KafkaAccess = Pick<KafkaOptions, "brokers" | "ssl" | "sasl">;

const PEM_SETTINGS = ["KAFKA_TRUSTED_CERT", "KAFKA_CLIENT_CERT", "KAFKA_CLIENT_CERT_KEY"] as const;
type PemSetting = (typeof PEM_SETTINGS)[number];

/** @throws ConfigError with every problem, when what is set does not go together or cannot be read */
export function readKafkaAccess(settings: LogSettings, clock: Pick<Clock, "now"> = systemClock): KafkaAccess {
  const named = settings.KAFKA_BROKERS;
  const tls = named[0]?.startsWith(TLS_SCHEME) === true;
  const brokers = named.map((one) => one.replace(TLS_SCHEME, ""));
  const pems = new Map<PemSetting, string>();
  const problems = [...nameProblems(settings), ...loginProblems(settings)];
  problems.push(...(tls ? together(settings) : withoutTls(settings, brokers)));
  for (const name of PEM_SETTINGS) {
    if (settings[name] === "") continue;
    const read = readPem(settings[name], name === "KAFKA_CLIENT_CERT_KEY" ? "PRIVATE KEY" : "CERTIFICATE");
    if ("pem" in read) pems.set(name, read.pem);
    else problems.push(`${name} ${read.problem}`);
  }
  const pair = clientPair(pems);
  if (problems.length === 0 && pair !== null) problems.push(...pairProblems(pair, PAIR, clock.now()));
  if (problems.length > 0) throw new ConfigError(problems);
  const ssl = tls ? { ssl: tlsOptions(settings, pems) } : {};
  return { brokers, ...ssl, ...saslOptions(settings) };
}

function loginProblems({ KAFKA_USERNAME: username, KAFKA_PASSWORD: password }: LogSettings): string[] {
  // No broker would say more than that it is wrong.
  for (const [name, value] of Object.entries({ KAFKA_USERNAME: username, KAFKA_PASSWORD: password }))
    if (/[\r\n]$/.test(value)) return [`${name} ends with a line end, as echo writes one: take it away (printf '%s').`];
  if ((username === "") === (password === "")) return [];
  const [is, isNot] = password === "" ? ["USERNAME", "PASSWORD"] : ["PASSWORD", "USERNAME"];
  return [`KAFKA_${is} is set and KAFKA_${isNot} is not: set both for brokers that want SASL, or none.`];
}

function together(settings: LogSettings): string[] {
  const { KAFKA_SSLMODE: mode, KAFKA_TRUSTED_CERT: trusted } = settings;
  const { KAFKA_CLIENT_CERT: certificate, KAFKA_CLIENT_CERT_KEY: key } = settings;
  const problems: string[] = [];
  if ((certificate === "") !== (key === ""))
    problems.push("KAFKA_CLIENT_CERT and KAFKA_CLIENT_CERT_KEY belong together: set both, or none.");
  if (mode === "verify-ca" && trusted === "")
    problems.push(
      "KAFKA_SSLMODE is verify-ca and KAFKA_TRUSTED_CERT is not set, so that anybody's certificate would do: name the authority " +
        "in KAFKA_TRUSTED_CERT, or set verify-full.",
    );
  return problems;
}

/** Going on without what was meant to protect the connection is worse than not to start. */
const withoutTls = (settings: LogSettings, brokers: readonly string[]): string[] =>
  PEM_SETTINGS.filter((name) => settings[name] !== "").map(
    (name) =>
      `${name} is set, and KAFKA_BROKERS is ${brokers.join(",")}, which means no TLS: write ` +
      `${brokers.map((one) => TLS_SCHEME + one).join(",")}, or unset it.`,
  );

const PAIR: PemPair = { cert: "KAFKA_CLIENT_CERT", key: "KAFKA_CLIENT_CERT_KEY" };

function clientPair(pems: ReadonlyMap<PemSetting, string>): PemPair | null {
  const [cert, key] = [pems.get("KAFKA_CLIENT_CERT"), pems.get("KAFKA_CLIENT_CERT_KEY")];
  return cert && key ? { cert, key } : null;
}

function tlsOptions(settings: LogSettings, pems: ReadonlyMap<PemSetting, string>): ConnectionOptions {
  const ca = pems.get("KAFKA_TRUSTED_CERT");
  return {
    ...clientPair(pems),
    ...(ca ? { ca } : {}),
    ...(settings.KAFKA_SSLMODE === "verify-ca" ? { checkServerIdentity: () => undefined } : {}),
  };
}

function saslOptions(settings: LogSettings): Pick<KafkaAccess, "sasl"> {
  const { KAFKA_USERNAME: username, KAFKA_PASSWORD: password, KAFKA_SASL_MECHANISM: mechanism } = settings;
  if (username === "") return {};
  // Of a union over mechanisms TypeScript wants one member.
  switch (mechanism) {
    case "plain":
      return { sasl: { mechanism, username, password } };
    case "scram-sha-256":
      return { sasl: { mechanism, username, password } };
    case "scram-sha-512":
      return { sasl: { mechanism, username, password } };
    default:
      assert.fail(`no such mechanism: ${mechanism satisfies never}`);
  }
}
