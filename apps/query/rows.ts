/** What is saved of a client, each time with the checkpoint from the same snapshot. One statement a question, or many. */
import type { Clock } from "#lib/clock.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { TailEvent } from "./client-tail.ts";
import { Coalescer, type TOO_LARGE } from "./coalesce.ts";
import { Firsts } from "./firsts.ts";
import type { Selection } from "./merge.ts";
import type { ClientOrder, Place } from "./places.ts";
import { type AnswerRow, type Asked, PageQuestion, parameters, type Saved, textOf, understand } from "./questions.ts";
import { VERDICTS } from "./statements.ts";

export type { Asked, Saved } from "./questions.ts";

/** What live followers need to know about events. */
export interface Verdicts {
  readonly checkpoints: ReadonlyMap<number, bigint>;
  /** In the order asked; null: not saved. */
  readonly places: readonly (Place | null)[];
}

/** What a row has, before any was read; then it follows what is read, in steps of a tenth. */
const ROW_BYTES = 500;

export class Rows {
  readonly #pool: Pool;
  readonly #pages: Coalescer<PageQuestion, Saved>;
  readonly #firsts = new Firsts();
  readonly #clock: Clock;
  #rowBytes = ROW_BYTES;

  /** @param connections of the pool @param metrics where the waits of pages for one are counted */
  constructor(pool: Pool, connections: number, clock: Clock, metrics?: Pick<Metrics, "queryPageWaitMs">) {
    this.#pool = pool;
    this.#clock = clock;
    this.#pages = new Coalescer(
      connections,
      clock,
      (questions, timeoutMs) => this.#ask(questions, timeoutMs),
      (ms) => metrics?.queryPageWaitMs.observe(ms),
    );
  }

  /**
   * Checkpoint, a page of rows below it, and where the identities given are saved: one snapshot, taken after this call.
   * @throws whatever the pool gives, a time-out after `timeoutMs`; ProblemError overloaded
   */
  page(order: ClientOrder, selection: Selection, asked: Asked, timeoutMs: number): Promise<Saved> {
    const untilMs = this.#clock.elapsed() + timeoutMs;
    return this.#firsts.page(order.partition, asked, (open) => {
      const question = new PageQuestion(order, selection, open, this.#rowBytes);
      return this.#pages.ask(question, Math.max(1, untilMs - this.#clock.elapsed()));
    });
  }

  /** Every partition's checkpoint; partitions without one are left out. @throws whatever the pool gives */
  async checkpoints(epoch: number, timeoutMs: number): Promise<ReadonlyMap<number, bigint>> {
    const rows = await this.#pool.query<{ partition: number; next_offset: string }>(
      "SELECT partition, next_offset::text FROM spillway.checkpoint WHERE log_epoch = $1",
      [epoch],
      timeoutMs,
    );
    return new Map(rows.map((row) => [row.partition, BigInt(row.next_offset)]));
  }

  /** Where events of any clients are saved, with the checkpoints: one snapshot. @throws as `checkpoints` */
  async verdicts(epoch: number, events: readonly TailEvent[], timeoutMs: number): Promise<Verdicts> {
    const rows = await this.#pool.query<{ nth: number | null; epoch: number; offset: string }>(
      VERDICTS,
      [epoch, events.map(({ clientId }) => clientId), events.map(({ id }) => id)],
      timeoutMs,
    );
    const checkpoints = new Map<number, bigint>();
    const places = new Array<Place | null>(events.length).fill(null);
    for (const { nth, epoch: number, offset } of rows) {
      if (nth === null) checkpoints.set(number, BigInt(offset));
      else places[nth - 1] = { epoch: number, offset: BigInt(offset) };
    }
    return { checkpoints, places };
  }

  async #ask(questions: readonly PageQuestion[], timeoutMs: number): Promise<(Saved | typeof TOO_LARGE)[]> {
    const rows = await this.#pool.rows<AnswerRow>(textOf(questions), parameters(questions), timeoutMs);
    const { answers, events, bytes, server } = understand(questions, rows);
    this.#firsts.answeredBy(server);
    if (events > 0) this.#rowBytes += (bytes / events - this.#rowBytes) / 10;
    return answers;
  }
}
