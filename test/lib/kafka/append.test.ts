import { describe, expect, it } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { createBatchProducer } from "#lib/kafka/append.ts";
import type { BatchProducer, PartitionRecords } from "#lib/kafka/ports.ts";
import type { Acknowledged, Sender } from "#lib/kafka/sender.ts";

const nothing = (): void => undefined;
const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

type Answer = (batches: readonly PartitionRecords[]) => Acknowledged[];

/** Senders that answer each send by the next of `answers`, and note what they were asked. */
async function producerOf(answers: Answer[]): Promise<{ producer: BatchProducer; events: string[] }> {
  const events: string[] = [];
  let opened = 0;
  const open = (): Sender => {
    const name = `sender ${++opened}`;
    let produceRequests = 0;
    return {
      connect: () => Promise.resolve(),
      send: async (_topic, batches) => {
        produceRequests++;
        events.push(`${name} sends ${batches.map(({ partition, records }) => `${partition}:${records.length}`)}`);
        return answers.shift()?.(batches) ?? [];
      },
      get produceRequests() {
        return produceRequests;
      },
      cut: () => void events.push(`${name} is cut`),
      close: () => Promise.resolve(),
    };
  };
  return { producer: await createBatchProducer({ open, clock: systemClock, log, giveUpMs: 5_000 }), events };
}

const batch = (partition: number, count = 1): PartitionRecords => ({
  partition,
  records: Array.from({ length: count }, () => ({ key: null, value: Buffer.from("v") })),
});
const named = (partition: number, baseOffset: string, errorCode = 0): Acknowledged => ({
  partition,
  errorCode,
  baseOffset,
});

describe("an append", () => {
  it("sends partitions that no answer named again, unchanged and before anything else", async () => {
    const { producer, events } = await producerOf([
      () => [named(1, "10")],
      () => [named(2, "20")],
      () => [named(1, "11")],
    ]);
    expect(await producer.append("t", [batch(1, 2), batch(2, 3)])).toEqual(
      new Map([
        [1, 10n],
        [2, 20n],
      ]),
    );
    await producer.append("t", [batch(1)]);
    expect(events).toEqual(["sender 1 sends 1:2,2:3", "sender 1 sends 2:3", "sender 1 sends 1:1"]);
  });

  it("does not take an answer with an error code for an acknowledgement", async () => {
    const { producer } = await producerOf([() => [named(1, "-1", 6), named(2, "5")], () => [named(1, "7")]]);
    expect(await producer.append("t", [batch(1), batch(2)])).toEqual(
      new Map([
        [2, 5n],
        [1, 7n],
      ]),
    );
  });

  it("ends when nothing more is acknowledged, instead of sending for ever", async () => {
    const { producer, events } = await producerOf([() => [named(2, "5")]]);
    await expect(producer.append("t", [batch(1), batch(2)])).rejects.toMatchObject({ kind: "unknown" });
    expect(events).toEqual(["sender 1 sends 1:1,2:1", "sender 1 sends 1:1", "sender 1 is cut"]);
  });

  it("leaves a failed producer: its sequence could swallow other records", async () => {
    const fail = (): never => {
      throw new Error("out of order");
    };
    const { producer, events } = await producerOf([fail, () => [named(1, "0")]]);
    await expect(producer.append("t", [batch(1)])).rejects.toMatchObject({ kind: "unknown" });
    await producer.append("t", [batch(1)]);
    expect(events).toEqual(["sender 1 sends 1:1", "sender 1 is cut", "sender 2 sends 1:1"]);
  });
});
