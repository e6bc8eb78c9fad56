/** A query node in the world: its own tail, reader and checkpoints, with the log and the database answered by hand. */
import { RecordDecoder } from "#lib/decode.ts";
import { type FetchedRecords, LogError, OffsetOutOfRange, type PartitionReader } from "#lib/kafka/ports.ts";
import { createMetrics, type Metrics } from "#lib/metrics.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import { ProblemError } from "#lib/problem.ts";
import { Barrier } from "../../../../apps/query/barrier.ts";
import { Checkpoints } from "../../../../apps/query/checkpoints.ts";
import type { Oldest } from "../../../../apps/query/disk/segment.ts";
import { Segment } from "../../../../apps/query/disk/segment.ts";
import type { Volume } from "../../../../apps/query/disk/volume.ts";
import type { ClientOrder } from "../../../../apps/query/places.ts";
import type { AnswerRow } from "../../../../apps/query/questions.ts";
import { Reach } from "../../../../apps/query/reach.ts";
import { type Page, type PageQuery, Reader } from "../../../../apps/query/read.ts";
import { Rows } from "../../../../apps/query/rows.ts";
import { Tail } from "../../../../apps/query/tail.ts";
import { TailReader } from "../../../../apps/query/tail-reader.ts";
import { contactWith } from "../../../support/records.ts";
import { ManualClock, quiet } from "../model.ts";
import { answer } from "./database.ts";
import { MemoryVolume } from "./memory-volume.ts";
import { EPOCH, indexIn, type Moment, ORDERS, PARTITIONS, type World } from "./world.ts";

/** What a page's statement answers at a moment; the world stands still until it is answered. */
export type Ask = (moment: Moment, text: string, values: readonly unknown[]) => Promise<AnswerRow[]>;

/** A read that has ended, and when it was under way. */
export interface Read {
  readonly order: ClientOrder;
  readonly query: PageQuery;
  /** Indexes into the world's moments, both inclusive. */
  readonly moments: readonly [number, number];
  /** Where the partition's log ended when it began, and when it had its answer. */
  readonly ends: readonly [bigint, bigint];
  /** The database or the log failed meanwhile, or was away. */
  readonly faulty: boolean;
  /** A page was made without the database meanwhile. */
  readonly unchecked: boolean;
  /** The node had been shown that nothing of the log in use is saved, as it is until the log before is saved whole. */
  readonly shownNone: boolean;
  /** How long it took on the clock. */
  readonly ms: number;
  readonly page: Page | null;
  readonly problem: ProblemError | null;
}

const ALL_METRICS = createMetrics();
/** For pages: with more reads than that, questions gather. */
const CONNECTIONS = 1;
type Fetch = Parameters<PartitionReader["fetch"]>[0];

/** Nobody waits for the event loop: all that happens is in one order, which the seed decides. */
class SeamClock extends ManualClock {
  override turn(): Promise<void> {
    return Promise.resolve();
  }
}

export interface NodeParts {
  /** Of the tail's memory. */
  readonly bytesMax: number;
  /** What memory does not hold goes to disk. */
  readonly withDisk: boolean;
  /** Checkpoints that it begins with, by partition; null: none. */
  readonly known: readonly (bigint | null)[];
  /** A real database; null: the world's. */
  readonly ask: Ask | null;
}

export class Node {
  readonly world: World;
  readonly clock = new SeamClock();
  readonly tail: Tail;
  readonly #checkpoints: Checkpoints;
  readonly #reader: Reader;
  /** Set to make the database fail; it is back when null. */
  storeFault: Error | null = null;
  logFault = false;
  /** Called before and after each snapshot, between the question and its answer. */
  meanwhile: () => void = () => undefined;
  readonly #askStore: Ask | null;
  #asking = false;
  /** Why the tail is read no more. */
  #ended: unknown = null;
  #faults = 0;
  #unchecked = 0;
  #segments = 0;
  #fetch: { readonly request: Fetch; readonly answer: PromiseWithResolvers<readonly FetchedRecords[]> } | null = null;
  readonly #stop = new AbortController();

