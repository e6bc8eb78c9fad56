/**
 * What an event says, told independently of the product: its own canonicaliser, its own reading of answers and of Avro.
 * Two events say the same if and only if their `content` is equal.
 */
import { createHash } from "node:crypto";
import { decodeCursor } from "#lib/cursor.ts";

/** An event as a producer of the tests submits it. `id` and `occurredAt` are always given: both are part of what is checked. */
export interface NewEvent {
  readonly clientId: string;
  readonly id: string;
  readonly type: string;
  readonly occurredAt: string;
  /** Absent is not the same as null. */
  readonly data?: unknown;
}

/** An event as somebody was shown it. */
export interface Seen {
  readonly clientId: string;
  readonly id: string;
  readonly type: string;
  readonly content: string;
  /** SHA-256 of the very characters that were shown. */
  readonly text: string;
  readonly partition: number;
  readonly offset: bigint;
  /** When it was shown; by process.hrtime. */
  readonly at: bigint;
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32);

/** Keys sorted by code unit, numbers by value: unlike the product's form on purpose. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(";")}]`;
  if (typeof value === "number") return `n${value === 0 ? 0 : value}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const fields = Object.keys(value).sort();
  return `{${fields.map((key) => `${JSON.stringify(key)}=${canonical((value as Record<string, unknown>)[key])}`).join(";")}}`;
}

/** @param occurredAt RFC 3339 text or ms since 1970 */
export function contentOf(event: {
  readonly clientId: string;
  readonly id: string;
  readonly type: string;
  readonly occurredAt: string | number;
  readonly data?: unknown;
}): string {
  const { clientId, id, type, occurredAt } = event;
  const data = "data" in event && event.data !== undefined ? canonical(event.data) : "absent";
  return sha256(canonical([clientId, id, type, new Date(occurredAt).getTime(), data]));
}

/**
 * The texts of the events in a page or an `events` frame, cut out of the answer and never parsed and printed again.
 * `"events":[` with bare quotes cannot occur inside a JSON string, and before it only strings come.
 */
export function eventTexts(answer: string): string[] {
  const opening = '"events":[';
  const found = answer.indexOf(opening);
  if (found < 0) throw new Error(`no events in ${answer.slice(0, 200)}`);
  const texts: string[] = [];
  let from = found + opening.length;
  for (const { mark, at } of topMarks(answer, from)) {
    if (at > from) texts.push(answer.slice(from, at));
    from = at + 1;
    if (mark === "]") return texts;
  }
  throw new Error(`the events of ${answer.slice(0, 200)}… do not end`);
}

/** Commas and the bracket that belong to the array which is open at `from`, not to anything inside it. */
function* topMarks(answer: string, from: number): Generator<{ mark: string; at: number }> {
  let depth = 0;
  for (const { 0: mark, index: at } of answer.slice(from).matchAll(TOKEN)) {
    if (depth === 0 && (mark === "," || mark === "]")) yield { mark, at: at + from };
    if (mark === "{" || mark === "[") depth++;
    if (mark === "}" || mark === "]") depth--;
  }
}

/** Whole strings, and what structures JSON outside them. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],]/gs;

/** Partitions and offsets of one epoch's log, apart from those of the others. */
const [EPOCH_PARTITIONS, EPOCH_OFFSETS] = [100_000, 1n << 48n];

/**
 * A place as the checker has it: by partition and offset alone, a later epoch's offsets above all of an earlier one, and its
 * partitions beside them. In the first epoch they are what they are.
 */
export const placed = (epoch: number, partition: number, offset: bigint) => ({
  partition: (epoch - 1) * EPOCH_PARTITIONS + partition,
  offset: BigInt(epoch - 1) * EPOCH_OFFSETS + offset,
});

/** Of a cursor; null: it is none. */
export function placeOf(cursor: string): { readonly partition: number; readonly offset: bigint } | null {
  const position = decodeCursor(cursor);
  return position && placed(position.epoch, position.partition, position.offset);
}

/** @param text one event, as shown */
export function seen(text: string, at: bigint): Seen {
  const event = JSON.parse(text) as NewEvent & { readonly cursor: string };
  const position = placeOf(event.cursor);
  if (position === null) throw new Error(`an event with the cursor ${event.cursor}`);
  const { clientId, id, type } = event;
  const { partition, offset } = position;
  return { clientId, id, type, content: contentOf(event), text: sha256(text), partition, offset, at };
}

/** C3 01, the fingerprint (not judged here), then the fields of schemas/event.avsc; null when it is no such thing. */
export function decodeRecord(value: Buffer | null): (NewEvent & { readonly content: string }) | null {
  if (value === null || value.length < 10 || value[0] !== 0xc3 || value[1] !== 0x01) return null;
  let at = 10;
  const long = (): number => {
    let zigzag = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = value[at++];
      if (byte === undefined) throw new RangeError("ends");
      zigzag |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return Number((zigzag >> 1n) ^ -(zigzag & 1n));
  };
  const string = (): string => {
    const length = long();
    if (length < 0 || at + length > value.length) throw new RangeError("ends");
    at += length;
    return value.toString("utf8", at - length, at);
  };
  try {
    const clientId = string();
    const id = string();
    const type = string();
    const occurredAt = new Date(long()).toISOString();
    long();
    const data = long() === 0 ? {} : { data: JSON.parse(string()) as unknown };
    if (at !== value.length) return null;
    const event = { clientId, id, type, occurredAt, ...data };
    return { ...event, content: contentOf(event) };
  } catch {
    return null;
  }
}
