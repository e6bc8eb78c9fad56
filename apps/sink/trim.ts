/**
 * Deletes from the log what was saved longer ago than the margin, minute by minute; the only thing that ever does. A log that
 * fills up shortens the margin. What is deleted is proved to belong to this database's log, by its last saved record.
 */
import { unlessAborted } from "#lib/abort.ts";
import type { Clock } from "#lib/clock.ts";
import type { Contact } from "#lib/contact.ts";
import { isBroken } from "#lib/continuity.ts";
import type { LogIdentity } from "#lib/control.ts";
import { type LogAdmin, LogError, OffsetOutOfRange } from "#lib/kafka/ports.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Reason } from "#lib/operator.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { LogFill, LogGauge } from "#lib/retention.ts";
import { Alarm, ageFault } from "#lib/retention-alarm.ts";
import type { Task } from "#lib/run.ts";
import type { Lanes } from "./lanes.ts";
import { CLOCKS_APART_MS_MAX, type Evidence, pressure, SHORTEST_FROM, shrunkMarginMs, trimTo } from "./retention.ts";
import { readEvidence } from "./trim-evidence.ts";

export interface TrimmerParts {
  readonly identity: LogIdentity;
  readonly pool: Pool;
  readonly admin: Pick<LogAdmin, "deleteBelow">;
  readonly gauge: Pick<LogGauge, "look">;
  readonly lanes: Pick<Lanes, "partitions" | "lane">;
  /** Reads the checkpoints of these partitions, proves that they belong to this log, and marks where they stand. */
  readonly starts: (partitions: readonly number[]) => Promise<unknown>;
  /** While the database is away it is the writer's to try it. */
  readonly storeIsAway: () => boolean;
  /** How long saved records stay while there is room. */
  readonly marginMs: number;
  /** Of the whole log; 0: no limit. */
  readonly bytesMax: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly contact: Pick<Contact, "tell">;
  readonly metrics: Metrics;
}

const LOOK_EVERY_MS = 10_000;
/** As often as the checkpoints are marked; under pressure at each look. */
const TRIM_EVERY_MS = 60_000;

export class Trimmer implements Task {
  readonly name = "log trimming";
  readonly #parts: TrimmerParts;
  readonly #age: Alarm;
  readonly #full: Alarm;
  readonly #shrunk: Alarm;
  readonly #clocks: Alarm;
  /** How much the unsaved part must shrink, whoever has to wait for it: from 0 to 1. */
  urgency = 0;
  #trimmedAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: TrimmerParts) {
    this.#parts = parts;
    // Before the log was looked at for the first time a zero would tell of a log that is full.
    parts.metrics.sinkMarginMs.set(parts.marginMs);
    this.#age = new Alarm("unsaved events near the topic's time limit", "unsaved events are young again", parts);
    this.#full = new Alarm("log fills up", "log has room again", parts);
    this.#shrunk = new Alarm("margin of saved records shrinks", "margin of saved records is whole again", parts);
    this.#clocks = new Alarm("log not trimmed: clocks differ", "clocks agree again", parts);
  }

  /** What weakens the sink, and leaves it able to work. */
  get reasons(): readonly Reason[] {
    return [this.#age, this.#full, this.#clocks].flatMap((alarm) => alarm.reasons);
  }

  /** Works until `signal` aborts. @throws OffsetOutOfRange, ContinuityBroken when this is another log than the one saved */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await unlessAborted(signal, this.#round());
      await this.#parts.clock.sleep(LOOK_EVERY_MS, signal);
    }
  }

  async #round(): Promise<void> {
    const { gauge, contact, bytesMax, marginMs: wantedMs, clock, metrics } = this.#parts;
    let fill: LogFill;
    try {
      fill = await gauge.look();
    } catch (error) {
      if (!(error instanceof LogError)) throw error;
      contact.tell("log not measured", { error: error.message });
      return;
    }
    const marginMs = shrunkMarginMs(fill.retainedBytes, bytesMax, wantedMs);
    metrics.sinkMarginMs.set(marginMs);
    this.urgency = pressure(fill.unsavedBytes, bytesMax);
    this.#tell(fill, marginMs);
    if (clock.elapsed() - this.#trimmedAtMs < TRIM_EVERY_MS && marginMs === wantedMs) return;
    this.#trimmedAtMs = clock.elapsed();
    await this.#trim(fill, marginMs);
  }

  #tell(fill: LogFill, marginMs: number): void {
    const { bytesMax, marginMs: wantedMs, clock } = this.#parts;
    const facts = { retainedBytes: Math.round(fill.retainedBytes), bytesMax, marginMs };
    this.#age.set(ageFault(fill, clock.now()), facts);
    this.#shrunk.set(marginMs < wantedMs ? "what was saved is deleted sooner than wanted" : null, facts);
    const isFull = bytesMax > 0 && fill.retainedBytes > bytesMax * SHORTEST_FROM;
    const full = `log: it holds about ${facts.retainedBytes} of ${bytesMax} bytes, and saved records are deleted after ${marginMs} ms already`;
    this.#full.set(isFull ? full : null, facts);
  }

  async #trim(fill: LogFill, marginMs: number): Promise<void> {
    const { lanes, pool, identity, starts, storeIsAway, log } = this.#parts;
    const partitions = lanes.partitions.filter((partition) => lanes.lane(partition)?.state === "running");
    if (partitions.length === 0 || storeIsAway()) return;
    try {
      await starts(partitions);
      const evidence = await readEvidence(pool, identity.epoch, partitions, marginMs);
      await this.#delete(this.#decide(fill, evidence, marginMs), fill, marginMs);
    } catch (error) {
      if (isBroken(error)) throw error;
      log.warn("log not trimmed", { error: (error as Error).message });
    }
  }

  /** Partition → first offset to keep. */
  #decide(fill: LogFill, evidence: ReadonlyMap<number, Evidence>, marginMs: number): Map<number, bigint> {
    const apartMs = Math.max(
      0,
      ...[...evidence.values()].map(({ nowMs }) => Math.abs(nowMs - this.#parts.clock.now())),
    );
    const apart = `clocks: the database's and this machine's are ${Math.round(apartMs)} ms apart, so nothing is deleted from the log`;
    this.#clocks.set(apartMs > CLOCKS_APART_MS_MAX ? apart : null, { apartMs: Math.round(apartMs) });
    if (apartMs > CLOCKS_APART_MS_MAX) return new Map();
    const found = new Map<number, bigint>();
    for (const [partition, one] of evidence) {
      const range = fill.partitions.get(partition);
      const offset = range === undefined ? null : trimTo(one, range, marginMs);
      if (offset !== null) found.set(partition, offset);
    }
    return found;
  }

  async #delete(offsets: ReadonlyMap<number, bigint>, fill: LogFill, marginMs: number): Promise<void> {
    const { admin, identity, metrics, log } = this.#parts;
    if (offsets.size === 0) return;
    try {
      await admin.deleteBelow(identity.topic, offsets);
    } catch (error) {
      // A leader that knows less than the one before: nothing was deleted, and the next round asks it anew.
      if (!(error instanceof OffsetOutOfRange)) throw error;
      log.warn("log not trimmed", { error: error.message });
      return;
    }
    let records = 0;
    for (const [partition, offset] of offsets)
      records += Number(offset - (fill.partitions.get(partition)?.low ?? offset));
    metrics.sinkTrimmedRecords.inc(records);
    log.info("log trimmed", { records, partitions: offsets.size, marginMs });
  }
}
