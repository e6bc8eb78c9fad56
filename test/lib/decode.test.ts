import { expect, test, vi } from "vitest";
import { encodeEvent, fingerprintOf } from "#lib/codec.ts";
import { RecordDecoder } from "#lib/decode.ts";
import { LogError } from "#lib/kafka/ports.ts";
import { clientOf, rawRecord, recordOf, someEvent } from "../support/records.ts";
import { NEWER_SCHEMA, writeAs } from "../support/writers.ts";

const PARTITIONS = 3;
const clientId = clientOf(1, PARTITIONS);
const event = someEvent({ clientId });
const unknown = (): Promise<string | undefined> => Promise.resolve(undefined);

async function reasons(records: Parameters<RecordDecoder["decode"]>[1], lookup = unknown, partition = 1) {
  const decoded = await new RecordDecoder(PARTITIONS, lookup).decode(partition, records);
  expect(decoded.map(({ record }) => record)).toEqual(records);
  return decoded.map((one) => (one.ok ? one.event : one.reason));
}

test("records are answered in order, the bad ones with their reason", async () => {
  const other = clientOf(2, PARTITIONS);
  const elsewhere = someEvent({ clientId: other });
  const answers = await reasons([
    recordOf(event, 0n),
    rawRecord(1n, clientId, null),
    rawRecord(2n, clientId, "no Avro"),
    rawRecord(3n, null, encodeEvent(event)),
    rawRecord(4n, other, encodeEvent(event)),
    recordOf(elsewhere, 5n),
    recordOf(event, 6n),
  ]);
  expect(answers).toEqual([
    event,
    "undecodable",
    "undecodable",
    "key-mismatch",
    "key-mismatch",
    "wrong-partition",
    event,
  ]);
});

test("a key that is not UTF-8 passes for no client, not even for one spelled with U+FFFD", async () => {
  const strange = someEvent({ clientId: "\ufffd" });
  const key = Buffer.from([0xf0, 0x9f, 0x98]);
  expect(key.toString("utf8")).toBe(strange.clientId);
  for (let partition = 0; partition < PARTITIONS; partition++)
    expect(await reasons([{ ...recordOf(strange, 0n), key }], unknown, partition)).toEqual(["key-mismatch"]);
});

test.each([
  ["an empty type", { type: "" }, "invalid-event"],
  ["a NUL in the id", { id: "a\0" }, "unstorable-text"],
  ["a time beyond year 9999", { occurredAtMs: 253_402_300_800_000 }, "invalid-event"],
  ["data that is no JSON", { data: "{" }, "malformed-json"],
  ["data with a NUL escape", { data: '"\\u0000"' }, "unstorable-text"],
])("%s is a dead letter", async (_, wrong, reason) => {
  expect(await reasons([recordOf({ ...event, ...wrong }, 0n)])).toEqual([reason]);
});

test("a newer writer's record is read once its schema is known, and asked for once", async () => {
  const lookup = vi.fn((fingerprint: string) =>
    Promise.resolve(fingerprint === fingerprintOf(NEWER_SCHEMA) ? NEWER_SCHEMA : undefined),
  );
  const newer = (offset: bigint) => rawRecord(offset, clientId, writeAs(NEWER_SCHEMA, event, { source: "x" }));
  const decoder = new RecordDecoder(PARTITIONS, lookup);
  const decoded = await decoder.decode(1, [newer(0n), recordOf(event, 1n), newer(2n)]);
  expect(decoded.map((one) => one.ok && one.event)).toEqual([event, event, event]);
  await decoder.decode(1, [newer(3n)]);
  expect(lookup).toHaveBeenCalledTimes(1);
});

test("a schema that nobody has published, or that is no event's, makes a dead letter", async () => {
  const record = rawRecord(0n, clientId, writeAs(NEWER_SCHEMA, event, { source: "x" }));
  expect(await reasons([record])).toEqual(["unknown-schema"]);
  expect(await reasons([record], () => Promise.resolve('{"type":"nonsense"}'))).toEqual(["unreadable-schema"]);
});

test("a crowd of records with one unknown fingerprint costs one question, and the next crowd another", async () => {
  const lookup = vi.fn(unknown);
  const decoder = new RecordDecoder(PARTITIONS, lookup);
  const strange = (offset: bigint) => rawRecord(offset, clientId, writeAs(NEWER_SCHEMA, event, { source: "x" }));
  await decoder.decode(1, [strange(0n), strange(1n), strange(2n)]);
  expect(lookup).toHaveBeenCalledTimes(1);
  await decoder.decode(1, [strange(3n)]);
  expect(lookup).toHaveBeenCalledTimes(2);
});

test("a log that does not answer judges nobody", async () => {
  const record = rawRecord(0n, clientId, writeAs(NEWER_SCHEMA, event, { source: "x" }));
  const away = () => Promise.reject(new LogError("retriable", "away"));
  await expect(reasons([record], away)).rejects.toThrow("away");
});
