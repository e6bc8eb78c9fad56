/**
 * The one writer: takes what the lanes hold, saves it in one transaction, prepares the next batch meanwhile. It never gives
 * up on the store: what failed is tried again, by class of error, until it is saved or somebody else has saved it.
 */
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import { isBroken } from "#lib/continuity.ts";
import type { RecordDecoder } from "#lib/decode.ts";
import { LogError } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import { classify, type ErrorClass } from "#lib/postgres/sqlstate.ts";
import { type Batch, prepare, type Slice, split } from "./batch.ts";
import { StoreRefusesAll } from "./bisect.ts";
import { endFrozenOwners, markCheckpoints } from "./checkpoint.ts";
import type { Circuit } from "./circuit.ts";
import type { Taken } from "./lane.ts";
import type { Lanes } from "./lanes.ts";
import type { Pace } from "./pace.ts";
import { StoreContact } from "./store-contact.ts";
import { type Way, type Written, write } from "./write.ts";

export interface WriterParts {
  readonly pool: Pool;
  readonly epoch: number;
  readonly decoder: RecordDecoder;
  readonly lanes: Lanes;
  /** Where these partitions are to go on; their checkpoints are begun where they are missing. */
  readonly starts: (partitions: readonly number[]) => Promise<ReadonlyMap<number, bigint>>;
  readonly pace: Pace;
  /** How much the backlog must shrink, from 0 to 1. */
  readonly urgency: () => number;
  readonly circuit: Circuit;
  readonly clock: Clock;
  readonly log: Log;
  readonly contact: Pick<Contact, "tell">;
  readonly metrics: Metrics;
  /** Called after each commit, and where they were found elsewhere, with the checkpoints that moved. */
  readonly saved: (nextOffsets: ReadonlyMap<number, bigint>) => void;
}

/** A checkpoint may go back (failover, restore) or be deleted: a batch notices by itself, a sink without one looks. */
const LOOK_EVERY_MS = 15_000;
/** A store that stays locked for so long is held by an owner that is frozen. */
const FROZEN_MS = 10_000;
const LOG_RETRY_MS = 500;

export class Writer {
  readonly name = "writer";
  readonly #parts: WriterParts;
  readonly #store: StoreContact;
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(parts: WriterParts) {
    this.#parts = parts;
    this.#store = new StoreContact(parts);
  }

  /** Since when, ms since 1970, the database has answered nothing that it was asked; null: it has, or there is still time. */
  get unansweredSinceMs(): number | null {
    return this.#store.unansweredSinceMs;
  }

  /**
   * Runs until `signal` aborts; the transaction in hand is finished, then nothing new is begun.
   * @throws OffsetOutOfRange, ContinuityBroken when a checkpoint went to where this log cannot go on
   */
  async run(signal: AbortSignal): Promise<void> {
    const { lanes, pace, urgency, circuit } = this.#parts;
    let batch: Batch | undefined;
    while (!signal.aborted) {
      if (batch === undefined) {
        // The lanes whose batch failed may be another sink's by now: somebody must find out that it is over.
        if (!circuit.outage) await lanes.news(LOOK_EVERY_MS, signal);
        if (!lanes.hasNews) {
          await this.#lookWhenDue(signal);
          continue;
        }
      }
      const { unitsMax } = pace;
      batch ??= await this.#prepare(lanes.take(unitsMax), signal);
      if (batch === undefined) continue;
      const saving = this.#save(batch, signal);
      // Only a full batch is prepared ahead: records that trickle in are better taken when the store is free for them.
      const ahead =
        lanes.waitingUnits >= unitsMax ? this.#prepare(lanes.take(unitsMax), signal) : Promise.resolve(undefined);
      [, batch] = await Promise.all([saving, ahead]);
      await pace.rest(urgency(), signal);
    }
  }

