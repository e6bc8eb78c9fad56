/** Events and records as the parts behind ingest see them. */
import fc from "fast-check";
import { type Clock, systemClock } from "#lib/clock.ts";
import { encodeEvent } from "#lib/codec.ts";
import { Contact } from "#lib/contact.ts";
import type { Event } from "#lib/event.ts";
import { OCCURRED_AT_MS_MAX, OCCURRED_AT_MS_MIN } from "#lib/event.ts";
import type { FetchedRecords, LogRecord } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import { partitionOf } from "#lib/partition.ts";

export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** Whether the log answers, for parts that tell of it. */
export const contactWith = (log: Log = silentLog, clock: Clock = systemClock): Contact =>
  new Contact({ brokers: ["kafka-1:9092", "kafka-2:9092"], log, clock });

export interface LogLine {
  readonly level: keyof Log;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** A log that keeps its lines. */
export function keptLog(): Log & { readonly lines: LogLine[] } {
  const lines: LogLine[] = [];
  const at =
    (level: keyof Log) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}): void =>
      void lines.push({ level, message, fields });
  return { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

export function someEvent(given: Partial<Event> = {}): Event {
  const fixed = {
    clientId: "client",
    id: "id",
    type: "type",
    occurredAtMs: 1_700_000_000_000,
    receivedAtMs: 1_700_000_000_001,
  };
  return { ...fixed, data: '{"a":1}', ...given };
}

/** The record of an event, as ingest writes it. */
export function recordOf(event: Event, offset: bigint): LogRecord {
  return { offset, timestampMs: 1_700_000_000_002, key: Buffer.from(event.clientId), value: encodeEvent(event) };
}

export const rawRecord = (offset: bigint, key: string | null, value: Buffer | string | null): LogRecord => ({
  offset,
  timestampMs: 1_700_000_000_002,
  key: key === null ? null : Buffer.from(key),
  value: typeof value === "string" ? Buffer.from(value) : value,
});

/** What a fetch brought: from the first record to one past the last, unless given otherwise. */
export function fetched(
  partition: number,
  records: readonly LogRecord[],
  nextOffset?: bigint,
  fromOffset?: bigint,
): FetchedRecords {
  const next = nextOffset ?? (records.at(-1)?.offset ?? -1n) + 1n;
  const from = fromOffset ?? records[0]?.offset ?? next;
  return { partition, fromOffset: from, records, nextOffset: next, highWatermark: next, logStart: -1n };
}

/** A clientId whose events lie in `partition`. */
export function clientOf(partition: number, partitions: number, prefix = "client"): string {
  for (let n = 0; ; n++) {
    const clientId = `${prefix}-${n}`;
    if (partitionOf(Buffer.from(clientId), partitions) === partition) return clientId;
  }
}

/** Well-formed Unicode of any plane without NUL, thick with what formats escape. */
export const hostileText = (given: { minLength?: number; maxLength?: number } = {}): fc.Arbitrary<string> =>
  fc.string({
    unit: fc.oneof(
      fc.constantFrom(
        "\\",
        "\\.",
        "\\N",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\b",
        "\f",
        "\v",
        '"',
        "'",
        ",",
        "{",
        "}",
        "\u2028",
        "\ufeff",
        "\ufffd",
        "é",
        "e\u0301",
        "😀",
        "\u{10ffff}",
        "\uffff",
      ),
      fc.string({ unit: "binary", minLength: 1, maxLength: 1 }).filter((text) => text !== "\0"),
    ),
    ...given,
  });

/** Any event that lib/valid.ts lets pass. */
export const anyEvent: fc.Arbitrary<Event> = fc.record({
  clientId: hostileText({ minLength: 1, maxLength: 20 }),
  id: hostileText({ minLength: 1, maxLength: 20 }),
  type: hostileText({ minLength: 1, maxLength: 20 }),
  occurredAtMs: fc.integer({ min: OCCURRED_AT_MS_MIN, max: OCCURRED_AT_MS_MAX }),
  receivedAtMs: fc.integer({ min: OCCURRED_AT_MS_MIN, max: OCCURRED_AT_MS_MAX }),
  data: fc.option(hostileText({ maxLength: 50 }).map((text) => JSON.stringify(text))),
});
