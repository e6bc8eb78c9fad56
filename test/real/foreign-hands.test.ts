/**
 * Promise: what others do to the topics never makes an answer short without a word. Attack: a transaction left open among the
 * events; the control topic deleted, or made anew and longer than before, under running roles; the events' topic made anew and
 * filled beyond everything that was saved or read of the old one; partitions added to it.
 */
import kafkajs from "kafkajs";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { WRITER_FINGERPRINT } from "#lib/codec.ts";
import { EVENT_TOPIC_CONFIG } from "#schemas/topics.ts";
import { proxiedPostgres } from "../../infra/proxy.ts";
import { type Role, type Spillway, startSpillway } from "../promises/support/spillway.ts";
import { sharedBrokers } from "../support/kafka.ts";
import { connectTestLog } from "../support/log.ts";
import { until } from "../support/until.ts";

let admin: kafkajs.Admin;

const foreignClient = (): kafkajs.Kafka =>
  new kafkajs.Kafka({ brokers: sharedBrokers().split(","), logLevel: kafkajs.logLevel.NOTHING });

beforeAll(async () => {
  admin = foreignClient().admin();
  await admin.connect();
  return () => admin.disconnect();
});

const CLIENT = { clientId: "c" };

/** The topic is gone, and there is another of its name with so many foreign records in each partition. */
async function makeAnew(topic: string, partitions: number, config: Record<string, string>, records: number) {
  await admin.deleteTopics({ topics: [topic] });
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
  await until("the topic is there again", () =>
    admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }] }),
  );
  const producer = foreignClient().producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await producer.connect();
  const messages = Array.from({ length: records * partitions }, (_, n) => ({
    partition: n % partitions,
    key: `weather/${n}`,
    value: "{}",
  }));
  await producer.send({ topic, messages });
  await producer.disconnect();
}

/** Sends an event until it is acknowledged. */
async function post(spillway: Spillway, id: string): Promise<void> {
  const body = JSON.stringify({ ...CLIENT, type: "t", id });
  const headers = { "content-type": "application/json" };
  await until(`${id} is acknowledged`, async () => {
    const answer = await fetch(`${spillway.ingest.url}/api/v1/events`, { method: "POST", headers, body });
    return answer.status === 201;
  });
}

async function read(spillway: Spillway, parameters = ""): Promise<{ status: number; code?: string; ids: string[] }> {
  const answer = await fetch(`${spillway.query.url}/api/v1/events?clientId=${CLIENT.clientId}${parameters}`);
  const body = (await answer.json()) as { code?: string; events?: { id: string }[] };
  return { status: answer.status, ids: (body.events ?? []).map(({ id }) => id), ...(body.code && { code: body.code }) };
}

test("an event acknowledged behind an open transaction is never left out: 503 until that ends, then it is shown", async () => {
  await using spillway = await startSpillway({ ingests: 1, queries: 1 });
  await post(spillway, "before");
  const foreign = foreignClient().producer({
    transactionalId: spillway.topic,
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
  });
  await foreign.connect();
  onTestFinished(() => foreign.disconnect());
  const transaction = await foreign.transaction();
  const messages = [0, 1, 2, 3].map((partition) => ({ partition, key: CLIENT.clientId, value: "not an event" }));
  await transaction.send({ topic: spillway.topic, messages });
  await post(spillway, "behind");
  expect(await read(spillway, "&timeoutMs=500")).toEqual({ status: 503, code: "behind", ids: [] });
  expect(await read(spillway, "&consistency=known")).toMatchObject({ status: 200, ids: ["before"] });
  const waiting = read(spillway, "&timeoutMs=25000");
  await transaction.abort();
  expect(await waiting).toEqual({ status: 200, ids: ["before", "behind"] });
});

describe("a control topic that somebody has deleted", () => {
  test.each([
    ["is made anew by the roles that run", null],
    ["and made anew, longer than it was, is filled by the roles that run", 200],
  ])("%s, and service goes on", async (_, junk) => {
    await using spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1 });
    const control = `${spillway.topic}.control`;
    await post(spillway, "before");
    await spillway.saved();
    const published = async (): Promise<unknown> => {
      await using log = await connectTestLog(spillway.topic);
      const { control: view } = await log.open();
      const checkpoints = [0, 1, 2, 3].map((partition) => view.checkpoint(1, partition)?.nextOffset);
      return checkpoints.includes(1n) && (await view.schema(WRITER_FINGERPRINT)) !== undefined && view.identities();
    };
    const identities = await until("all is published", published);

    if (junk === null) await admin.deleteTopics({ topics: [control] });
    else await makeAnew(control, 1, { "cleanup.policy": "compact" }, junk);
    await Promise.all(spillway.roles.map(({ app }) => app.line("log lost")));
    await Promise.all(spillway.roles.map(({ app }) => app.ready()));
    expect(await until("all is published again", published)).toEqual(identities);
    await post(spillway, "after");
    await spillway.saved();
    expect(await read(spillway)).toEqual({ status: 200, ids: ["before", "after"] });
    expect(spillway.roles.map(({ app }) => app.ended)).toEqual([undefined, undefined, undefined]);
  });
});

