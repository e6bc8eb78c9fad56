/**
 * How large the next batch is, and how long to rest before it: what the database can bear is felt from how long the last
 * batches took. Pure: samples in, decision out, time comes with the samples. `npm run bench -- throttle` holds the
 * experiments that these constants stand on.
 *
 *   batch  so many units that their rows take 150 ms; down to 50 ms the more others are felt,
 *          and among several sinks fewer at once after a batch that took far longer
 *   rest   as long as the batch exceeded what it takes at rest: the sink never takes less than half of its time
 *
 * Errors do not come here (circuit.ts): a lock or a restart says nothing about how much the database can bear.
 */
import { Baseline, type Learned } from "./baseline.ts";

/** One batch that was saved. */
export interface Sample {
  /** When it was saved, by a monotonic clock, in ms. */
  readonly atMs: number;
  /** How its rows went in: each way has costs of its own. */
  readonly way: "copy" | "stage";
  /** Its size as units() counts it. */
  readonly units: number;
  /** A round trip in which the database does next to nothing. */
  readonly tripMs: number;
  /** Writing the rows, in so many round trips. */
  readonly rowsMs: number;
  readonly trips: number;
  readonly totalMs: number;
}

export interface Decision {
  readonly unitsMax: number;
  readonly restMs: number;
  /** How many times its baseline the last batches' cost was; 1 while nothing is known. */
  readonly stretch: number;
}

export interface Controller {
  /** @param urgency 0: there is time; 1: the backlog must shrink, whoever has to wait for it */
  decide(urgency: number): Decision;
  observe(sample: Sample): void;
}

/** What a controller knows and can go on from after a restart. */
export type Memory = Partial<Readonly<Record<Sample["way"], Learned>>>;

/**
 * A batch's size: a row and 1,200 bytes of its line cost the same. COPY on PostgreSQL 18.4 took 16 µs a row with 220 bytes
 * of data, 36 µs with 2,000, 200 µs with 16,000.
 */
export const units = (rows: number, bytes: number): number => rows + bytes / 1_200;

/** Of writing rows, a batch: with more, others wait longer behind one of ours, and rows/s hardly grow. */
const TARGET_MS = 150;
/**
 * From about twice the baseline's cost on. Beside two aggregations reads had 1.6 times the p95 and 1.7 times the p99 that they
 * have without a sink, against 2.1 and 2.2 with batches of 150 ms, for a fifth less rows; 20 ms halved the rows and gained
 * nothing more. Not in one step: sinks on either side of it would share unfairly.
 */
const TARGET_BUSY_MS = 50;
/** The smallest limit: below it a batch's fixed costs rule. */
export const UNITS_MIN = 100;
/** A batch of less tells nothing about the database. Well below the limit: a full batch falls short of it by part of a record. */
const UNITS_TELLING = UNITS_MIN / 2;
/** About 5,000 rows of 220 bytes: larger batches gained nothing. */
export const UNITS_MAX = 6_500;
const UNITS_FIRST = 200;
/**
 * So many times a batch that told something the next one may be. The round trip is taken off a batch's time; where the first one was
 * slow, as a database is when several sinks begin at once, a batch seems to cost nothing: one of 200 was followed by one of 6,500, for 1.8 s.
 */
const GROWTH = 4;
/** Growing indexes and checkpoints stretch a free database's costs to here. */
const STRETCH_IDLE = 1.5;
/** A lock or a stall costs one bounded rest. */
export const REST_MS_MAX = 500;
/** Round trips kept: the least of them waited for nothing. */
const TRIPS = 10;
/**
 * So many times the median's cost, one batch makes the next one of a sink that shares smaller: while batches are large, the median
 * takes seconds, and sinks would save unevenly for so long. Of a sink alone, a single slow batch is luck.
 */
const SUDDEN = 2;
/** Sinks compare every second; one that no longer does goes by itself. */
const JOINED_MS = 5_000;

export class AdaptiveController implements Controller {
  #unitsMax = UNITS_FIRST;
  #restMs = 0;
  #stretch = 1;
  #way: Sample["way"] = "copy";
  readonly #baselines = { copy: new Baseline(), stage: new Baseline() };
  #trips: readonly number[] = [];
  /** What all sinks feel, to what this one does, and until when that counts, by the clock of the samples. */
  #joined = { factor: 1, untilMs: Number.NEGATIVE_INFINITY };

  /** How many times their cost at rest this sink's last batches cost; null: not known yet. */
  get felt(): number | null {
    return this.#baselines[this.#way].stretch;
  }

  /**
   * Goes by what all sinks feel instead of what this one feels by itself. By themselves they would not share evenly: under
   * load a large batch costs less a unit than a small one, so whoever once was lucky and sent larger ones would go on to.
   * @param factor what all feel, to what this one does @param atMs now, by the clock of the samples
   */
  join(factor: number, atMs: number): void {
    this.#joined = { factor, untilMs: atMs + JOINED_MS };
  }

  get memory(): Memory {
    const { copy, stage } = this.#baselines;
    return { ...(copy.learned && { copy: copy.learned }), ...(stage.learned && { stage: stage.learned }) };
  }

  /** How many batches of each way told something. */
  get samples(): Readonly<Record<Sample["way"], number>> {
    const { copy, stage } = this.#baselines;
    return { copy: copy.samples, stage: stage.samples };
  }

  /** @param atMs now, by the clock of the samples */
  recall({ copy, stage }: Memory, atMs: number): void {
    if (copy) this.#baselines.copy.recall(copy, atMs);
    if (stage) this.#baselines.stage.recall(stage, atMs);
  }

  decide(urgency: number): Decision {
    return { unitsMax: this.#unitsMax, restMs: this.#restMs * (1 - urgency), stretch: this.#stretch };
  }

  observe({ atMs, way, units: size, tripMs, rowsMs, trips, totalMs }: Sample): void {
    this.#trips = [...this.#trips, tripMs].slice(-TRIPS);
    // Round trips are the network's and not the database's.
    const workMs = Math.max(0.2, rowsMs - trips * Math.min(...this.#trips));
    this.#restMs = 0;
    // A trickle is never congestion.
    if (size < UNITS_TELLING) return;
    const unitMs = workMs / size;
    const cost = this.#baselines[way].learn(unitMs, atMs);
    this.#way = way;
    const shares = atMs < this.#joined.untilMs;
    this.#stretch = (this.felt ?? 1) * (shares ? this.#joined.factor : 1);
    const targetMs = Math.max(TARGET_BUSY_MS, TARGET_MS * Math.min(1, (STRETCH_IDLE / this.#stretch) ** 3));
    const most = Math.min(UNITS_MAX, GROWTH * size);
    this.#unitsMax = Math.min(most, Math.max(UNITS_MIN, targetMs / Math.max(cost, shares ? unitMs / SUDDEN : 0)));
    this.#restMs = Math.min(REST_MS_MAX, totalMs * Math.max(0, 1 - STRETCH_IDLE / this.#stretch));
  }
}
