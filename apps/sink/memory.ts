/**
 * What the controllers learned is one memory for all sinks, in the database, and outlasts each of them. Roles restart every day,
 * also under load: a sink that has to learn anew takes a busy database for a free one, and does not rest until the load has
 * gone once. And of sinks that each know another cost at rest, or feel another load, one rests more than the next.
 */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { Learned } from "./baseline.ts";
import type { AdaptiveController, Memory } from "./controller.ts";

export interface KeeperParts {
  readonly pool: Pick<Pool, "query">;
  readonly controller: AdaptiveController;
  /** While the database is away it is the writer's to try it. */
  readonly storeIsAway: () => boolean;
  /** Of all partitions, those that are this sink's, from 0 to 1. */
  readonly part: () => number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Sinks that save agree this often; each costs two or three statements of a row or two. */
export const SHARE_EVERY_MS = 1_000;
/** So old, what the sinks agreed on has aged in each of them, and one of them says what it is now. */
const AGREED_MS = 3_000;
/** Sinks that have nothing to save say only this often that there is one. */
const KEEP_EVERY_MS = 60_000;
const TIMEOUT_MS = 5_000;
/** What others know is told when it differs by more. */
const TOLD_SHARE = 0.1;
const WAYS = ["copy", "stage"] as const;

/**
 * What one sink tells the others, and takes from them. What a row costs at rest: the least that any of them knows counts,
 * until it has aged. Each goes on from the same cost and the same time, so that it ages in all as it would in one. And how
 * busy the database is: the mean of what they feel. Pure.
 */
export class Sharing {
  readonly #controller: AdaptiveController;
  #compared: AdaptiveController["samples"] = { copy: 0, stage: 0 };

  constructor(controller: AdaptiveController) {
    this.#controller = controller;
  }

  /** Whether it has learned something since it was compared. */
  get news(): boolean {
    return WAYS.some((way) => this.#isNew(way));
  }

  /**
   * @param theirs what the database holds
   * @param atMs now, by the clock of the samples
   * @returns what it is to hold instead
   */
  compare(theirs: Memory, atMs: number): Memory {
    const mine = this.#controller.memory;
    const told = WAYS.filter((way) => this.#knowsBetter(way, mine[way], theirs[way]));
    this.#compared = this.#controller.samples;
    const taken = WAYS.filter((way) => !told.includes(way));
    this.#controller.recall(Object.fromEntries(taken.map((way) => [way, theirs[way]])), atMs);
    return Object.fromEntries(told.map((way) => [way, mine[way]]));
  }

  /**
   * What all sinks feel follows each of them by its part. Where two tell at once one of them is passed over, until the next time.
   * @param common what the database holds; null: nothing that is still true
   * @param part of the partitions, from 0 to 1
   * @param atMs now, by the clock of the samples
   * @returns what it is to hold instead; null: this sink has nothing to tell
   */
  join(common: number | null, part: number, atMs: number): number | null {
    const { felt } = this.#controller;
    if (felt === null || part === 0) return null;
    const joined = common === null ? felt : common ** (1 - part) * felt ** part;
    this.#controller.join(joined / felt, atMs);
    return joined;
  }

  #isNew(way: (typeof WAYS)[number]): boolean {
    return this.#controller.samples[way] > this.#compared[way];
  }

  #knowsBetter(way: (typeof WAYS)[number], mine: Learned | undefined, theirs: Learned | undefined): boolean {
    if (!mine || !theirs) return mine !== undefined;
    if (!this.#isNew(way)) return theirs.ageMs > KEEP_EVERY_MS;
    return mine.cost < theirs.cost || theirs.ageMs > AGREED_MS;
  }
}

/** Keeps the memory in the database, where all sinks find it. */
export class Keeper {
  readonly name = "pace memory";
  readonly #parts: KeeperParts;
  readonly #sharing: Sharing;

