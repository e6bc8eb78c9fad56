/**
 * A contiguous part of a partition's tail on disk. What is kept under which key: of each client its blocks of events, and all
 * identities in buckets. Keys begin with the segment's number, so that a volume's keys only ever rise, in one segment too:
 * LevelDB then moves its files instead of merging them.
 */
import type { TailEvent } from "../client-tail.ts";
import { packBlocks, readDirectory, unpackBlock } from "./block.ts";
import { bucketOf, bucketsFor, Filter, findInBucket, type Hashed, hashOf, packBuckets } from "./identities.ts";
import { DiskUnreadable, type Pair, readAll, type Volume } from "./volume.ts";

/** Records at offsets in [from, to). */
export interface Range {
  readonly from: bigint;
  readonly to: bigint;
}

/** The oldest part of what a partition has in memory. */
export interface Oldest extends Range {
  readonly events: readonly TailEvent[];
}

/** A client's block, and where its events begin in it. */
export interface Block {
  readonly bytes: Buffer;
  readonly at: number;
}

const EVENTS = 0;
const IDENTITIES = 1;
const HEAD_BYTES = 4 + 1;

/** Handed to the database in one go: a millisecond of work. */
const WRITE_BYTES = 256 * 1024;
/** Segments asked for a client, and blocks of one, at once: few at first, since a page is mostly filled by the first. */
const ASKED_AT_ONCE = [2, 4, 8, 16] as const;
const NO_TEXT = (): boolean => false;

export class Segment implements Range {
  readonly from: bigint;
  readonly to: bigint;
  /** Events in it. */
  readonly records: number;
  readonly volume: Volume;
  readonly #number: number;
  readonly #filter: Filter;
  readonly #letGo: () => void;

  private constructor(volume: Volume, number: number, { from, to, events }: Oldest, filter: Filter) {
    this.from = from;
    this.to = to;
    this.records = events.length;
    this.volume = volume;
    this.#number = number;
    this.#filter = filter;
    this.#letGo = volume.hold();
  }

  /**
   * @param number above that of any other segment of the volume
   * @param turn called between slices of work
   * @throws Error what the volume gives
   */
  static async write(volume: Volume, number: number, oldest: Oldest, turn: () => Promise<void>): Promise<Segment> {
    const clients = Map.groupBy(oldest.events, ({ clientId }) => clientId);
    const segment = new Segment(volume, number, oldest, new Filter(oldest.events.length + clients.size));
    try {
      let slice: Pair[] = [];
      let bytes = 0;
      for (const pair of segment.#pairs(clients)) {
        slice.push(pair);
        bytes += pair.value.length + pair.key.length;
        if (bytes < WRITE_BYTES) continue;
        await volume.write(slice);
        await turn();
        [slice, bytes] = [[], 0];
      }
      await volume.write(slice);
      return segment;
    } catch (error) {
      segment.drop();
      throw error;
    }
  }

  /** Nobody needs it any more but those who hold its volume. */
  drop(): void {
    this.#letGo();
  }

  /** False: it certainly holds nothing with this hash, of a client or of an identity. */
  mayHold(hash: number): boolean {
    return this.#filter.mayHold(hash);
  }

  /** Offsets of events that perhaps have this hash' identity, the highest first. @throws DiskUnreadable */
  static async identities(asked: readonly { readonly segment: Segment; readonly hash: number }[]): Promise<bigint[][]> {
    const buckets = await readAll(
      asked.map(({ segment, hash }) => ({
        volume: segment.volume,
        key: segment.#bucketKey(bucketOf(hash, bucketsFor(segment.records))),
      })),
    );
    return asked.map(({ hash }, nth) => {
      const bucket = buckets[nth];
      if (bucket === undefined) throw new DiskUnreadable("identities are missing");
      return findInBucket(bucket, hash);
    });
  }

