/** Servers that somebody else runs: named by the environment, only looked at here. */
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { answersMetadata } from "./kafka-metadata.ts";
import type { KafkaServer, PostgresServer, Server } from "./server.ts";

const ANSWER_LIMIT_MS = 30_000;
const LOOK_MS = 250;

/** @param brokers the value of KAFKA_BROKERS: `host:port`, several separated by commas */
export function givenKafka(brokers: string): KafkaServer {
  const named = brokers.split(",").filter((text) => text.trim() !== "");
  const addresses = named.map((text) => new URL(`kafka://${text.trim()}`));
  const anyAnswers = async (): Promise<boolean> => {
    for (const { hostname, port } of addresses) if (await answersMetadata(hostname, Number(port || 9092))) return true;
    return false;
  };
  const what = `Kafka: ${brokers}, given by KAFKA_BROKERS; not started or stopped from here`;
  return Object.assign(givenServer("KAFKA_BROKERS", what, anyAnswers), { brokers });
}

/** @param url the value of DATABASE_URL */
export function givenPostgres(url: string): PostgresServer {
  const { hostname, port, pathname } = new URL(url);
  const what = `PostgreSQL: ${hostname}:${port || 5432}${pathname}, given by DATABASE_URL; not started or stopped from here`;
  return Object.assign(
    givenServer("DATABASE_URL", what, () => answersTcp(hostname, Number(port || 5432))),
    { url },
  );
}

function givenServer(variable: string, what: string, answers: () => Promise<boolean>): Server {
  const refuse = async (): Promise<void> => {
    throw new Error(`${what}: only who started it can do that. Unset ${variable} for one that can be controlled.`);
  };
  return {
    what,
    pid: undefined,
    start: async () => {
      for (let waitedMs = 0; !(await answers()); waitedMs += LOOK_MS) {
        if (waitedMs > ANSWER_LIMIT_MS) throw new Error(`${what}: no answer. Start it, or unset ${variable}.`);
        await delay(LOOK_MS);
      }
    },
    stop: async () => undefined,
    restart: refuse,
    kill: refuse,
    remove: async () => undefined,
  };
}

function answersTcp(host: string, port: number): Promise<boolean> {
  return new Promise((answer) => {
    const socket = connect(port, host);
    const end = (ready: boolean): void => {
      socket.destroy();
      answer(ready);
    };
    socket.setTimeout(2_000, () => end(false));
    socket.on("connect", () => end(true));
    socket.on("error", () => end(false));
  });
}