  constructor(parts: KeeperParts) {
    this.#parts = parts;
    this.#sharing = new Sharing(parts.controller);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, storeIsAway, log } = this.#parts;
    let dueMs = clock.elapsed();
    let laterMs = dueMs;
    for (let last = false; !last; await clock.sleep(SHARE_EVERY_MS, signal)) {
      last = signal.aborted;
      const now = clock.elapsed();
      if (storeIsAway() || now < laterMs || (now < dueMs && !this.#sharing.news)) continue;
      dueMs = now + KEEP_EVERY_MS;
      try {
        await this.#share();
      } catch (error) {
        // Saving does not depend on it.
        log.warn("pace not shared with other sinks", { error: (error as Error).message });
        laterMs = now + KEEP_EVERY_MS;
      }
    }
  }

  async #share(): Promise<void> {
    const { pool, clock, controller, log } = this.#parts;
    const before = controller.memory;
    const rows = await pool.query<{ way: string; unitMs: number; ageMs: number }>(
      // PostgreSQL takes NaN for larger than infinity. What nothing can cost would be rested for until it is forgotten.
      `SELECT way, unit_ms AS "unitMs", extract(epoch FROM now() - learned_at)::float8 * 1000 AS "ageMs"
         FROM spillway.pace WHERE unit_ms > 0 AND unit_ms < 'Infinity'`,
      [],
      TIMEOUT_MS,
    );
    const theirs: Memory = Object.fromEntries(
      rows.map(({ way, unitMs, ageMs }) => [way, { cost: unitMs, ageMs: Math.max(0, ageMs) }]),
    );
    const mine = Object.entries(this.#sharing.compare(theirs, clock.elapsed()));
    for (const way of WAYS) tellOf(way, before[way], controller.memory[way], log);
    if (mine.length > 0)
      await pool.query(
        // Another sink may have told less since the rows were read.
        `INSERT INTO spillway.pace AS p (way, unit_ms, learned_at)
         SELECT way, unit_ms, now() - age_ms * interval '1 millisecond'
           FROM unnest($1::text[], $2::float8[], $3::float8[]) AS l(way, unit_ms, age_ms)
         ON CONFLICT (way) DO UPDATE SET unit_ms = EXCLUDED.unit_ms, learned_at = EXCLUDED.learned_at
          WHERE NOT (p.unit_ms > 0 AND p.unit_ms <= EXCLUDED.unit_ms
                     AND p.learned_at > now() - interval '${AGREED_MS} milliseconds')`,
        [mine.map(([way]) => way), mine.map(([, { cost }]) => cost), mine.map(([, { ageMs }]) => ageMs)],
        TIMEOUT_MS,
      );
    await this.#join();
  }

  /** A sink that has all partitions is alone, and goes by itself. */
  async #join(): Promise<void> {
    const { pool, clock, part } = this.#parts;
    if (part() >= 1) return;
    const [found] = await pool.query<{ stretch: number }>(
      `SELECT stretch FROM spillway.stretch
        WHERE felt_at > now() - interval '${AGREED_MS} milliseconds' AND stretch > 0 AND stretch < 'Infinity'`,
      [],
      TIMEOUT_MS,
    );
    const felt = this.#sharing.join(found?.stretch ?? null, part(), clock.elapsed());
    if (felt !== null)
      await pool.query(
        `INSERT INTO spillway.stretch (stretch, felt_at) VALUES ($1, now())
         ON CONFLICT (one) DO UPDATE SET stretch = EXCLUDED.stretch, felt_at = EXCLUDED.felt_at`,
        [felt],
        TIMEOUT_MS,
      );
  }
}

function tellOf(way: string, before: Learned | undefined, now: Learned | undefined, log: Log): void {
  if (!now || (before && Math.abs(now.cost - before.cost) < TOLD_SHARE * before.cost)) return;
  log.info("cost at rest taken from the database", { way, unitMs: now.cost, beforeMs: before?.cost });
}