  /** The id of the client's event at this offset; null: none. @throws DiskUnreadable */
  async idAt(clientId: string, offset: bigint): Promise<string | null> {
    const range = { from: offset, to: offset + 1n };
    for await (const { bytes, at } of Segment.blocks([this], clientId, range, "asc"))
      for (const { id } of unpackBlock(clientId, bytes, at, range, NO_TEXT)) return id;
    return null;
  }

  /**
   * The client's blocks that reach into the range, in reading order.
   * @param segments ascending
   * @throws DiskUnreadable
   */
  static async *blocks(
    segments: readonly Segment[],
    clientId: string,
    { from, to }: Range,
    order: "asc" | "desc",
  ): AsyncGenerator<Block> {
    const hash = hashOf(clientId);
    const asked = segments.filter((one) => one.from < to && one.to > from && one.mayHold(hash));
    if (order === "desc") asked.reverse();
    for (const some of inPieces(asked)) {
      const heads = await readAll(some.map((one) => ({ volume: one.volume, key: one.#blockKey(clientId, 0) })));
      for (const [nth, segment] of some.entries()) {
        const head = heads[nth];
        if (head !== undefined) yield* segment.#blocks(head, clientId, { from, to }, order);
      }
    }
  }

  async *#blocks(head: Buffer, clientId: string, { from, to }: Range, order: "asc" | "desc"): AsyncGenerator<Block> {
    const { firsts, at } = readDirectory(head);
    const within = [...firsts.keys()].filter((nth) => {
      const next = firsts[nth + 1];
      return (firsts[nth] ?? to) < to && (next === undefined || next > from);
    });
    if (order === "desc") within.reverse();
    for (const some of inPieces(within)) {
      const others = some.filter((nth) => nth !== 0);
      const keys = others.map((nth) => this.#blockKey(clientId, nth));
      const read = keys.length === 0 ? [] : await this.volume.read(keys);
      for (const nth of some) {
        const bytes = nth === 0 ? head : read[others.indexOf(nth)];
        if (bytes === undefined) throw new DiskUnreadable("events are missing");
        yield { bytes, at: nth === 0 ? at : 0 };
      }
    }
  }

  *#pairs(clients: ReadonlyMap<string, readonly TailEvent[]>): Generator<Pair> {
    const hashed: Hashed[] = [];
    for (const clientId of [...clients.keys()].sort()) {
      const events = clients.get(clientId) ?? [];
      this.#filter.add(hashOf(clientId));
      for (const { id, offset } of events) {
        const hash = hashOf(clientId, id);
        this.#filter.add(hash);
        hashed.push({ hash, offset });
      }
      for (const { nth, value } of packBlocks(events)) yield { key: this.#blockKey(clientId, nth), value };
    }
    for (const [nth, value] of packBuckets(hashed).entries()) yield { key: this.#bucketKey(nth), value };
  }

  #blockKey(clientId: string, nth: number): Buffer {
    const bytes = Buffer.byteLength(clientId);
    const key = this.#head(EVENTS, bytes + 4);
    key.write(clientId, HEAD_BYTES);
    key.writeUInt32BE(nth, HEAD_BYTES + bytes);
    return key;
  }

  #bucketKey(nth: number): Buffer {
    const key = this.#head(IDENTITIES, 4);
    key.writeUInt32BE(nth, HEAD_BYTES);
    return key;
  }

  #head(kind: number, bytes: number): Buffer {
    const key = Buffer.allocUnsafe(HEAD_BYTES + bytes);
    key.writeUInt32BE(this.#number, 0);
    key[4] = kind;
    return key;
  }
}

function* inPieces<T>(all: readonly T[]): Generator<T[]> {
  let at = 0;
  for (let nth = 0; at < all.length; nth++) {
    const piece = ASKED_AT_ONCE[Math.min(nth, ASKED_AT_ONCE.length - 1)] ?? 1;
    yield all.slice(at, at + piece);
    at += piece;
  }
}
