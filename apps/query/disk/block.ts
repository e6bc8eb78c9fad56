/** One client's events of a segment ↔ blocks of bytes. Its first block begins with the list of all. Pure. */
import type { TailEvent } from "../client-tail.ts";

/** A page of 100 takes one or two; reading one event costs no more than unpacking so many. */
const BLOCK_EVENTS_MAX = 128;
/** Reckoned with what the next event costs in memory, which is more. A larger single event still goes alone. */
const BLOCK_BYTES_MAX = 64 * 1024;

/** Before the texts: offset, previous, occurredAtMs; bytes of id, type and json. */
const ENTRY_BYTES = 8 + 8 + 8 + 2 + 2 + 4;

/** What a client's first block says of all. */
export interface Directory {
  /** Of each block, the offset of its first event. */
  readonly firsts: readonly bigint[];
  /** Where the first block's own events begin. */
  readonly at: number;
}

/**
 * All blocks of one client, by number; the first, which tells of the others, comes last.
 * @param events ascending, at least one
 */
export function* packBlocks(events: readonly TailEvent[]): Generator<{ readonly nth: number; readonly value: Buffer }> {
  const firsts: bigint[] = [];
  let head: Buffer[] = [];
  let block: Buffer[] = [];
  let bytes = 0;
  for (const [at, event] of events.entries()) {
    const entry = pack(event);
    if (block.length === 0) firsts.push(event.offset);
    block.push(entry);
    bytes += entry.length;
    const next = events[at + 1];
    if (next !== undefined && block.length < BLOCK_EVENTS_MAX && bytes + next.bytes <= BLOCK_BYTES_MAX) continue;
    if (firsts.length === 1) head = block;
    else yield { nth: firsts.length - 1, value: Buffer.concat(block) };
    [block, bytes] = [[], 0];
  }
  yield { nth: 0, value: Buffer.concat([directory(firsts), ...head]) };
}

/** What `packBlocks` wrote at the head of the first block. */
export function readDirectory(block: Buffer): Directory {
  const count = block.readUInt32LE(0);
  return {
    firsts: Array.from({ length: count }, (_, nth) => block.readBigInt64LE(4 + 8 * nth)),
    at: 4 + 8 * count,
  };
}

/**
 * @param at where the block's events begin
 * @param wantsText others come without their printed form, which is most of the work
 * @returns those at offsets in [from, to), ascending
 */
export function unpackBlock(
  clientId: string,
  block: Buffer,
  at: number,
  { from, to }: { readonly from: bigint; readonly to: bigint },
  wantsText: (event: Pick<TailEvent, "type" | "occurredAtMs">) => boolean,
): TailEvent[] {
  const events: TailEvent[] = [];
  let next = at;
  while (next < block.length) {
    const begin = next;
    const idAt = begin + ENTRY_BYTES;
    const typeAt = idAt + block.readUInt16LE(begin + 24);
    const jsonAt = typeAt + block.readUInt16LE(begin + 26);
    next = jsonAt + block.readUInt32LE(begin + 28);
    const offset = block.readBigInt64LE(begin);
    if (offset >= to) break;
    if (offset < from) continue;
    const type = block.toString("utf8", typeAt, jsonAt);
    const occurredAtMs = block.readDoubleLE(begin + 16);
    events.push({
      clientId,
      offset,
      id: block.toString("utf8", idAt, typeAt),
      type,
      occurredAtMs,
      json: wantsText({ type, occurredAtMs }) ? block.toString("utf8", jsonAt, next) : "",
      bytes: next - jsonAt,
      previous: block.readBigInt64LE(begin + 8),
      verdict: "open",
    });
  }
  return events;
}

function directory(firsts: readonly bigint[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 + 8 * firsts.length);
  bytes.writeUInt32LE(firsts.length, 0);
  for (const [nth, first] of firsts.entries()) bytes.writeBigInt64LE(first, 4 + 8 * nth);
  return bytes;
}

function pack({ offset, previous, occurredAtMs, id, type, json }: TailEvent): Buffer {
  const [idBytes, typeBytes, jsonBytes] = [Buffer.byteLength(id), Buffer.byteLength(type), Buffer.byteLength(json)];
  const entry = Buffer.allocUnsafe(ENTRY_BYTES + idBytes + typeBytes + jsonBytes);
  entry.writeBigInt64LE(offset, 0);
  entry.writeBigInt64LE(previous, 8);
  entry.writeDoubleLE(occurredAtMs, 16);
  entry.writeUInt16LE(idBytes, 24);
  entry.writeUInt16LE(typeBytes, 26);
  entry.writeUInt32LE(jsonBytes, 28);
  entry.write(id, ENTRY_BYTES, "utf8");
  entry.write(type, ENTRY_BYTES + idBytes, "utf8");
  entry.write(json, ENTRY_BYTES + idBytes + typeBytes, "utf8");
  return entry;
}
