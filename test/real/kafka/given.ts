/** What the tests of lib/kafka start from. */
import { connect } from "node:net";
import kafkajs from "kafkajs";
import { systemClock } from "#lib/clock.ts";
import { connectKafka, type Kafka } from "#lib/kafka/client.ts";
import type { LogAdmin, LogRecord, NewRecord } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { createProxy, type TcpProxy } from "../../../infra/proxy.ts";
import { privateKafka, uniqueTopic } from "../../support/kafka.ts";

/** Keeps what was logged, for messages of failed tests and for waiting. */
function keptLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const at =
    (level: string) =>
    (message: string, fields = {}): void => {
      lines.push(`${level} ${message} ${Object.values(fields).map(String).join(" ")}`);
    };
  return { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

export function openKafka(brokers: string, log: Log = keptLog()): Kafka {
  return connectKafka({ brokers: brokers.split(","), clientId: "test", log, clock: systemClock });
}

export async function freshTopic(
  admin: LogAdmin,
  partitions: number,
  config: Readonly<Record<string, string>> = {},
): Promise<string> {
  const topic = uniqueTopic();
  await admin.ensureTopic({ topic, partitions, config });
  return topic;
}

export interface ProxiedKafka extends AsyncDisposable {
  readonly brokers: string;
  readonly proxy: TcpProxy;
  /** The end of partition 0, asked for past the proxy. */
  end(topic: string): Promise<bigint>;
}

/** A broker of the test's own that clients reach through a proxy only. */
export async function kafkaBehindProxy(): Promise<ProxiedKafka> {
  const proxy = await createProxy({ host: "127.0.0.1", port: 1 });
  const kafka = await privateKafka({ advertisedPort: proxy.port });
  const own = Number(/ports? (\d+)/.exec(kafka.what)?.[1]);
  if (!own) throw new Error(`no port in "${kafka.what}"`);
  proxy.target = { host: "127.0.0.1", port: own };
  return {
    brokers: kafka.brokers,
    proxy,
    end: (topic) => endPastProxy(own, topic),
    [Symbol.asyncDispose]: async () => {
      await proxy.close();
      await kafka.remove();
    },
  };
}

async function endPastProxy(port: number, topic: string): Promise<bigint> {
  const client = new kafkajs.Kafka({
    brokers: [`127.0.0.1:${port}`],
    logLevel: kafkajs.logLevel.NOTHING,
    // Whatever port the broker says that it has.
    socketFactory: ({ onConnect }) => connect(port, "127.0.0.1", onConnect),
  });
  const admin = client.admin();
  await admin.connect();
  const [partition] = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  return BigInt(partition?.high ?? -1);
}

export function record(value: string): NewRecord {
  return { key: Buffer.from("k"), value: Buffer.from(value) };
}

/** `offset:value` of each. */
export function told(records: readonly LogRecord[]): string[] {
  return records.map(({ offset, value }) => `${offset}:${value?.toString()}`);
}
