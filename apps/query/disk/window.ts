/**
 * What a page sees of a pinned tail that is partly on disk: a window of events in the shape of memory's slice, from where the
 * page begins until it must be full. `low` and `high` say what of the range the window covers.
 */
import type { TailEvent } from "../client-tail.ts";
import { indexOf } from "../client-tail.ts";
import type { Selection } from "../merge.ts";
import { hasFilters } from "../merge.ts";
import type { Pin } from "../partition-tail.ts";
import { passes, rangeOf, SCAN_EVENTS_MAX } from "../scan.ts";
import { PAGE_BYTES_MAX } from "../statements.ts";
import { unpackBlock } from "./block.ts";
import { type Range, Segment } from "./segment.ts";

/** Brought from disk for one window; with filters all but what passes is let go at once. */
const READ_BYTES_MAX = 32 * 1024 * 1024;

/** Events in reading order, until there are enough for a page. */
class Collector {
  readonly events: TailEvent[] = [];
  readonly #selection: Selection;
  readonly #pin: Pin;
  #counted = 0;
  #textBytes = 0;
  readBytes = 0;

  constructor(pin: Pin, selection: Selection) {
    this.#pin = pin;
    this.#selection = selection;
  }

  /** @returns whether that is enough */
  take(event: TailEvent): boolean {
    const { limit } = this.#selection;
    this.events.push(event);
    if (passes(event, this.#selection)) {
      // One more than the limit, not counting those that the tail itself shows to be copies.
      if (event.previous < this.#pin.start) this.#counted++;
      this.#textBytes += event.json.length;
    }
    return (
      this.#counted > limit ||
      this.events.length > SCAN_EVENTS_MAX ||
      this.#textBytes > PAGE_BYTES_MAX ||
      this.readBytes > READ_BYTES_MAX
    );
  }
}

/**
 * @param from where the window begins, if not at the selection's own end of the range: ascending the first offset, descending
 *   one past the last
 * @throws DiskUnreadable
 */
export async function windowOf(
  pin: Pin,
  epoch: number,
  selection: Selection,
  from: bigint | null = null,
): Promise<Pin> {
  const whole = rangeOf(pin, epoch, selection);
  if (selection.order === "asc") {
    const range = { from: from !== null && from > whole.from ? from : whole.from, to: whole.to };
    return range.from >= pin.low ? pin : ascending(pin, selection, range);
  }
  const range = { from: whole.from, to: from !== null && from < whole.to ? from : whole.to };
  return range.from >= pin.low ? pin : descending(pin, selection, range);
}

async function ascending(pin: Pin, selection: Selection, { from, to }: Range): Promise<Pin> {
  const collector = new Collector(pin, selection);
  const onDisk = { from, to: to < pin.low ? to : pin.low };
  const full =
    (await fromDisk(pin, selection, onDisk, collector)) || fromMemory(pin, { from: pin.low, to }, 1, collector);
  const last = collector.events.at(-1);
  return view(pin, collector.events, from, full && last ? last.offset + 1n : to);
}

async function descending(pin: Pin, selection: Selection, { from, to }: Range): Promise<Pin> {
  const collector = new Collector(pin, selection);
  const onDisk = { from, to: to < pin.low ? to : pin.low };
  const full =
    fromMemory(pin, { from: pin.low, to }, -1, collector) || (await fromDisk(pin, selection, onDisk, collector));
  const last = collector.events.at(-1);
  return view(pin, collector.events.reverse(), full && last ? last.offset : from, to);
}

const view = (pin: Pin, array: readonly TailEvent[], low: bigint, high: bigint): Pin => ({
  ...pin,
  array,
  from: 0,
  to: array.length,
  low,
  high,
});

/** Whether the collector is full. */
function fromMemory(pin: Pin, { from, to }: Range, step: 1 | -1, collector: Collector): boolean {
  const [first, end] = [indexOf(pin, from), indexOf(pin, to)];
  for (let nth = 0; nth < end - first; nth++) {
    const event = pin.array[step === 1 ? first + nth : end - 1 - nth];
    if (event !== undefined && collector.take(event)) return true;
  }
  return false;
}

/** Whether the collector is full. */
async function fromDisk(pin: Pin, selection: Selection, range: Range, collector: Collector): Promise<boolean> {
  if (range.from >= range.to) return false;
  const wantsText = hasFilters(selection)
    ? (event: Pick<TailEvent, "type" | "occurredAtMs">) => passes(event, selection)
    : () => true;
  for await (const { bytes, at } of Segment.blocks(pin.segments, pin.clientId, range, selection.order)) {
    collector.readBytes += bytes.length;
    const events = unpackBlock(pin.clientId, bytes, at, range, wantsText);
    if (selection.order === "desc") events.reverse();
    for (const event of events) if (collector.take(event)) return true;
  }
  return false;
}
