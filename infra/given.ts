/** Servers that somebody else runs: named by the environment, only looked at here. */
import { connect, type NetConnectOpts } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { databaseAddress, databaseUrl, TLS_SCHEME } from "#lib/setting-forms.ts";
import { answersMetadata } from "./kafka-metadata.ts";
import type { KafkaServer, PostgresServer, Say, Server } from "./server.ts";

const ANSWER_LIMIT_MS = 30_000;
/** Who waits longer is told what for. */
const TELL_MS = 2_500;
const LOOK_MS = 250;

/** @param brokers the value of KAFKA_BROKERS: `host:port` or `kafka+ssl://host:port`, several separated by commas */
export function givenKafka(brokers: string, say: Say): KafkaServer {
  const named = brokers.split(",").filter((text) => text.trim() !== "");
  const tls = brokers.includes(TLS_SCHEME);
  const addresses = named.map((text) => new URL(`kafka://${text.trim().replace(TLS_SCHEME, "")}`));
  const obstacle = async (): Promise<string | undefined> => {
    let why: string | undefined;
    for (const { hostname, port } of addresses) {
      const at = Number(port || 9092);
      if (!tls && (await answersMetadata(hostname, at))) return undefined;
      const unreached = await connectObstacle({ host: hostname, port: at });
      // Over TLS, and with what certificates and passwords, the roles ask for themselves, and say what they are told.
      if (tls && unreached === undefined) return undefined;
      why ??= unreached;
    }
    return why ?? "what listens there does not answer as Kafka does";
  };
  const what = `Kafka: ${brokers}, given by KAFKA_BROKERS; not started or stopped from here`;
  const server = givenServer({ variable: "KAFKA_BROKERS", name: `Kafka at ${brokers}`, what, obstacle, say });
  return Object.assign(server, { brokers });
}

/** @param url the value of DATABASE_URL */
export function givenPostgres(url: string, say: Say): PostgresServer {
  const at = databaseAddress(url);
  const what = `PostgreSQL: ${at}, given by DATABASE_URL; not started or stopped from here`;
  const obstacle = (): Promise<string | undefined> => connectObstacle(placeOf(url));
  const server = givenServer({ variable: "DATABASE_URL", name: `PostgreSQL at ${at}`, what, obstacle, say });
  return Object.assign(server, { url, deletion: `psql "$DATABASE_URL" -c 'DROP SCHEMA spillway CASCADE'` });
}

/** A host and its port, or the socket in a folder. */
function placeOf(url: string): NetConnectOpts {
  const { hostname = "", port = "", searchParams } = databaseUrl(url) ?? {};
  const host = decodeURIComponent(searchParams?.get("host") || hostname).replace(/^\[(.+)\]$/, "$1");
  const at = Number(port || 5432);
  return host.startsWith("/") ? { path: join(host, `.s.PGSQL.${at}`) } : { host, port: at };
}

interface Given {
  readonly variable: string;
  readonly name: string;
  readonly what: string;
  /** Why it cannot be used now; undefined when it can. */
  readonly obstacle: () => Promise<string | undefined>;
  readonly say: Say;
}

function givenServer({ variable, name, what, obstacle, say }: Given): Server {
  const refuse = async (): Promise<void> => {
    throw new Error(`${what}: only who started it can do that. Unset ${variable} for one that can be controlled.`);
  };
  return {
    what,
    pid: undefined,
    start: async () => {
      const began = performance.now();
      for (let told = false; ; ) {
        const why = await obstacle();
        if (why === undefined) return;
        const waitedMs = performance.now() - began;
        if (waitedMs > ANSWER_LIMIT_MS) throw new Error(`${what}: ${why}. Start it, or unset ${variable}.`);
        if (!told && waitedMs > TELL_MS) {
          told = true;
          say(`waiting for ${name} (${why}), for up to ${ANSWER_LIMIT_MS / 1_000} s; Ctrl-C ends it`);
        }
        await delay(LOOK_MS);
      }
    },
    stop: async () => undefined,
    restart: refuse,
    kill: refuse,
    remove: async () => undefined,
  };
}

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ENOENT: "there is no such socket",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the host's name could not be looked up",
  EHOSTUNREACH: "no way to that host",
};

/** Why nobody answers there, in words; undefined when somebody takes connections. */
function connectObstacle(place: NetConnectOpts): Promise<string | undefined> {
  return new Promise((answer) => {
    const socket = connect(place);
    const end = (why: string | undefined): void => {
      socket.destroy();
      answer(why);
    };
    socket.setTimeout(2_000, () => end("no answer"));
    socket.on("connect", () => end(undefined));
    socket.on("error", ({ code, message }: NodeJS.ErrnoException) => end(WORDS[code ?? ""] ?? message));
  });
}
