/**
 * Promise: what others do to the topics never makes an answer short without a word. Attack: a transaction left open among the
 * events; the control topic deleted, or made anew and longer than before, under running roles.
 */
import kafkajs from "kafkajs";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { WRITER_FINGERPRINT } from "#lib/codec.ts";
import { type Spillway, startSpillway } from "../promises/support/spillway.ts";
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

    await admin.deleteTopics({ topics: [control] });
    if (junk !== null) {
      const configEntries = [{ name: "cleanup.policy", value: "compact" }];
      await until("the topic is there again", () =>
        admin.createTopics({ topics: [{ topic: control, numPartitions: 1, replicationFactor: 1, configEntries }] }),
      );
      const producer = foreignClient().producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
      await producer.connect();
      const messages = Array.from({ length: junk }, (_, n) => ({ key: `weather/${n}`, value: "{}" }));
      await producer.send({ topic: control, messages });
      await producer.disconnect();
    }
    await Promise.all(spillway.roles.map(({ app }) => app.line("control topic not read")));
    await Promise.all(spillway.roles.map(({ app }) => app.ready()));
    expect(await until("all is published again", published)).toEqual(identities);
    await post(spillway, "after");
    await spillway.saved();
    expect(await read(spillway)).toEqual({ status: 200, ids: ["before", "after"] });
    expect(spillway.roles.map(({ app }) => app.ended)).toEqual([undefined, undefined, undefined]);
  });
});
