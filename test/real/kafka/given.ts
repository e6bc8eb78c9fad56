/** What the tests of lib/kafka start from. */
import { systemClock } from "#lib/clock.ts";
import { connectKafka, type Kafka } from "#lib/kafka/client.ts";
import type { LogAdmin, LogRecord, NewRecord } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { privateKafka, uniqueTopic } from "../../support/kafka.ts";
import { createProxy, type Proxy as TcpProxy } from "../../support/proxy.ts";

/** Keeps what was logged, for messages of failed tests and for waiting. */
export function keptLog(): Log & { readonly lines: string[] } {
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

/** A broker of the test's own that clients reach through a proxy only. */
export async function kafkaBehindProxy(): Promise<{ brokers: string; proxy: TcpProxy } & AsyncDisposable> {
  const proxy = await createProxy({ host: "127.0.0.1", port: 1 });
  const kafka = await privateKafka({ advertisedPort: proxy.port });
  const own = /ports? (\d+)/.exec(kafka.what)?.[1];
  if (own === undefined) throw new Error(`no port in "${kafka.what}"`);
  proxy.target = { host: "127.0.0.1", port: Number(own) };
  return {
    brokers: kafka.brokers,
    proxy,
    [Symbol.asyncDispose]: async () => {
      await proxy.close();
      await kafka.remove();
    },
  };
}

export function record(value: string): NewRecord {
  return { key: Buffer.from("k"), value: Buffer.from(value) };
}

/** `offset:value` of each. */
export function told(records: readonly LogRecord[]): string[] {
  return records.map(({ offset, value }) => `${offset}:${value?.toString()}`);
}
