import { beforeEach, describe, expect, test } from "vitest";
import type { Contact } from "#lib/contact.ts";
import { RecordDecoder } from "#lib/decode.ts";
import type { Event } from "#lib/event.ts";
import { type BatchProducer, LogError, type PartitionRecords } from "#lib/kafka/ports.ts";
import { createMetrics, type Metrics } from "#lib/metrics.ts";
import { partitionOf } from "#lib/partition.ts";
import { Publisher } from "#lib/publish.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { type FakeClock, fakeClock, settled } from "../support/fake-clock.ts";
import { clientOf, contactWith, keptLog, someEvent } from "../support/records.ts";

const PARTITIONS = 3;
const TIMEOUT_MS = 1_000;
const MAX_BYTES = 1_200_000;

/** A producer whose sends end when the test says so. */
class Producer implements BatchProducer {
  readonly sends: { batches: readonly PartitionRecords[]; end: PromiseWithResolvers<ReadonlyMap<number, bigint>> }[] =
    [];
  /** Of each send. */
  readonly topics: string[] = [];
  #outstanding = 0;
  readonly #next = new Map<number, bigint>();

  append(topic: string, batches: readonly PartitionRecords[]): Promise<ReadonlyMap<number, bigint>> {
    this.#outstanding += 1;
    if (this.#outstanding > 1) throw new Error("one outstanding send");
    const end = Promise.withResolvers<ReadonlyMap<number, bigint>>();
    this.topics.push(topic);
    this.sends.push({ batches, end });
    return end.promise.finally(() => {
      this.#outstanding -= 1;
    });
  }
  /** The broker acknowledges the last send. */
  async acknowledge(): Promise<void> {
    const { batches, end } = this.last;
    const bases = new Map<number, bigint>();
    for (const { partition, records } of batches) {
      bases.set(partition, this.#next.get(partition) ?? 0n);
      this.#next.set(partition, (this.#next.get(partition) ?? 0n) + BigInt(records.length));
    }
    end.resolve(bases);
    await paced();
  }
  async fail(kind: "retriable" | "fatal" | "unknown"): Promise<void> {
    this.last.end.reject(new LogError(kind, `${kind} failure`));
    await paced();
  }
  /** As brokers do for a record's size. */
  async refuse(kind: "fatal" | "unknown"): Promise<void> {
    const cause = Object.assign(new Error("too large"), { type: "MESSAGE_TOO_LARGE" });
    this.last.end.reject(new LogError(kind, "refused", { cause }));
    await paced();
  }
  get last() {
    const last = this.sends.at(-1);
    if (!last) throw new Error("nothing was sent");
    return last;
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** What is due behind a send has been sent. */
const paced = (): Promise<void> => clock.advance(2);

let producer: Producer;
let clock: FakeClock;
let metrics: Metrics;
let log: ReturnType<typeof keptLog>;
let contact: Contact;
let publisher: Publisher;
/** Whether the log that refused records takes none at all. */
let isClosed: boolean;

beforeEach(() => {
  producer = new Producer();
  isClosed = false;
  clock = fakeClock();
  metrics = createMetrics();
  log = keptLog();
  contact = contactWith(log, clock);
  const identity = { epoch: 1, topic: "t", partitions: PARTITIONS };
  publisher = new Publisher({
    producer,
    identity,
    isClosed: () => Promise.resolve(isClosed),
    inFlightBytesMax: MAX_BYTES,
    timeoutMs: TIMEOUT_MS,
    clock,
    contact,
    metrics,
  });
});

const inFlightBytes = async (): Promise<number> => (await metrics.ingestInFlightBytes.get()).values[0]?.value ?? 0;
const event = (partition: number, id: string, more: Partial<Event> = {}): Event =>
  someEvent({ clientId: clientOf(partition, PARTITIONS), id, ...more });

/** What became of a call: positions as `partition/offset`, or the error's reason and stored. */
function followed(events: readonly Event[]): { result: string } {
  const state = { result: "open" };
  publisher.publish(events).then(
    (positions) => {
      state.result = positions.map(({ partition, offset }) => `${partition}/${offset}`).join(" ");
    },
    (error: NotAcknowledged) => {
      expect(error).toBeInstanceOf(NotAcknowledged);
      state.result = `${error.reason}, stored: ${error.stored}`;
    },
  );
  return state;
}

/** The ids in a send, by partition, in order. */
async function idsIn(batches: readonly PartitionRecords[]): Promise<Record<number, string[]>> {
  const decoder = new RecordDecoder(PARTITIONS, () => Promise.resolve(undefined));
  const ids: Record<number, string[]> = {};
  for (const { partition, records } of batches) {
    const decoded = await decoder.decode(
      partition,
      records.map((record, n) => ({ ...record, offset: BigInt(n), timestampMs: 0 })),
    );
    ids[partition] = decoded.map((one) => (one.ok ? one.event.id : one.reason));
  }
  return ids;
}

test("a lone event leaves at once; a crowd gathers behind the send under way and leaves in one", async () => {
  const first = followed([event(0, "a")]);
  await settled();
  expect(producer.sends).toHaveLength(1);
  const crowd = [followed([event(0, "b")]), followed([event(2, "c")]), followed([event(0, "d")])];
  await settled();
  expect(producer.sends).toHaveLength(1);
  expect(first.result).toBe("open");
  await producer.acknowledge();
  expect(first.result).toBe("0/0");
  expect(await idsIn(producer.last.batches)).toEqual({ 0: ["b", "d"], 2: ["c"] });
  await producer.acknowledge();
  expect(crowd.map(({ result }) => result)).toEqual(["0/1", "2/0", "0/2"]);
  expect(await inFlightBytes()).toBe(0);
});

test("the next send begins 2 ms after the last one began, however fast the broker is; after a pause at once", async () => {
  followed([event(0, "a")]);
  await settled();
  followed([event(0, "b")]);
  producer.last.end.resolve(new Map([[0, 0n]]));
  await clock.advance(1);
  expect(producer.sends).toHaveLength(1);
  await clock.advance(1);
  expect(producer.sends).toHaveLength(2);
  await producer.acknowledge();
  followed([event(0, "c")]);
  await settled();
  expect(producer.sends).toHaveLength(3);
});

test("a crowd of 16 keeps no pace", async () => {
  followed([event(0, "a")]);
  await settled();
  followed(Array.from({ length: 16 }, (_, n) => event(1, `${n}`)));
  producer.last.end.resolve(new Map([[0, 0n]]));
  await settled();
  expect(producer.sends).toHaveLength(2);
});

test("an array over several partitions and sends is acknowledged once, when all of it is, in the order given", async () => {
  const events = Array.from({ length: 2_400 }, (_, n) => event(n % 2, `${n}`));
  const call = followed(events);
  await settled();
  const sizes: number[] = [];
  while (call.result === "open" && producer.sends.length < 10) {
    sizes.push(...producer.last.batches.map(({ records }) => records.length));
    await producer.acknowledge();
  }
  expect(sizes).toEqual([1_000, 1_000, 200, 200]);
  expect(call.result).toBe(events.map((_, n) => `${n % 2}/${n >> 1}`).join(" "));
  expect(await inFlightBytes()).toBe(0);
});

test("a send keeps to the bytes that a broker takes, whatever the events' size", async () => {
  const data = `"${"x".repeat(200_000)}"`;
  const calls = [1, 2, 3, 4].map((n) => followed([event(0, `${n}`, { data })]));
  await settled();
  expect(producer.last.batches[0]?.records).toHaveLength(3);
  await producer.acknowledge();
  await producer.acknowledge();
  expect(calls.map(({ result }) => result)).toEqual(["0/0", "0/1", "0/2", "0/3"]);
});

test("beyond the bytes in flight a request is refused at once, and welcome again after an acknowledgement", async () => {
  const data = `"${"x".repeat(240_000)}"`;
  const calls = ["a", "b", "c", "d"].map((id) => followed([event(0, id, { data })]));
  const refused = followed([event(0, "e", { data })]);
  await settled();
  expect(refused.result).toBe("overloaded, stored: no");
  expect(await inFlightBytes()).toBeLessThanOrEqual(MAX_BYTES);
  await producer.acknowledge();
  const welcome = followed([event(0, "f", { data })]);
  await producer.acknowledge();
  await producer.acknowledge();
  expect([...calls, welcome].map(({ result }) => result)).toEqual(["0/0", "0/1", "0/2", "0/3", "0/4"]);
  expect(await inFlightBytes()).toBe(0);
});

describe("a send that failed", () => {
  test("and surely stored nothing goes again first, unchanged and in order", async () => {
    const calls = [followed([event(0, "a")]), followed([event(0, "b")])];
    await settled();
    calls.push(followed([event(0, "c")]));
    await producer.fail("retriable");
    calls.push(followed([event(0, "d")]));
    expect(producer.sends).toHaveLength(1);
    await clock.advance(200);
    expect(await idsIn(producer.last.batches)).toEqual({ 0: ["a", "b", "c", "d"] });
    await producer.acknowledge();
    expect(calls.map(({ result }) => result)).toEqual(["0/0", "0/1", "0/2", "0/3"]);
    expect(await inFlightBytes()).toBe(0);
  });

  test("with an unknown outcome is answered so, and never sent again", async () => {
    const call = followed([event(0, "a")]);
    await settled();
    const next = followed([event(0, "b")]);
    await producer.fail("unknown");
    expect(call.result).toBe("log-unreachable, stored: unknown");
    expect(await idsIn(producer.last.batches)).toEqual({ 0: ["b"] });
    await producer.acknowledge();
    expect(next.result).toBe("0/0");
    expect(await inFlightBytes()).toBe(0);
  });

  test("for good is answered as refused", async () => {
    const call = followed([event(0, "a")]);
    await settled();
    await producer.fail("fatal");
    expect(call.result).toBe("refused, stored: no");
    expect(await inFlightBytes()).toBe(0);
  });

  test("for good behind one that was acknowledged has stored some of the array", async () => {
    const call = followed(Array.from({ length: 1_500 }, (_, n) => event(0, `${n}`)));
    await settled();
    await producer.acknowledge();
    await producer.fail("fatal");
    expect(call.result).toBe("refused, stored: unknown");
    expect(await inFlightBytes()).toBe(0);
  });
});

test("a partition that the broker's answer does not name is not acknowledged", async () => {
  const long = followed(Array.from({ length: 1_500 }, (_, n) => event(1, `${n}`)));
  const both = followed([event(0, "a"), event(1, "b")]);
  await settled();
  producer.last.end.resolve(new Map([[1, 0n]]));
  await paced();
  expect(both.result).toBe("log-unreachable, stored: unknown");
  expect((await idsIn(producer.last.batches))[1]).toHaveLength(500);
  producer.last.end.resolve(new Map([[1, 1_000n]]));
  await settled();
  expect(long.result.endsWith("1/1499")).toBe(true);
  expect(await inFlightBytes()).toBe(0);
});

describe("at its deadline a request is answered", () => {
  test("with stored: unknown when it was handed over", async () => {
    const call = followed([event(0, "a")]);
    await clock.advance(TIMEOUT_MS + 200);
    expect(call.result).toBe("log-unreachable, stored: unknown");
    expect(contact.reasons("appends")).toHaveLength(1);
    await producer.acknowledge();
    expect(await inFlightBytes()).toBe(0);
    expect(contact.reasons("appends")).toEqual([]);
  });

  test("with stored: no when it never left, and then does not leave any more", async () => {
    followed([event(0, "a")]);
    await settled();
    const waiting = followed([event(0, "b"), event(1, "c")]);
    await clock.advance(TIMEOUT_MS + 200);
    expect(waiting.result).toBe("log-unreachable, stored: no");
    await producer.acknowledge();
    expect(producer.sends).toHaveLength(1);
    expect(await inFlightBytes()).toBe(0);
  });

  test("with stored: no when every attempt surely stored nothing", async () => {
    const call = followed([event(0, "a")]);
    await settled();
    while (call.result === "open") {
      await producer.fail("retriable");
      await clock.advance(200);
    }
    expect(call.result).toBe("log-unreachable, stored: no");
    expect(await inFlightBytes()).toBe(0);
  });

  test("with stored: unknown when part of an array was acknowledged", async () => {
    const call = followed(Array.from({ length: 1_500 }, (_, n) => event(0, `${n}`)));
    await settled();
    await producer.acknowledge();
    while (call.result === "open") {
      await producer.fail("retriable");
      await clock.advance(200);
    }
    expect(call.result).toBe("log-unreachable, stored: unknown");
    expect(await inFlightBytes()).toBe(0);
  });
});

test("while the log has not answered for as long as a request may wait, requests are refused at once", async () => {
  followed([event(0, "a")]);
  await clock.advance(TIMEOUT_MS + 200);
  const call = followed([event(0, "b")]);
  await settled();
  expect(call.result).toBe("log-unreachable, stored: no");
  await producer.acknowledge();
  const later = followed([event(0, "c")]);
  await settled();
  await producer.acknowledge();
  expect(later.result).toBe("0/1");
});

test("an outage is one warning when it begins, and one when it is over with how many events were refused", async () => {
  const failThrice = async (): Promise<void> => {
    for (let n = 0; n < 3; n++) {
      await producer.fail("retriable");
      await clock.advance(200);
    }
  };
  const refused = followed([event(0, "a"), event(0, "b")]);
  await settled();
  await failThrice();
  const later = followed([event(0, "c")]);
  await failThrice();
  expect(refused.result).toBe("log-unreachable, stored: no");
  await producer.acknowledge();
  expect(later.result).toBe("0/0");
  expect(contact.reasons("appends")).toEqual([]);
  expect(log.lines.filter(({ level }) => level === "warn")).toEqual([
    expect.objectContaining({ message: "log lost", fields: expect.objectContaining({ error: "retriable failure" }) }),
    expect.objectContaining({ message: "log is back", fields: expect.objectContaining({ refusedEvents: 2 }) }),
  ]);
});

test("told to stop, it finishes what it has accepted, then ends", async () => {
  const stop = new AbortController();
  let ended = false;
  void publisher.run(stop.signal).then(() => {
    ended = true;
  });
  const calls = [followed([event(0, "a")])];
  await settled();
  calls.push(followed([event(0, "b")]));
  stop.abort();
  await settled();
  expect(ended).toBe(false);
  await producer.acknowledge();
  expect(ended).toBe(false);
  await producer.acknowledge();
  expect(calls.map(({ result }) => result)).toEqual(["0/0", "0/1"]);
  expect(ended).toBe(true);
});

test("told to stop while the log is away, it ends at the last deadline", async () => {
  const stop = new AbortController();
  followed([event(0, "a")]);
  await settled();
  let ended = false;
  void publisher.run(stop.signal).then(() => {
    ended = true;
  });
  stop.abort();
  await clock.advance(TIMEOUT_MS + 200);
  expect(ended).toBe(true);
});

describe("a log that another one succeeds", () => {
  const next = { epoch: 2, topic: "t2", partitions: 7 };

  test("events wait while it is announced, and go to the new log, a client's in their order", async () => {
    publisher.hold(30_000);
    const clientId = clientOf(0, PARTITIONS);
    const call = followed(["a", "b", "c"].map((id) => someEvent({ clientId, id })));
    await clock.advance(500);
    expect(producer.sends).toHaveLength(0);
    publisher.adopt(next);
    await clock.advance(10);
    expect(producer.topics).toEqual(["t2"]);
    const [batch] = producer.last.batches;
    expect(batch?.partition).toBe(partitionOf(Buffer.from(clientId), 7));
    expect(batch?.records).toHaveLength(3);
    await producer.acknowledge();
    expect(call.result).toBe([0, 1, 2].map((offset) => `${batch?.partition}/${offset}`).join(" "));
  });

  test("if none comes, they go to the old one after the hold", async () => {
    publisher.hold(500);
    const call = followed([event(0, "a")]);
    await clock.advance(499);
    expect(producer.sends).toHaveLength(0);
    await clock.advance(10);
    expect(producer.topics).toEqual(["t"]);
    await producer.acknowledge();
    expect(call.result).toBe("0/0");
  });

  test("what waits longer than its request may is refused as not stored", async () => {
    publisher.hold(30_000);
    const call = followed([event(0, "a")]);
    await clock.advance(TIMEOUT_MS + 500);
    expect(call.result).toBe("log-unreachable, stored: no");
  });

  test("what a closed log has refused goes to the new one, and is no fault of the event", async () => {
    isClosed = true;
    const call = followed([event(0, "a")]);
    await settled();
    await producer.refuse("fatal");
    expect(call.result).toBe("open");
    publisher.adopt(next);
    await clock.advance(300);
    expect(producer.topics).toEqual(["t", "t2"]);
    await producer.acknowledge();
    expect(call.result).toMatch(/^\d\/0$/);
  });

  test("what is acknowledged after the log was succeeded may be stored too late to be saved: only its client knows the id", async () => {
    const call = followed([event(0, "a")]);
    await settled();
    publisher.adopt(next);
    await producer.acknowledge();
    await clock.advance(300);
    expect(call.result).toBe("log-unreachable, stored: unknown");
    const again = followed([event(0, "a")]);
    await clock.advance(300);
    await producer.acknowledge();
    expect(again.result).toMatch(/^\d\/0$/);
  });

  test("a hold ends with its timer, however early that fires", async () => {
    const elapsed = clock.elapsed;
    publisher.hold(500);
    const call = followed([event(0, "a")]);
    await clock.advance(10);
    clock.elapsed = () => elapsed() - 1;
    await clock.advance(490);
    await clock.advance(10);
    expect(producer.topics).toEqual(["t"]);
    await producer.acknowledge();
    expect(call.result).toBe("0/0");
  });

  test("what may lie in the closed log is not sent again: only its client knows the id", async () => {
    isClosed = true;
    const call = followed([event(0, "a"), event(1, "b")]);
    await settled();
    await producer.refuse("unknown");
    publisher.adopt(next);
    await clock.advance(300);
    expect(call.result).toBe("log-unreachable, stored: unknown");
    expect(producer.sends).toHaveLength(1);
  });

  test("a record that an open log refuses for its size is refused for good", async () => {
    const call = followed([event(0, "a")]);
    await settled();
    await producer.refuse("fatal");
    expect(call.result).toBe("refused, stored: no");
  });
});
