/** What sinks tell of their checkpoints, when they tell of the same ones. */
import { expect, test } from "vitest";
import { LogError } from "#lib/kafka/ports.ts";
import { Announcer } from "../../../apps/sink/announce.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { contactWith, keptLog } from "../../support/records.ts";

type Offsets = ReadonlyMap<number, bigint>;

/** One topic and one database for all sinks; a second is several announcements. */
function scene() {
  const clock = fakeClock();
  const stop = new AbortController();
  /** The last value of each partition counts. */
  const topic = new Map<number, bigint>();
  const database = new Map<number, bigint>();
  const faults: { topic?: Error; database?: Error } = {};
  const asked: (readonly number[])[] = [];
  const told: Offsets[] = [];
  const sink = (partitions: readonly number[]): Announcer => {
    const announcer = new Announcer({
      epoch: 1,
      control: {
        checkpoint: (_epoch, partition) => {
          const nextOffset = topic.get(partition);
          return nextOffset === undefined ? undefined : { nextOffset, atMs: 0 };
        },
      },
      writer: {
        checkpoints: async (_epoch, nextOffsets) => {
          if (faults.topic) throw faults.topic;
          told.push(nextOffsets);
          for (const [partition, nextOffset] of nextOffsets) topic.set(partition, nextOffset);
        },
      },
      reader: { commitHint: () => Promise.resolve() },
      lanes: { partitions },
      saved: async (wanted) => {
        asked.push(wanted);
        if (faults.database) throw faults.database;
        return new Map(wanted.map((partition) => [partition, { nextOffset: database.get(partition) ?? 0n }]));
      },
      clock,
      log: keptLog(),
      contact: contactWith(undefined, clock),
    });
    void announcer.run(stop.signal);
    return announcer;
  };
  const second = (): Promise<void> => clock.advance(1_000);
  return { sink, second, topic, database, faults, asked, told };
}

test("what is told once is not told again, and the database is not asked", async () => {
  const { sink, second, topic, asked, told } = scene();
  const announcer = sink([0, 1]);
  announcer.offer(
    new Map([
      [0, 1n],
      [1, 7n],
    ]),
  );
  announcer.offer(new Map([[0, 3n]]));
  for (let n = 0; n < 5; n++) await second();
  expect([[...topic], told.length, asked]).toEqual([
    [
      [0, 3n],
      [1, 7n],
    ],
    1,
    [],
  ]);
});

test("an older checkpoint that comes late from a sink without the partition is put right by the one that has it, by the database", async () => {
  const { sink, second, topic, database, told } = scene();
  const [owner, frozen] = [sink([0]), sink([])];
  database.set(0, 50n);
  owner.offer(new Map([[0, 50n]]));
  await second();
  frozen.offer(new Map([[0, 20n]]));
  await second();
  await second();
  expect(topic.get(0)).toBe(50n);
  for (let n = 0; n < 5; n++) await second();
  expect(told).toHaveLength(3);
});

test("a later one stands: another sink moved the checkpoint after this one had found it", async () => {
  const { sink, second, topic, database } = scene();
  const [owner, former] = [sink([0]), sink([])];
  owner.offer(new Map([[0, 20n]]));
  await second();
  database.set(0, 50n);
  former.offer(new Map([[0, 50n]]));
  for (let n = 0; n < 3; n++) await second();
  expect(topic.get(0)).toBe(50n);
});

test("while the database or the topic does not answer nothing is told of it, and it is put right afterwards", async () => {
  const { sink, second, topic, database, faults } = scene();
  const owner = sink([0]);
  database.set(0, 50n);
  owner.offer(new Map([[0, 50n]]));
  await second();
  topic.set(0, 20n);
  faults.database = new Error("no connection");
  await second();
  faults.topic = new LogError("retriable", "no answer");
  delete faults.database;
  await second();
  expect(topic.get(0)).toBe(20n);
  delete faults.topic;
  await second();
  expect(topic.get(0)).toBe(50n);
});
