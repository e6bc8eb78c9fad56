/** Faults that need more than a signal: a broker behind a proxy, locks held in the database. */
import pg from "pg";
import { createProxy, type TcpProxy } from "../../../infra/proxy.ts";
import type { KafkaServer } from "../../../infra/server.ts";
import { privateKafka } from "../../support/kafka.ts";

export interface ProxiedKafka extends AsyncDisposable {
  readonly kafka: KafkaServer;
  /** All clients go through it: it is the port that the broker advertises. */
  readonly proxy: TcpProxy;
}

/** A running broker of the test's own that is reached only through a proxy. Its `brokers` name the proxy. */
export async function proxiedKafka(): Promise<ProxiedKafka> {
  const proxy = await createProxy({ host: "127.0.0.1", port: 1 });
  try {
    const kafka = await privateKafka({ advertisedPort: proxy.port });
    if (kafka.ownPort === undefined) throw new Error("this broker cannot stand behind a proxy");
    proxy.target = { host: "127.0.0.1", port: kafka.ownPort };
    const remove = async (): Promise<void> => {
      await kafka.remove();
      await proxy.close();
    };
    return { kafka, proxy, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await proxy.close();
    throw error;
  }
}

/** A transaction of the test's own that stays open after its statement, as one that locks a table. */
export async function holdTransaction(url: string, statement: string): Promise<AsyncDisposable> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    await client.query("BEGIN");
    await client.query(statement);
  } catch (error) {
    await client.end();
    throw error;
  }
  return { [Symbol.asyncDispose]: () => client.end() };
}
