/**
 * Which identities a segment holds. A filter in memory says "no" or "perhaps"; buckets on disk say at which offsets. Both go by
 * a hash, so that whoever asks must still compare what lies there. Pure.
 */

/** Two of a thousand strangers pass; 2 bytes of memory an event. */
const FILTER_BITS_PER_KEY = 16;
/** One line of a processor's cache, of which a key sets one bit in each of eight words. */
const BLOCK_WORDS = 8;
const BLOCK_BITS = 256;
/** Odd numbers with bits everywhere: each word takes its bit from another product. */
const SALTS = [0x9e3779b1, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f, 0x165667b1, 0xd6e8feb9, 0xff51afd7, 0xa0761d65] as const;
/** Hash and offset. */
const ENTRY_BYTES = 16;
/** One read brings 2 KiB. */
const BUCKET_ENTRIES = 128;

const HIGH = 2 ** 32;
const HIGH_BITS = 21;

/** 53 bits, a whole number. Without `id`: of the client itself. */
export function hashOf(clientId: string, id = ""): number {
  let [a, b] = [0x811c9dc5, 0x5bd1e995];
  const mix = (text: string): void => {
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at);
      a = Math.imul(a ^ code, 0x01000193);
      b = Math.imul(b ^ code, 0x9e3779b1);
      b ^= b >>> 15;
    }
    // No text holds it: ("ab", "c") is not ("a", "bc").
    a = Math.imul(a ^ 0x10000, 0x01000193);
    b = Math.imul(b ^ 0x10000, 0x9e3779b1);
  };
  mix(clientId);
  mix(id);
  const low = finish(a ^ (b >>> 7));
  return (finish(b ^ low) >>> (32 - HIGH_BITS)) * HIGH + (low >>> 0);
}

function finish(hash: number): number {
  const first = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  const second = Math.imul(first ^ (first >>> 13), 0xc2b2ae35);
  return second ^ (second >>> 16);
}

/** A blocked Bloom filter. */
export class Filter {
  readonly #words: Uint32Array;
  readonly #blocks: number;

  /** @param keys how many are to be added at most */
  constructor(keys: number) {
    this.#blocks = Math.max(1, Math.ceil((keys * FILTER_BITS_PER_KEY) / BLOCK_BITS));
    this.#words = new Uint32Array(this.#blocks * BLOCK_WORDS);
  }

  get bytes(): number {
    return this.#words.byteLength;
  }

  add(hash: number): void {
    const base = this.#base(hash);
    const low = hash >>> 0;
    for (let word = 0; word < BLOCK_WORDS; word++) {
      const at = base + word;
      this.#words[at] = (this.#words[at] ?? 0) | bit(low, word);
    }
  }

  /** False: certainly not. */
  mayHold(hash: number): boolean {
    const base = this.#base(hash);
    const low = hash >>> 0;
    for (let word = 0; word < BLOCK_WORDS; word++)
      if (((this.#words[base + word] ?? 0) & bit(low, word)) === 0) return false;
    return true;
  }

  #base(hash: number): number {
    return Math.floor((Math.floor(hash / HIGH) * this.#blocks) / 2 ** HIGH_BITS) * BLOCK_WORDS;
  }
}

const bit = (low: number, word: number): number => 1 << (Math.imul(low, SALTS[word] ?? 1) >>> 27);

/** One event's identity. */
export interface Hashed {
  readonly hash: number;
  readonly offset: bigint;
}

export const bucketsFor = (entries: number): number => Math.max(1, Math.ceil(entries / BUCKET_ENTRIES));

/** The bucket of a hash. */
export const bucketOf = (hash: number, buckets: number): number => Math.floor(((hash >>> 0) * buckets) / HIGH);

/** All buckets, by number. */
export function packBuckets(entries: readonly Hashed[]): Buffer[] {
  const buckets: Hashed[][] = Array.from({ length: bucketsFor(entries.length) }, () => []);
  for (const entry of entries) buckets[bucketOf(entry.hash, buckets.length)]?.push(entry);
  return buckets.map(packBucket);
}

function packBucket(entries: readonly Hashed[]): Buffer {
  const bucket = Buffer.allocUnsafe(entries.length * ENTRY_BYTES);
  for (const [nth, { hash, offset }] of entries.entries()) {
    bucket.writeDoubleLE(hash, nth * ENTRY_BYTES);
    bucket.writeBigInt64LE(offset, nth * ENTRY_BYTES + 8);
  }
  return bucket;
}

/** Offsets of the events with this hash, the highest first. */
export function findInBucket(bucket: Buffer, hash: number): bigint[] {
  const found: bigint[] = [];
  for (let at = bucket.length - ENTRY_BYTES; at >= 0; at -= ENTRY_BYTES)
    if (bucket.readDoubleLE(at) === hash) found.push(bucket.readBigInt64LE(at + 8));
  return found;
}