  /** undefined: told to stop before a writer's schema could be looked up. */
  async #prepare(taken: readonly Taken[], signal: AbortSignal): Promise<Batch | undefined> {
    const { epoch, decoder, clock, contact } = this.#parts;
    while (!signal.aborted) {
      try {
        return await prepare(epoch, taken, decoder, clock);
      } catch (error) {
        if (!(error instanceof LogError)) throw error;
        contact.tell("schema not looked up", { error: error.message });
        await clock.sleep(LOG_RETRY_MS, signal);
      }
    }
    return undefined;
  }

  async #save(batch: Batch, signal: AbortSignal): Promise<void> {
    const alive = ({ taken }: Slice): boolean => taken.lane.life === taken.life;
    let way: Way | null = "copy";
    // Lanes that were revoked or sent back meanwhile: their records are somebody's, or will come again.
    for (let slices = batch.slices; slices.length > 0 && !signal.aborted; slices = slices.filter(alive)) {
      const { first, rest } = split(slices, this.#parts.circuit.recordsMax);
      way = await this.#attempt(first, way, signal);
      if (way !== null) continue;
      slices = rest;
      way = "copy";
    }
  }

  /** @returns the way of the next attempt, or null when there is nothing left to do */
  async #attempt(slices: readonly Slice[], way: Way, signal: AbortSignal): Promise<Way | null> {
    const { pool, epoch, clock } = this.#parts;
    const begun = clock.elapsed();
    // The search for refused rows is a crowd of statements, each of which may take its time.
    if (way !== "bisect") this.#store.ask();
    try {
      const written = await write(pool, epoch, { slices }, way, clock);
      this.#store.answered();
      if (written.kind === "fenced") await this.#sendBack(written.partitions);
      else this.#written(slices, written, way, clock.elapsed() - begun);
      return written.kind === "fenced" ? way : null;
    } catch (error) {
      if (isBroken(error)) throw error;
      const another = anotherWay(this.#store.refused(error), way);
      if (another !== null) return another;
      const attempted = slices.reduce((sum, { taken }) => sum + taken.records.length, 0);
      await this.#failed("store did not take a batch", error, attempted, signal);
      if (error instanceof StoreRefusesAll) this.#takeAgain(slices);
      return signal.aborted ? null : way;
    }
  }

  /** They come with what has arrived since: one event that the table takes shows that the others are at fault. */
  #takeAgain(slices: readonly Slice[]): void {
    for (const { taken } of slices) this.#parts.lanes.restart(taken.lane.partition, taken.expected);
  }

  #written(slices: readonly Slice[], written: Extract<Written, { kind: "written" }>, way: Way, totalMs: number): void {
    const { metrics, log, pace, clock, saved } = this.#parts;
    this.#store.succeeded("store took a batch again");
    const records = slices.reduce((sum, { taken }) => sum + taken.records.length, 0);
    const units = slices.reduce((sum, { taken }) => sum + taken.units, 0);
    const { tripMs, rowsMs, trips } = written;
    // The search for refused rows says nothing about what the database can bear.
    if (way !== "bisect") pace.observe({ atMs: clock.elapsed(), way, units, tripMs, rowsMs, trips, totalMs });
    metrics.sinkSavedRows.inc(written.rows);
    metrics.sinkCopies.inc(written.copies);
    metrics.sinkBatchRows.observe(records);
    metrics.sinkBatchMs.observe(totalMs);
    for (const { partition, record, reason, detail } of written.dead) {
      metrics.sinkDeadLetters.inc({ reason });
      log.warn("record set aside", { partition, offset: record.offset, reason, detail });
    }
    saved(new Map(slices.map(({ taken }) => [taken.lane.partition, taken.nextOffset])));
    log.debug("batch written", { records, rows: written.rows, copies: written.copies, ms: Math.round(totalMs) });
  }

  /** Another owner moved these checkpoints, or we did and never heard of it: go on from where they stand now. */
  async #sendBack(partitions: readonly number[]): Promise<void> {
    const { lanes, log, starts, saved } = this.#parts;
    const checkpoints = await starts(partitions);
    for (const [partition, nextOffset] of checkpoints) {
      log.warn("checkpoint stands elsewhere", { partition, nextOffset });
      lanes.restart(partition, nextOffset);
    }
    saved(checkpoints);
  }

  /** Nothing is in hand: each checkpoint must stand where its lane is, and a store that failed must do its work again. */
  async #lookWhenDue(signal: AbortSignal): Promise<void> {
    const { clock, pool, epoch, lanes, circuit } = this.#parts;
    if (clock.elapsed() - this.#lookedAt < LOOK_EVERY_MS && !circuit.outage) return;
    this.#lookedAt = clock.elapsed();
    const idle = lanes.partitions.flatMap((partition) => lanes.lane(partition) ?? []);
    const before = new Map(idle.filter(({ state }) => state === "running").map((lane) => [lane, lane.takenTo]));
    try {
      this.#store.ask();
      const checkpoints = await readCheckpoints(pool, epoch, lanes.partitions);
      if (circuit.outage) {
        // By a write: a store that takes none may answer all the same.
        await markCheckpoints(pool, epoch, lanes.partitions, clock.now());
        this.#store.succeeded("store answers again");
      }
      this.#store.answered();
      const elsewhere = [...before].filter(
        ([lane, takenTo]) => lane.state === "running" && checkpoints.get(lane.partition)?.nextOffset !== takenTo,
      );
      if (elsewhere.length > 0) await this.#sendBack(elsewhere.map(([{ partition }]) => partition));
    } catch (error) {
      if (isBroken(error)) throw error;
      this.#store.refused(error);
      await this.#failed("checkpoints not looked at", error, 0, signal);
    }
  }

  /** Waits as long as the class of the error wants. */
  async #failed(told: string, error: unknown, attempted: number, signal: AbortSignal): Promise<void> {
    const { circuit, clock, contact } = this.#parts;
    if (error instanceof LogError) {
      contact.tell(told, { error: error.message });
      await clock.sleep(LOG_RETRY_MS, signal);
      return;
    }
    await clock.sleep(this.#store.failed(told, error, attempted), signal);
    const begunMs = circuit.outage?.begunMs ?? clock.elapsed();
    if (classify(error) === "lock" && clock.elapsed() - begunMs > FROZEN_MS) await this.#endFrozenOwners();
  }

  async #endFrozenOwners(): Promise<void> {
    const { pool, epoch, lanes, log } = this.#parts;
    try {
      const pids = await endFrozenOwners(pool, epoch, lanes.partitions, FROZEN_MS);
      if (pids.length > 0) log.warn("backends of a frozen sink ended: they held checkpoint rows", { pids });
    } catch (error) {
      log.warn("backends of a frozen sink not ended", { error: (error as Error).message });
    }
  }
}

/** What these rows need, if that way was refused for this. */
function anotherWay(errorClass: ErrorClass, way: Way): Way | null {
  if (errorClass === "duplicate" && way === "copy") return "stage";
  return errorClass === "data" && way !== "bisect" ? "bisect" : null;
}
