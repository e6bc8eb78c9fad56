/** Records taken from lanes → one batch: decoded, judged, and printed for COPY while the batch before it is being saved. */
import type { Clock } from "#lib/clock.ts";
import type { Decoded, RecordDecoder } from "#lib/decode.ts";
import { type Event, timeText } from "#lib/event.ts";
import type { LogRecord } from "#lib/kafka/ports.ts";
import type { Lane, Taken } from "./lane.ts";

/** A record that is an event. Its line in COPY's text format, with the newline, lies in `text` from `from` to `to`. */
export interface Row {
  readonly partition: number;
  readonly record: LogRecord;
  readonly text: Buffer;
  readonly from: number;
  readonly to: number;
}

/** A record that can never be a row. */
export interface DeadLetter {
  readonly partition: number;
  readonly record: LogRecord;
  readonly reason: string;
  readonly detail: string;
}

/** One partition's part of a batch. */
export interface Slice {
  readonly taken: Taken;
  readonly rows: readonly Row[];
  readonly dead: readonly DeadLetter[];
}

export interface Batch {
  readonly slices: readonly Slice[];
}

/**
 * Takes from every lane that has news, each its share, the rest to those with more.
 * @param lanes rotated by the caller, so that no lane is always the last
 */
export function take(lanes: readonly Lane[], unitsMax: number): Taken[] {
  const taken: Taken[] = [];
  let units = unitsMax;
  // Lanes with little first: what they leave of their share goes to the others.
  const ready = lanes.filter((lane) => lane.hasNews).sort((a, b) => a.waitingRecords - b.waitingRecords);
  for (const [index, lane] of ready.entries()) {
    const left = ready.length - index;
    const one = lane.take(units / left);
    taken.push(one);
    units = Math.max(0, units - one.units);
  }
  return taken;
}

/** @throws LogError when a writer's schema must be looked up and the log does not answer */
export async function prepare(
  epoch: number,
  taken: readonly Taken[],
  decoder: RecordDecoder,
  clock: Pick<Clock, "turn">,
): Promise<Batch> {
  const slices: Slice[] = [];
  for (const one of taken) {
    const { partition } = one.lane;
    slices.push(slice(epoch, one, await decoder.decode(partition, one.records)));
    // In one piece it would keep the batch before it waiting for 30 ms, and the database with it.
    await clock.turn();
  }
  return { slices };
}

/** The first records of a batch, and what is left of it. A slice without records steps over a gap and goes first. */
export function split(
  slices: readonly Slice[],
  recordsMax: number,
): { first: readonly Slice[]; rest: readonly Slice[] } {
  const first: Slice[] = [];
  const rest: Slice[] = [];
  let left = recordsMax;
  for (const one of slices) {
    const count = one.taken.records.length;
    if (count <= left) first.push(one);
    else if (left === 0) rest.push(one);
    else {
      const [head, tail] = cut(one, left);
      first.push(head);
      rest.push(tail);
    }
    left = Math.max(0, left - count);
  }
  return { first, rest };
}

function cut({ taken, rows, dead }: Slice, records: number): [Slice, Slice] {
  const at = (taken.records[records - 1] as LogRecord).offset + 1n;
  const part = (low: boolean): Slice => ({
    taken: {
      ...taken,
      expected: low ? taken.expected : at,
      nextOffset: low ? at : taken.nextOffset,
      records: low ? taken.records.slice(0, records) : taken.records.slice(records),
      // By number: what is tried in parts teaches nobody what a whole batch costs.
      units: (taken.units * (low ? records : taken.records.length - records)) / taken.records.length,
    },
    rows: rows.filter(({ record }) => record.offset < at === low),
    dead: dead.filter(({ record }) => record.offset < at === low),
  });
  return [part(true), part(false)];
}

/** The lines of some rows, for COPY. */
export function textOf(rows: readonly Row[]): Buffer {
  const runs: { readonly text: Buffer; readonly from: number; to: number }[] = [];
  for (const { text, from, to } of rows) {
    const run = runs.at(-1);
    if (run?.text === text && run.to === from) run.to = to;
    else runs.push({ text, from, to });
  }
  return Buffer.concat(runs.map(({ text, from, to }) => text.subarray(from, to)));
}

/** Where lines are printed, one after the other. */
let page: Buffer = Buffer.allocUnsafeSlow(256 * 1024);

/** Lines go into one buffer at once: kept as text until they are saved, they were half of what the collector had to do. */
function slice(epoch: number, taken: Taken, decoded: readonly Decoded[]): Slice {
  const { partition } = taken.lane;
  const printed: { readonly record: LogRecord; readonly from: number; readonly to: number }[] = [];
  const dead: DeadLetter[] = [];
  let end = 0;
  for (const one of decoded) {
    const { record } = one;
    if (one.ok) {
      const line = copyLine(epoch, record.offset, one.event);
      page = withRoom(page, end, 3 * line.length);
      const from = end;
      end += page.write(line, from);
      printed.push({ record, from, to: end });
    } else dead.push({ partition, record, reason: one.reason, detail: one.detail });
  }
  const text = Buffer.from(page.subarray(0, end));
  return { taken, rows: printed.map((one) => ({ partition, text, ...one })), dead };
}

/** The same buffer, or a larger one that begins with the same bytes. */
function withRoom(buffer: Buffer, used: number, wanted: number): Buffer {
  if (used + wanted <= buffer.length) return buffer;
  const larger = Buffer.allocUnsafeSlow(2 * (used + wanted));
  buffer.copy(larger, 0, 0, used);
  return larger;
}

/** Columns as COPY_COLUMNS of write.ts names them. */
function copyLine(epoch: number, offset: bigint, event: Event): string {
  const data = event.data === null ? "\\N" : escaped(event.data);
  return (
    `${escaped(event.clientId)}\t${epoch}\t${offset}\t${escaped(event.id)}\t${escaped(event.type)}` +
    `\t${timeText(event.occurredAtMs)}\t${timeText(event.receivedAtMs)}\t${data}\n`
  );
}

const SPECIAL = /[\\\t\n\r]/;
const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/** Text for COPY: backslash, tab and line ends are written as escapes. Most text has none. */
const escaped = (text: string): string =>
  SPECIAL.test(text) ? text.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character] ?? character) : text;
