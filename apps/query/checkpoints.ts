/**
 * What this node knows of the database: the last checkpoints it showed, and whether it answers. A small poll keeps the tail
 * short while nobody reads; it also finds out that a lost database is back, so that reads need not try.
 */
import type { Clock } from "#lib/clock.ts";
import type { ConnectedLog } from "#lib/connect.ts";
import { isBroken } from "#lib/continuity.ts";
import type { Log } from "#lib/log.ts";
import { isWrongStore } from "#lib/postgres/identity.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import type { Rows } from "./rows.ts";
import type { Tail } from "./tail.ts";

/** While something is unsaved, else. */
const POLL_MS = 500;
const IDLE_MS = 5_000;
/** A poll is one small statement. */
const TIMEOUT_MS = 2_000;

/**
 * All checkpoints, and tables that are up to date. The first question is the small one, so that a database that takes
 * connections and is silent is found out soon.
 * @param prepare brings the tables up to date; null: they are
 * @throws whatever the pool gives
 */
async function askCheckpoints(
  rows: Pick<Rows, "checkpoints">,
  epoch: number,
  prepare: (() => Promise<unknown>) | null,
): Promise<ReadonlyMap<number, bigint>> {
  try {
    const found = await rows.checkpoints(epoch, TIMEOUT_MS);
    await prepare?.();
    return found;
  } catch (error) {
    // No such schema or table.
    if (prepare === null || classify(error) !== "bug") throw error;
    await prepare();
    return rows.checkpoints(epoch, TIMEOUT_MS);
  }
}

/** What a node begins with. */
interface First {
  readonly known: ReadonlyMap<number, bigint>;
  /** Still to be done when the database is reached; null: it was. */
  readonly prepare: (() => Promise<void>) | null;
}

/** The database's word; without it the control topic's, which may be old and then only makes the tail longer. */
export async function firstCheckpoints(
  rows: Pick<Rows, "checkpoints">,
  { identity, control }: Pick<ConnectedLog, "identity" | "control">,
  prepare: () => Promise<void>,
  log: Log,
): Promise<First> {
  try {
    return { known: await askCheckpoints(rows, identity.epoch, prepare), prepare: null };
  } catch (error) {
    if (isWrongStore(error) || isBroken(error)) throw error;
    log.warn("database not reached yet", { error: (error as Error).message });
  }
  const known = new Map<number, bigint>();
  for (let partition = 0; partition < identity.partitions; partition++) {
    const checkpoint = control.checkpoint(identity.epoch, partition);
    if (checkpoint !== undefined) known.set(partition, checkpoint.nextOffset);
  }
  return { known, prepare };
}

export class Checkpoints {
  readonly name = "checkpoint poll";
  readonly #epoch: number;
  readonly #rows: Pick<Rows, "checkpoints">;
  readonly #tail: Tail;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #known = new Map<number, bigint>();
  /** Brings the tables up to date, once, when the database is reached for the first time; null: they are. */
  #prepare: (() => Promise<unknown>) | null;
  #awaySinceMs: number | null = null;
  #awayWhy = "";

  constructor(given: {
    epoch: number;
    rows: Pick<Rows, "checkpoints">;
    tail: Tail;
    log: Log;
    clock: Clock;
    known: ReadonlyMap<number, bigint>;
    prepare: (() => Promise<unknown>) | null;
  }) {
    this.#prepare = given.prepare;
    this.#epoch = given.epoch;
    this.#rows = given.rows;
    this.#tail = given.tail;
    this.#log = given.log;
    this.#clock = given.clock;
    for (const [partition, nextOffset] of given.known) this.#known.set(partition, nextOffset);
  }

  /** The last checkpoint that the database or, before it answered, the control topic showed; null: none. */
  known(partition: number): bigint | null {
    return this.#known.get(partition) ?? null;
  }

  /** Whether the database counts as away: what needs it is refused at once until the poll reaches it again. */
  get away(): boolean {
    return this.#awaySinceMs !== null;
  }

  get awaySinceMs(): number | null {
    return this.#awaySinceMs;
  }

  /** What the last statement that failed was told; "" while none has. */
  get awayWhy(): string {
    return this.#awayWhy;
  }

  /** Passes a snapshot's checkpoint on. @param startBefore the tail's start before the snapshot was asked for */
  observe(partition: number, nextOffset: bigint | null, startBefore: bigint): void {
    if (nextOffset === null) this.#known.delete(partition);
    else this.#known.set(partition, nextOffset);
    this.#tail.observe(partition, nextOffset, startBefore);
  }

  /** A statement failed. @returns whether the database counts as away now */
  failed(error: unknown): boolean {
    const why = classify(error);
    if (why === "down") this.#lost(error);
    return this.away;
  }

  /** Asks for all checkpoints now. @returns whether the database answered */
  async refresh(): Promise<boolean> {
    const starts = this.#tail.partitions.map(
      (partition) => [partition, this.#tail.partition(partition).start] as const,
    );
    try {
      const found = await askCheckpoints(this.#rows, this.#epoch, this.#prepare);
      this.#prepare = null;
      if (this.away) this.#log.info("database reached");
      this.#awaySinceMs = null;
      for (const [partition, startBefore] of starts) this.observe(partition, found.get(partition) ?? null, startBefore);
      return true;
    } catch (error) {
      if (isWrongStore(error) || isBroken(error)) throw error;
      this.#lost(error);
      return false;
    }
  }

  /** Polls until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.refresh();
      const idle = !this.away && this.#tail.partitions.every((partition) => this.#tail.partition(partition).empty);
      await this.#clock.sleep(idle ? IDLE_MS : POLL_MS * (0.75 + this.#clock.random() / 2), signal);
    }
  }

  #lost(error: unknown): void {
    this.#awayWhy = error instanceof Error ? error.message : String(error);
    if (this.away) return;
    this.#log.warn("database lost", { error: this.#awayWhy });
    this.#awaySinceMs = this.#clock.now();
  }
}
