/** The control topic and the opening of a log, on a real broker. */
import { describe, expect, onTestFinished, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { fingerprintOf, WRITER_FINGERPRINT, WRITER_SCHEMA } from "#lib/codec.ts";
import { Control } from "#lib/control.ts";
import { ControlWriter } from "#lib/control-writer.ts";
import { RecordDecoder } from "#lib/decode.ts";
import { publishWriterSchema, TopicUnfit } from "#lib/topics.ts";
import { CONTROL_TOPIC_CONFIG, EVENT_TOPIC_CONFIG } from "#schemas/topics.ts";
import { connectTestLog, freshLog, type TestLog } from "../support/log.ts";
import { clientOf, contactWith, keptLog, rawRecord, someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";
import { NEWER_SCHEMA, OLDER_SCHEMA, writeAs } from "../support/writers.ts";

async function used<T extends AsyncDisposable>(made: Promise<T>): Promise<T> {
  const one = await made;
  onTestFinished(() => one[Symbol.asyncDispose]());
  return one;
}

/** Another role's view of the control topic. */
async function follower(log: TestLog, lines = keptLog()): Promise<Control> {
  const other = await used(connectTestLog(log.topic));
  return new Control({
    topic: log.controlTopic,
    reader: other.reader,
    ensure: () => Promise.resolve(),
    writer: new ControlWriter(log.controlTopic, other.producer),
    log: lines,
    clock: systemClock,
    contact: contactWith(lines),
  });
}

const raw = (key: string, value: string) => ({ key: Buffer.from(key), value: Buffer.from(value) });

test("roles that open a new log at once agree on one identity, though they were configured differently", async () => {
  const first = await used(connectTestLog());
  const logs = [first, ...(await Promise.all([1, 2, 3].map(() => used(connectTestLog(first.topic)))))];
  const opened = await Promise.all(logs.map((log, n) => log.open(3 + n)));
  const [identity] = opened.map((one) => one.identity);
  expect(identity).toMatchObject({ epoch: 1, topic: first.topic });
  for (const one of opened) {
    expect(one.identity).toEqual(identity);
    expect(one.control.identities()).toEqual([identity]);
  }
  expect((await first.admin.offsets(first.topic)).size).toBe(identity?.partitions);
});

test("topics are made as the promises need them", async () => {
  const log = await used(freshLog(3));
  const events = await log.admin.ensureTopic({ topic: log.topic, partitions: 3, config: {} });
  expect(events).toMatchObject({ partitions: 3, config: EVENT_TOPIC_CONFIG });
  const control = await log.admin.ensureTopic({ topic: log.controlTopic, partitions: 1, config: {} });
  expect(control).toMatchObject({ partitions: 1, config: CONTROL_TOPIC_CONFIG });
});

describe("a log that would break a promise is not opened", () => {
  test("a compacted events topic", async () => {
    const log = await used(connectTestLog());
    await log.admin.ensureTopic({ topic: log.topic, partitions: 2, config: { "cleanup.policy": "compact" } });
    await expect(log.open()).rejects.toThrow(TopicUnfit);
    await expect(log.open()).rejects.toThrow(/cleanup.policy=compact.*Set it to delete/);
  });

  test("fewer partitions than it was begun with", async () => {
    const log = await used(connectTestLog());
    await log.admin.ensureTopic({ topic: log.topic, partitions: 2, config: EVENT_TOPIC_CONFIG });
    await log.admin.ensureTopic({ topic: log.controlTopic, partitions: 1, config: CONTROL_TOPIC_CONFIG });
    const identity = JSON.stringify({ topic: log.topic, partitions: 3 });
    await log.producer.append(log.controlTopic, [{ partition: 0, records: [raw("identity/1", identity)] }]);
    await expect(log.open()).rejects.toThrow(TopicUnfit);
    await expect(log.open()).rejects.toThrow(/has 2 partitions.*begun with 3.*Restore the topic with its 3 partitions/);
  });

  test.each([
    ["that forgets by age", 1, { "cleanup.policy": "delete" }],
    ["of several partitions", 2, CONTROL_TOPIC_CONFIG],
  ])("a control topic %s", async (_, partitions, config) => {
    const log = await used(connectTestLog());
    await log.admin.ensureTopic({ topic: log.controlTopic, partitions, config });
    await expect(log.open()).rejects.toThrow(/control topic .* must have one partition and be compacted/);
  });
});

test("the last value of a key wins, for whoever follows and for whoever comes later", async () => {
  const log = await used(freshLog());
  const { controlWriter } = log.opened;
  const following = await follower(log);
  const stop = new AbortController();
  const running = following.run(stop.signal);
  for (let next = 1n; next <= 20n; next++)
    await controlWriter.checkpoints(
      1,
      new Map([
        [0, next],
        [1, 2n * next],
      ]),
    );
  await until("the follower has the last one", () => following.checkpoint(1, 1)?.nextOffset === 40n);
  const late = await follower(log);
  await late.refresh();
  for (const control of [following, late]) {
    expect(control.checkpoint(1, 0)?.nextOffset).toBe(20n);
    expect(control.checkpoint(1, 1)?.atMs).toBeGreaterThan(0);
    expect(control.identity()).toEqual(log.opened.identity);
  }
  stop.abort();
  await running;
});

test("a refresh ends at the end the topic had, also for megabytes; what a newer build says is passed over", async () => {
  const log = await used(freshLog());
  const junk = Array.from({ length: 40 }, (_, n) => raw(`weather/${n}`, JSON.stringify("x".repeat(50_000))));
  for (const some of [junk.slice(0, 10), junk.slice(10, 20), junk.slice(20, 30), junk.slice(30)])
    await log.producer.append(log.controlTopic, [{ partition: 0, records: some }]);
  await log.opened.controlWriter.checkpoints(1, new Map([[0, 5n]]));
  const lines = keptLog();
  const late = await follower(log, lines);
  await late.refresh();
  expect(late.checkpoint(1, 0)?.nextOffset).toBe(5n);
  expect(lines.lines).toEqual([]);
});

test("a writer's schema is published once, and found by who follows the topic at that moment", async () => {
  const log = await used(freshLog());
  await publishWriterSchema(await log.open());
  const high = (await log.admin.offsets(log.controlTopic)).get(0)?.high;
  await publishWriterSchema(await log.open());
  expect((await log.admin.offsets(log.controlTopic)).get(0)?.high).toBe(high);
  const control = await follower(log);
  const stop = new AbortController();
  const running = control.run(stop.signal);
  expect(await control.schema(WRITER_FINGERPRINT)).toBe(WRITER_SCHEMA);
  const fingerprint = fingerprintOf(NEWER_SCHEMA);
  await log.opened.controlWriter.schema(fingerprint, NEWER_SCHEMA);
  expect(await control.schema(fingerprint)).toBe(NEWER_SCHEMA);
  stop.abort();
  await running;
});

test.each([
  ["newer", NEWER_SCHEMA, { source: "x" }, '{"a":1}'],
  ["older", OLDER_SCHEMA, {}, null],
])("a record of a %s writer passes this build's decoder through the control topic", async (_, schema, more, data) => {
  const log = await used(freshLog());
  await log.opened.controlWriter.schema(fingerprintOf(schema), schema);
  const event = someEvent({ clientId: clientOf(0, 2), data });
  await log.append(0, [rawRecord(0n, event.clientId, writeAs(schema, event, more))]);
  const control = await follower(log);
  const decoder = new RecordDecoder(2, (fingerprint) => control.schema(fingerprint));
  const decoded = await decoder.decode(0, await log.read(0, 0n));
  expect(decoded).toMatchObject([{ ok: true, event }]);
});

test("what is no control record is told and passed over", async () => {
  const log = await used(freshLog());
  const records = [
    raw("identity/2", "{"),
    raw("checkpoint/1/0", '{"nextOffset":"x"}'),
    { key: Buffer.from("x"), value: null },
  ];
  await log.producer.append(log.controlTopic, [{ partition: 0, records }]);
  await log.opened.controlWriter.checkpoints(1, new Map([[1, 3n]]));
  const lines = keptLog();
  const late = await follower(log, lines);
  await late.refresh();
  expect(lines.lines.map(({ fields }) => fields["key"])).toEqual(["identity/2", "checkpoint/1/0"]);
  expect(late.checkpoint(1, 1)?.nextOffset).toBe(3n);
  expect(late.identity()?.epoch).toBe(1);
});
