/**
 * One partition's records on their way to the store: fetched, not yet saved, in order.
 *
 *   starting ──start──▶ running ──close──▶ closed
 *
 * starting: assigned, its checkpoint is not known yet; takes nothing. running: takes what follows its last record. closed:
 * revoked; what it held is forgotten, since the log still has it. A lane never reopens: the next assignment makes a new one.
 */
import type { FetchedRecords, LogRecord } from "#lib/kafka/ports.ts";
import { units } from "./controller.ts";

/** Records taken from a lane for one transaction. */
export interface Taken {
  readonly lane: Lane;
  /** The lane's life at that time: a lane that was sent back since has another, and these records count no more. */
  readonly life: number;
  /** The checkpoint that must hold for them to be saved, and the one that holds afterwards. */
  readonly expected: bigint;
  readonly nextOffset: bigint;
  readonly records: readonly LogRecord[];
  /** What they cost to write, as units() counts it. */
  readonly units: number;
}

/** What a record costs to hold besides its bytes: two Buffers, object, offset, array slot (a heap snapshot, Node 24.21). */
const RECORD_OVERHEAD_BYTES = 500;

const recordBytes = (record: LogRecord): number => ownBytes(record) + RECORD_OVERHEAD_BYTES;

const recordUnits = (record: LogRecord): number => units(1, ownBytes(record));

const ownBytes = ({ key, value }: LogRecord): number => (key?.length ?? 0) + (value?.length ?? 0);

export class Lane {
  readonly partition: number;
  #state: "starting" | "running" | "closed" = "starting";
  #records: LogRecord[] = [];
  /** Index of the first record in #records that is not taken: taking from the front moves it, and now and then the array. */
  #first = 0;
  #bytes = 0;
  /** First offset not yet taken. */
  #takenTo = 0n;
  /** First offset not yet fetched; above the last record's by more than one where the log has gaps. */
  #fetchedTo = 0n;
  #life = 0;

  constructor(partition: number) {
    this.partition = partition;
  }

  get state(): "starting" | "running" | "closed" {
    return this.#state;
  }
  get life(): number {
    return this.#life;
  }
  get waitingRecords(): number {
    return this.#records.length - this.#first;
  }
  get waitingUnits(): number {
    return units(this.waitingRecords, this.#bytes - this.waitingRecords * RECORD_OVERHEAD_BYTES);
  }
  get waitingBytes(): number {
    return this.#bytes;
  }
  /** Where the checkpoint must stand once all that was taken is saved. */
  get takenTo(): bigint {
    return this.#takenTo;
  }
  /** Where the next fetch must begin. */
  get fetchedTo(): bigint {
    return this.#fetchedTo;
  }
  /** Whether there is something to take: records, or a gap to step over. */
  get hasNews(): boolean {
    return this.#state === "running" && this.#fetchedTo > this.#takenTo;
  }

  /** Begins, or begins again, at a checkpoint. Whatever was held or taken before counts no more. */
  start(nextOffset: bigint): void {
    if (this.#state === "closed") return;
    this.#state = "running";
    this.#life += 1;
    this.#records = [];
    this.#first = 0;
    this.#bytes = 0;
    this.#takenTo = nextOffset;
    this.#fetchedTo = nextOffset;
  }

  close(): void {
    this.#state = "closed";
    this.#life += 1;
    this.#records = [];
    this.#first = 0;
    this.#bytes = 0;
  }

  /**
   * Takes over what was fetched, if it begins just where the lane ends: a gap would be passed over for ever.
   * @returns false when it does not, or when the lane is not running
   */
  push(fetched: FetchedRecords): boolean {
    if (this.#state !== "running" || fetched.fromOffset !== this.#fetchedTo) return false;
    for (const record of fetched.records) {
      this.#records.push(record);
      this.#bytes += recordBytes(record);
    }
    this.#fetchedTo = fetched.nextOffset;
    return true;
  }

  /** Takes records from the front, at least one if there is any. Call only when `hasNews`. */
  take(unitsMax: number): Taken {
    const expected = this.#takenTo;
    let bytes = 0;
    let size = 0;
    let end = this.#first;
    while (end < this.#records.length) {
      const record = this.#records[end] as LogRecord;
      const cost = recordUnits(record);
      if (end > this.#first && size + cost > unitsMax) break;
      size += cost;
      bytes += recordBytes(record);
      end += 1;
    }
    const records = this.#records.slice(this.#first, end);
    this.#first = end;
    this.#bytes -= bytes;
    const emptied = end === this.#records.length;
    if (emptied || end > 10_000) {
      this.#records = this.#records.slice(end);
      this.#first = 0;
    }
    this.#takenTo = emptied ? this.#fetchedTo : (records.at(-1)?.offset ?? expected) + 1n;
    return { lane: this, life: this.#life, expected, nextOffset: this.#takenTo, records, units: size };
  }
}
