/** Bytes as they come → lines, however they were cut. Pure. */

/** 256 KiB of data, each byte written as \u00XX, are 1.5 MiB: what is longer is no event. */
export const LINE_BYTES_MAX = 2 * 1024 * 1024;

/** What a chunk costs besides its bytes, as in lib/body.ts. */
const CHUNK_BYTES = 512;
/** Of a line that has no end yet; more become one. */
const CHUNKS_MAX = 256;
const LINE_FEED = 0x0a;

/** A line that is not blank. */
export interface Line {
  /** From 1, blank ones counted. */
  readonly number: number;
  /** Without its end; null: there were more than LINE_BYTES_MAX, which were not kept. */
  readonly bytes: Buffer | null;
}

export class Lines {
  /** What has come and was not taken; of the first, from `#from` on. */
  #chunks: Buffer[] = [];
  #from = 0;
  #bytes = 0;
  /** Chunks without the end of a line. */
  #searched = 0;
  /** Lines given out or passed over. */
  #done = 0;
  /** Inside a line that was too long. */
  #passing = false;
  #ended = false;

  /** What it holds. */
  get bytes(): number {
    return this.#bytes + this.#chunks.length * CHUNK_BYTES;
  }

  /** Whether another line can only be had once more has come. */
  get starved(): boolean {
    return this.#searched === this.#chunks.length;
  }

  /** The number of the first line that was not given out. */
  get nextNumber(): number {
    return this.#done + 1;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  /** Nothing more comes: what is left is a line too. */
  end(): void {
    this.#ended = true;
  }

  /** The next line that is whole, or known to be too long. Null: none has come. */
  take(): Line | null {
    for (let bytes = this.#cut(); bytes !== null; bytes = this.#cut()) {
      if (this.#passing) {
        this.#passing = false;
        continue;
      }
      this.#done += 1;
      if (bytes.length > LINE_BYTES_MAX) return { number: this.#done, bytes: null };
      if (!isBlank(bytes)) return { number: this.#done, bytes };
    }
    const tooLong = !this.#passing && this.#bytes > LINE_BYTES_MAX;
    if (this.#passing || tooLong) this.drop();
    if (!tooLong) return null;
    this.#passing = true;
    this.#done += 1;
    return { number: this.#done, bytes: null };
  }

  /** Up to the next end of a line. */
  #cut(): Buffer | null {
    for (; this.#searched < this.#chunks.length; this.#searched++) {
      const end = this.#chunks[this.#searched]?.indexOf(LINE_FEED, this.#searched === 0 ? this.#from : 0) ?? -1;
      if (end >= 0) return this.#cutAt(end);
    }
    if (this.#ended && this.#bytes > 0) {
      const rest = this.#joined();
      this.drop();
      return rest;
    }
    // A short rest would hold all of the chunk that it came in.
    if (this.#from > 0 || this.#chunks.length > CHUNKS_MAX) {
      this.#chunks = [this.#from > 0 ? Buffer.from(this.#joined()) : this.#joined()];
      this.#from = 0;
      this.#searched = 1;
    }
    return null;
  }

  /** @param end in the chunk that was searched last */
  #cutAt(end: number): Buffer {
    const last = this.#chunks[this.#searched] as Buffer;
    const rest = this.#chunks.slice(this.#searched + 1);
    this.#chunks = [...this.#chunks.slice(0, this.#searched), last.subarray(0, end)];
    const line = this.#joined();
    this.#from = end + 1 === last.length ? 0 : end + 1;
    this.#chunks = this.#from === 0 ? rest : [last, ...rest];
    this.#searched = 0;
    this.#bytes -= line.length + 1;
    return line;
  }

  #joined(): Buffer {
    const [first = Buffer.of(), ...others] = this.#chunks;
    const begin = first.subarray(this.#from);
    return others.length === 0 ? begin : Buffer.concat([begin, ...others]);
  }

  /** Forgets what was not taken. */
  drop(): void {
    this.#chunks = [];
    this.#from = 0;
    this.#bytes = 0;
    this.#searched = 0;
  }
}

/** Of spaces, tabs and carriage returns only. */
const isBlank = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d);
