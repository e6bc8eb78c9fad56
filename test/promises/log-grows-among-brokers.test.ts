/**
 * A log that three brokers keep is succeeded by one that three keep, whichever of them is away meanwhile.
 * Attack: the command while a broker is dead, and kill -9 of a broker that leads partitions, as events wait and as the log is closed, under traffic.
 */
import { rmSync } from "node:fs";
import { Kafka, logLevel } from "kafkajs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nativeKafkaCluster } from "../../infra/kafka-native.ts";
import { type KafkaServer, Missing } from "../../infra/server.ts";
import { newFolder } from "../support/folder.ts";
import { type App, startApp } from "../support/process.ts";
import { until } from "../support/until.ts";
import { startSpillway } from "./support/spillway.ts";
import { acknowledges, newSeed, produce } from "./support/workload.ts";

const BROKERS = 3;
const dataDir = newFolder("cluster-grows");
const cluster = await nativeKafkaCluster({ dataDir, say: () => undefined }, BROKERS).catch((error: unknown) => {
  if (!(error instanceof Missing)) throw error;
  console.log(`SKIPPED: log grows among brokers: ${error.message}`);
  return null;
});
const servers: readonly KafkaServer[] = cluster ?? [];
const brokers = servers.map((server) => server.brokers).join();

describe.skipIf(cluster === null)("of three brokers", () => {
  const admin = new Kafka({ brokers: brokers.split(","), logLevel: logLevel.NOTHING }).admin();

  beforeAll(async () => {
    await Promise.all(servers.map((server) => server.start()));
    await admin.connect();
  });

  afterAll(async () => {
    await admin.disconnect();
    await Promise.all(servers.map((server) => server.remove()));
    rmSync(dataDir, { recursive: true, force: true });
  });

  const answering = (count: number): Promise<unknown> =>
    until(`${count} brokers`, async () => (await admin.describeCluster()).brokers.length === count, {
      limitMs: 60_000,
    });

  test("no copy is given up, and nothing is lost, with a broker dead before an adoption, while events wait, and while the log is closed", {
    timeout: 240_000,
  }, async () => {
    const seed = newSeed("log grows among brokers");
    const [leaves, dies] = [servers[2], servers[1]];
    if (!leaves || !dies) throw new Error("three brokers");
    await using spillway = await startSpillway({ brokers, ingests: 1, sinks: 1, queries: 1 });
    const { history, query, topic } = spillway;
    const over = Promise.withResolvers<void>();
    const traffic = produce(spillway.producer, {
      nodes: spillway.ingests,
      clients: ["a", "b", "c", "d"],
      requests: 20,
      during: over.promise,
      pauseMs: 10,
      seed,
      afterEach: ([event]) => spillway.reader.page(query, { clientId: event?.clientId ?? "", limit: 20 }),
    });
    traffic.catch(() => undefined);
    await acknowledges(history, 50);
    const command = (next: string): Promise<App> =>
      startApp("infra/adopt-log/main.ts", { KAFKA_BROKERS: brokers, SPILLWAY_TOPIC: topic }, [
        ...["--topic", next, "--partitions", "6"],
      ]);

    // A topic made now would have one copy.
    await leaves.kill();
    await answering(2);
    const refused = await command(`${topic}.thin`);
    expect(await refused.exit(), refused.lines.join("\n")).toBe(1);
    await refused.line(`Topic ${topic}.thin has replication 1, and ${topic} has 3: delete it`);
    await acknowledges(history, 50);

    // Its replicas lag when the next command begins.
    await leaves.start();
    await answering(BROKERS);
    const nexts = [
      [`${topic}.wide`, "Events wait from now on"],
      [`${topic}.wider`, "is being closed for good"],
    ] as const;
    for (const [next, when] of nexts) {
      const tool = await command(next);
      await tool.line(when);
      await dies.kill();
      const ended = await tool.exit();
      console.log(tool.lines.join("\n"));
      await dies.start();
      await answering(BROKERS);
      if (ended !== 0) {
        const again = await command(next);
        expect(await again.exit(), again.lines.join("\n")).toBe(0);
      }
      await spillway.adopted(next);
      await acknowledges(history, 50);
    }
    over.resolve();
    await traffic;
    const { admin: own } = await spillway.log();
    const facts = await until("the new topic is led", () => own.facts(`${topic}.wider`));
    expect(facts).toMatchObject({ partitions: 6, replication: BROKERS, config: { "min.insync.replicas": "2" } });
    await spillway.saved(60_000);
    await spillway.check({ okIds: 200, pages: 100 });
  });
});