describe("a topic of events made anew, and filled beyond what was saved and read of the old one", () => {
  const IDS = ["a", "b", "c"];
  const renew = (spillway: Spillway): Promise<void> => makeAnew(spillway.topic, 4, EVENT_TOPIC_CONFIG, 50);
  const stopped = async (role: Role): Promise<void> => {
    expect(await role.app.exit()).toBe(1);
    // It cut its own connections, which is no loss of the log.
    expect(role.app.lines.filter((line) => line.includes("closed by its owner"))).toEqual([]);
    expect(await role.app.line("ended by a failure")).toMatch(
      /\/\d: the record at offset \d+ is not the one that was saved or read there before. The topic was recreated/,
    );
  };

  test.each([
    ["saved", 1],
    ["only read", 0],
  ])("stops the nodes that run: what they know was %s", async (_, sinks) => {
    await using spillway = await startSpillway({ ingests: 1, queries: 1, sinks });
    for (const id of IDS) await post(spillway, id);
    if (sinks > 0) await spillway.saved();
    expect((await read(spillway)).ids).toEqual(IDS);
    // The sink looks at it all the while; the query node only when it is full again.
    spillway.query.app.freeze();
    await renew(spillway);
    spillway.query.app.thaw();
    await stopped(spillway.query);
    for (const sink of spillway.sinks) {
      expect(await sink.app.exit()).toBe(1);
      expect(await sink.app.line("ended by a failure")).toContain("The topic was recreated");
    }
  });

  test("stops a node that starts, as it stops the sink", async () => {
    await using spillway = await startSpillway({ ingests: 1, sinks: 1 });
    for (const id of IDS) await post(spillway, id);
    await spillway.saved();
    expect(await spillway.sink.app.stop()).toBe(0);
    await renew(spillway);
    const query = await spillway.add("query");
    await query.launch();
    await stopped(query);
    await spillway.sink.launch();
    await stopped(spillway.sink);
  });

  test("stops a node that started without its database, once that is there", async () => {
    await using spillway = await startSpillway({ ingests: 1, sinks: 1 });
    for (const id of IDS) await post(spillway, id);
    await spillway.saved();
    await spillway.sink.kill();
    await renew(spillway);
    const { proxy, url } = await proxiedPostgres(spillway.database.url);
    await using _proxy = proxy;
    proxy.mode = "refuse";
    const query = await spillway.start("query", { DATABASE_URL: url });
    proxy.mode = "pass";
    await stopped(query);
  });
});

test("partitions that somebody adds to the topic change nothing, for the roles that run and for those that start", async () => {
  await using spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1 });
  await post(spillway, "before");
  await admin.createPartitions({ topicPartitions: [{ topic: spillway.topic, count: 7 }] });
  const foreign = foreignClient().producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await foreign.connect();
  onTestFinished(() => foreign.disconnect());
  const messages = [4, 5, 6].map((partition) => ({ partition, key: CLIENT.clientId, value: "{}" }));
  await until("the new partitions take records", () => foreign.send({ topic: spillway.topic, messages }));
  await post(spillway, "meanwhile");
  expect(await read(spillway)).toEqual({ status: 200, ids: ["before", "meanwhile"] });
  for (const role of spillway.roles) {
    expect(await role.app.stop()).toBe(0);
    await role.start();
    const line = await role.app.line("topic has more partitions than its log");
    for (const part of ["has 7 partitions", "begun with 4", "goes on with the first 4"]) expect(line).toContain(part);
  }
  await spillway.start("web");
  await post(spillway, "after");
  await until("all is saved, and what is no event set aside", async () => {
    const [row] = await spillway.database.query<{ saved: number; dead: number }>(
      "SELECT (SELECT count(*)::int FROM spillway.event) AS saved, (SELECT count(DISTINCT partition)::int FROM spillway.dead_letter) AS dead",
    );
    return row?.saved === 3 && row.dead === 3;
  });
  expect(await read(spillway)).toEqual({ status: 200, ids: ["before", "meanwhile", "after"] });
});