  constructor(world: World, { bytesMax, withDisk, known, ask }: NodeParts) {
    this.world = world;
    this.#askStore = ask;
    const { clock } = this;
    const counted = { inc: () => void this.#unchecked++ };
    const metrics = { ...ALL_METRICS, queryUncheckedEvents: counted as unknown as Metrics["queryUncheckedEvents"] };
    const starts = world.parts.map(
      ({ start }, partition) => [partition, { start: known[partition] ?? start, logStart: start }] as const,
    );
    const disk = { bytes: 0, trouble: null, write: (oldest: Oldest) => this.#write(oldest) };
    this.tail = new Tail({ bytesMax, log: quiet, clock, metrics, ...(withDisk && { disk }) }, new Map(starts));
    const pool = { rows: this.#statement.bind(this), query: this.#allCheckpoints.bind(this) };
    const warn = (what: string): void => {
      if (what === "database lost") this.#faults++;
    };
    const rows = new Rows(pool as unknown as Pool, CONNECTIONS, clock);
    this.#checkpoints = new Checkpoints({
      epoch: EPOCH,
      rows,
      tail: this.tail,
      log: { ...quiet, warn },
      clock,
      known: new Map([...known.entries()].flatMap(([partition, at]) => (at === null ? [] : [[partition, at]]))),
      prepare: null,
    });
    const contact = contactWith(quiet, clock);
    const barrier = new Barrier(() => this.#highWatermarks(), clock, contact);
    const reach = new Reach({ tail: this.tail, barrier });
    this.#reader = new Reader({ tail: this.tail, rows, checkpoints: this.#checkpoints, reach, clock, metrics });
    const tailReader = new TailReader({
      identity: { epoch: EPOCH, topic: "t", partitions: PARTITIONS },
      reader: { fetch: (request) => this.#wait(request) },
      decoder: new RecordDecoder(PARTITIONS, () => Promise.resolve(undefined)),
      tail: this.tail,
      refresh: () => this.#checkpoints.refresh(),
      sameLog: { met: () => undefined, proveRead: () => Promise.resolve() },
      clock,
      contact,
    });
    tailReader.run(this.#stop.signal).catch((error: unknown) => {
      this.#ended = error;
    });
  }

  /** A real database is asked just now, so that nothing may happen. */
  get asking(): boolean {
    return this.#asking;
  }

  /** The process dies. */
  kill(): void {
    this.#stop.abort();
  }

  /** Whatever was broken is back, and will be known to be. */
  mend(): void {
    this.storeFault = null;
    this.logFault = false;
    this.clock.advance(100);
    this.refresh();
  }

  refresh(): void {
    void this.#checkpoints.refresh();
  }

  /** Answers the fetch under way with some of what there is, in each partition. @param all of it */
  answerFetch(all = false): void {
    const asked = this.#fetch;
    if (asked === null) return;
    this.#fetch = null;
    try {
      asked.answer.resolve([...asked.request.offsets].map(([partition, from]) => this.#fetched(partition, from, all)));
    } catch (error) {
      asked.answer.reject(error);
    }
  }

  async read(clientId: string, query: PageQuery): Promise<Read> {
    const { world, clock } = this;
    const order = ORDERS.get(clientId) as ClientOrder;
    const part = world.part(order.partition);
    const [moment, end, faults, beganMs] = [world.moments.length - 1, part.end, this.#faults, clock.elapsed()];
    const [awayBefore, unchecked] = [this.#checkpoints.away, this.#unchecked];
    const isShownNone = (): boolean => this.#checkpoints.known(order.partition) === null;
    const shownNoneBefore = isShownNone();
    const ended = (page: Page | null, problem: ProblemError | null): Read => ({
      order,
      query,
      moments: [moment, world.moments.length - 1],
      ends: [end, part.end],
      faulty: awayBefore || this.#faults > faults,
      unchecked: this.#unchecked > unchecked,
      shownNone: shownNoneBefore || isShownNone(),
      ms: clock.elapsed() - beganMs,
      page,
      problem,
    });
    try {
      return ended(await this.#reader.read(order, query), null);
    } catch (error) {
      if (error instanceof ProblemError && this.#ended === null) return ended(null, error);
      throw this.#ended ?? error;
    }
  }

  async #statement(text: string, values: readonly unknown[]): Promise<AnswerRow[]> {
    await this.#hops();
    this.meanwhile();
    this.#fail();
    const rows = await this.#ask(text, values);
    await this.#hops();
    this.meanwhile();
    await this.#hops();
    return rows;
  }

  async #ask(text: string, values: readonly unknown[]): Promise<AnswerRow[]> {
    const { now } = this.world;
    if (this.#askStore === null) return answer(now, text, values);
    this.#asking = true;
    try {
      return await this.#askStore(now, text, values);
    } finally {
      this.#asking = false;
    }
  }

  async #allCheckpoints(): Promise<{ readonly partition: number; readonly next_offset: string }[]> {
    await this.#hops();
    this.#fail();
    const { checkpoints } = this.world.now;
    await this.#hops();
    await this.#hops();
    return checkpoints.flatMap((at, partition) => (at === null ? [] : [{ partition, next_offset: `${at}` }]));
  }

  #fail(): void {
    if (this.storeFault === null) return;
    this.#faults++;
    throw this.storeFault;
  }

  /** To a disk that may fail, and on which everything takes a while. */
  async #write(oldest: Oldest): Promise<Segment | null> {
    const { random } = this.world;
    if (random.next() < 0.1) return null;
    const volume = new MemoryVolume(async () => {
      await this.#hops();
      this.meanwhile();
      return random.next() < 0.01;
    });
    return Segment.write(volume as unknown as Volume, this.#segments++, oldest, () => this.#hops());
  }

  async #highWatermarks(): Promise<ReadonlyMap<number, bigint>> {
    await this.#hops();
    if (this.logFault) {
      this.#faults++;
      throw new LogError("retriable", "no leader");
    }
    const marks = new Map(this.world.parts.map(({ end }, partition) => [partition, end]));
    await this.#hops();
    return marks;
  }

  /** Others have their turn, now more, now fewer of them. */
  async #hops(): Promise<void> {
    for (let hops = this.world.random.below(8); hops > 0; hops--) await Promise.resolve();
  }

  #wait(request: Fetch): Promise<readonly FetchedRecords[]> {
    const answer = Promise.withResolvers<readonly FetchedRecords[]>();
    this.#fetch = { request, answer };
    return answer.promise;
  }

  #fetched(partition: number, from: bigint, all: boolean): FetchedRecords {
    const { records, start, end } = this.world.part(partition);
    if (from < start) throw new OffsetOutOfRange("t", partition, from, { low: start, high: end });
    const to = all ? end : from + BigInt(this.world.random.below(Number(end - from) + 1));
    return {
      partition,
      fromOffset: from,
      records: records.slice(indexIn(records, from), indexIn(records, to)),
      nextOffset: to,
      highWatermark: end,
      logStart: start,
    };
  }
}
