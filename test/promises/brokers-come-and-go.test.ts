/**
 * A cluster of three brokers may lose any one of them: nothing acknowledged is lost, repeated or reordered, and service
 * goes on at the two that are left, for roles that start then too. Attack: kill -9 of each in turn, so that every
 * partition's leader moves, under traffic.
 */
import { rmSync } from "node:fs";
import { Kafka, logLevel } from "kafkajs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nativeKafkaCluster } from "../../infra/kafka-native.ts";
import { type KafkaServer, Missing } from "../../infra/server.ts";
import { newFolder } from "../support/folder.ts";
import { until } from "../support/until.ts";
import { Follower } from "./support/follower.ts";
import { type Kind, type Role, startSpillway } from "./support/spillway.ts";
import { acknowledges, newSeed, produce } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d", "e", "f", "g", "h"];
const PARTITIONS = 6;
const BROKERS = 3;
/** One of each starts while a broker is dead. */
const KINDS: readonly Kind[] = ["ingest", "sink", "query"];

const dataDir = newFolder("cluster");
const cluster = await nativeKafkaCluster({ dataDir, say: () => undefined }, BROKERS).catch((error: unknown) => {
  if (!(error instanceof Missing)) throw error;
  console.log(`SKIPPED: brokers come and go: ${error.message}`);
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

  /** Resolves once every partition has all of its copies again: only then may the next broker go. */
  const whole = (topic: string): Promise<unknown> =>
    until(
      `all copies of ${topic}`,
      async () => {
        const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
        return topics[0]?.partitions.every(({ isr }) => isr.length === BROKERS);
      },
      { limitMs: 60_000 },
    );

  /** Every client, whoever leads its partition by now. */
  async function answersAll(node: Role): Promise<void> {
    for (const clientId of CLIENTS)
      await until(`${node.name} answers for ${clientId}`, async () => {
        const { status } = await fetch(`${node.url}/api/v1/events?clientId=${clientId}&limit=1`);
        return status === 200;
      });
  }

  test("each is killed and comes back under traffic, and nobody notices but the log", {
    timeout: 240_000,
  }, async () => {
    const seed = newSeed("brokers come and go");
    const env = { SPILLWAY_PARTITIONS: String(PARTITIONS) };
    await using spillway = await startSpillway({ brokers, ingests: 1, sinks: 1, queries: 2, env });
    const { history, roles, topic } = spillway;
    const facts = await (await spillway.log()).admin.facts(topic);
    expect(facts).toMatchObject({ partitions: PARTITIONS, replication: 3, config: { "min.insync.replicas": "2" } });
    const over = Promise.withResolvers<void>();
    const traffic = produce(spillway.producer, {
      nodes: spillway.ingests,
      clients: CLIENTS,
      requests: 100,
      during: over.promise,
      pauseMs: 10,
      seed,
      // What it answers is written down, and judged in the end.
      afterEach: ([event]) =>
        spillway.reader.page(spillway.queries[(event?.id.length ?? 0) % 2] ?? spillway.query, {
          clientId: event?.clientId ?? "",
          limit: 20,
        }),
    });
    traffic.catch(() => undefined);
    const followers = CLIENTS.map((clientId) => new Follower({ clientId, after: "0" }));
    await Promise.all(followers.map((follower, n) => follower.connect(spillway.queries[n % 2] ?? spillway.query)));
    await acknowledges(history, 50);

    // Somebody else's, with one copy: with a broker one partition of it goes.
    const { brokers: nodes } = await admin.describeCluster();
    const replicaAssignment = nodes.map(({ nodeId }, partition) => ({ partition, replicas: [nodeId] }));
    await admin.createTopics({ topics: [{ topic: `${topic}.of-others`, replicaAssignment }], waitForLeaders: true });

    for (const [nth, server] of servers.entries()) {
      await server.kill();
      await acknowledges(history, 100);
      await spillway.start(KINDS[nth] as Kind);
      for (const node of spillway.queries) await answersAll(node);
      await server.start();
      await whole(topic);
      await acknowledges(history, 50);
    }
    over.resolve();
    await traffic;
    await spillway.saved();
    for (const follower of followers) {
      await follower.caughtUp();
      follower.finish(history);
    }
    expect(roles.map(({ app }) => app.ended)).toEqual(roles.map(() => undefined));
    for (const { app } of roles) await app.ready();
    await spillway.check({ okIds: 500, pages: 100, liveEvents: 500 });
  });
});
