/**
 * What the controller learned outlasts the process. Roles restart every day, also under load: a sink that has to learn anew
 * takes a busy database for a free one, and does not rest until the load has gone once.
 */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { AdaptiveController, Memory } from "./controller.ts";

export interface KeeperParts {
  readonly pool: Pick<Pool, "query">;
  readonly controller: Pick<AdaptiveController, "memory" | "recall">;
  /** While the database is away it is the writer's to try it. */
  readonly storeIsAway: () => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is lost by a kill is at most so old; a baseline takes minutes to move. */
const KEEP_EVERY_MS = 60_000;
const TIMEOUT_MS = 5_000;

/** Recalls what was learned, then writes it down now and then. Several sinks keep one memory, the last one's. */
export class Keeper {
  readonly name = "pace memory";
  readonly #parts: KeeperParts;

  constructor(parts: KeeperParts) {
    this.#parts = parts;
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#try("pace not recalled", () => this.#recall());
    while (!signal.aborted) {
      await this.#parts.clock.sleep(KEEP_EVERY_MS, signal);
      if (!this.#parts.storeIsAway()) await this.#try("pace not kept", () => this.#keep());
    }
  }

  async #recall(): Promise<void> {
    const { pool, controller, log } = this.#parts;
    const rows = await pool.query<{ way: string; unitMs: number; ageMs: number }>(
      // PostgreSQL takes NaN for larger than infinity. What nothing can cost would be rested for until it is forgotten.
      `SELECT way, unit_ms AS "unitMs", extract(epoch FROM now() - learned_at)::float8 * 1000 AS "ageMs"
         FROM spillway.pace WHERE unit_ms > 0 AND unit_ms < 'Infinity'`,
      [],
      TIMEOUT_MS,
    );
    const memory: Memory = Object.fromEntries(
      rows.map(({ way, unitMs, ageMs }) => [way, { cost: unitMs, ageMs: Math.max(0, ageMs) }]),
    );
    controller.recall(memory);
    if (rows.length > 0) log.info("pace recalled", { copyUnitMs: memory.copy?.cost, stageUnitMs: memory.stage?.cost });
  }

  async #keep(): Promise<void> {
    const { pool, controller } = this.#parts;
    const learned = Object.entries(controller.memory);
    if (learned.length === 0) return;
    await pool.query(
      `INSERT INTO spillway.pace (way, unit_ms, learned_at)
       SELECT way, unit_ms, now() - age_ms * interval '1 millisecond'
         FROM unnest($1::text[], $2::float8[], $3::float8[]) AS l(way, unit_ms, age_ms)
       ON CONFLICT (way) DO UPDATE SET unit_ms = EXCLUDED.unit_ms, learned_at = EXCLUDED.learned_at`,
      [learned.map(([way]) => way), learned.map(([, { cost }]) => cost), learned.map(([, { ageMs }]) => ageMs)],
      TIMEOUT_MS,
    );
  }

  /** Saving does not depend on it. */
  async #try(failed: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#parts.log.warn(failed, { error: (error as Error).message });
    }
  }
}
