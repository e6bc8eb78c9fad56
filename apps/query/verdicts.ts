/**
 * Whether live events are copies of earlier ones. Asked in batches, one in flight, with a deadline: after it the database
 * counts as away, and until its answer is there only copies that the tail itself shows are recognised. Those are counted.
 */
import type { Clock } from "#lib/clock.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { TailEvent } from "./client-tail.ts";
import { isCopy } from "./merge.ts";
import type { Verdicts as Answer, Rows } from "./rows.ts";
import type { Tail } from "./tail.ts";

export interface VerdictParts {
  readonly epoch: number;
  /** Whether this log has succeeded another one. */
  readonly succeeds: boolean;
  partitionOf(clientId: string): number;
  readonly rows: Pick<Rows, "verdicts">;
  readonly tail: Pick<Tail, "partition" | "logStart">;
  readonly checkpoints: Pick<Checkpoints, "away" | "failed" | "observe">;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** A live event waits no longer for the database. */
export const DEADLINE_MS = 250;
/** The statement itself may take longer: its answer tells that the database is back. */
const STATEMENT_MS = 5_000;
const BATCH_EVENTS_MAX = 1_000;
/** While the log before is being saved. */
const AGAIN_MS = 100;

type Phase = "idle" | "asking" | "overdue";

export class Verdicts {
  readonly #parts: VerdictParts;
  #phase: Phase = "idle";
  /** Bounded by the tail, which holds these events. */
  #waiting: TailEvent[] = [];
  /** Told of clients whose events were decided. */
  onDecided: (clientIds: ReadonlySet<string>) => void = () => undefined;

  constructor(parts: VerdictParts) {
    this.#parts = parts;
  }

  /** Finds out about these; `onDecided` tells when. */
  ask(events: readonly TailEvent[]): void {
    for (const event of events) event.verdict = "asked";
    this.#waiting.push(...events);
    if (this.#phase === "overdue" || this.#parts.checkpoints.away) this.#decideByTail(this.#waiting.splice(0));
    else if (this.#phase === "idle") void this.#look();
  }

  async #look(): Promise<void> {
    const { rows, checkpoints, clock, epoch } = this.#parts;
    const batch = this.#waiting.splice(0, BATCH_EVENTS_MAX);
    const starts = this.#starts(batch);
    this.#phase = "asking";
    const cancel = clock.after(DEADLINE_MS, () => {
      this.#phase = "overdue";
      this.#decideByTail([...batch, ...this.#waiting.splice(0)]);
    });
    try {
      const answer = await rows.verdicts(epoch, batch, STATEMENT_MS);
      if (!this.#isOverdue()) this.#decide(batch, starts, answer);
    } catch (error) {
      checkpoints.failed(error);
      if (!this.#isOverdue()) this.#decideByTail([...batch, ...this.#waiting.splice(0)]);
    } finally {
      cancel();
      this.#phase = "idle";
    }
    if (this.#waiting.length > 0) void this.#look();
  }

  #isOverdue(): boolean {
    return this.#phase === "overdue";
  }

  /** Where the tail of each event's partition starts now. */
  #starts(batch: readonly TailEvent[]): Map<number, bigint> {
    const { tail, partitionOf } = this.#parts;
    const partitions = new Set(batch.map(({ clientId }) => partitionOf(clientId)));
    return new Map([...partitions].map((partition) => [partition, tail.partition(partition).start]));
  }

  /** @param starts the tail's, before the database was asked */
  #decide(batch: readonly TailEvent[], starts: ReadonlyMap<number, bigint>, { checkpoints, places }: Answer): void {
    const { epoch, succeeds, partitionOf, clock } = this.#parts;
    const rewound = this.#rewound(starts, checkpoints);
    const decided: TailEvent[] = [];
    const undecided = new Set<string>();
    for (const [index, event] of batch.entries()) {
      const partition = partitionOf(event.clientId);
      if (rewound.has(partition)) continue;
      // Without a checkpoint the log before is not saved whole: an earlier event of this identity may still come from there.
      if (succeeds && !checkpoints.has(partition)) {
        event.verdict = "open";
        undecided.add(event.clientId);
        continue;
      }
      const place = places[index] ?? null;
      const rows = place === null ? new Map() : new Map([[event.id, place]]);
      event.verdict = isCopy(event, epoch, checkpoints.get(partition) ?? 0n, rows) ? "copy" : "first";
      decided.push(event);
    }
    this.#tell(decided);
    if (undecided.size > 0) clock.after(AGAIN_MS, () => this.onDecided(undecided));
  }

  /**
   * Partitions whose checkpoint went back below the tail's start: records in between are neither rows nor in the tail, so
   * nothing is known of their copies. The tail begins anew there, and its events are asked about when they come again.
   */
  #rewound(starts: ReadonlyMap<number, bigint>, shown: ReadonlyMap<number, bigint>): ReadonlySet<number> {
    const { checkpoints, tail } = this.#parts;
    const rewound = new Set<number>();
    for (const [partition, start] of starts) {
      const checkpoint = shown.get(partition) ?? null;
      if ((checkpoint ?? tail.logStart(partition)) >= start) continue;
      checkpoints.observe(partition, checkpoint, start);
      rewound.add(partition);
    }
    return rewound;
  }

  #decideByTail(events: readonly TailEvent[]): void {
    if (events.length === 0) return;
    for (const event of events) event.verdict = event.previous >= 0n ? "copy" : "first";
    this.#parts.metrics.queryUncheckedEvents.inc(events.length);
    this.#tell(events);
  }

  #tell(events: readonly TailEvent[]): void {
    this.onDecided(new Set(events.map(({ clientId }) => clientId)));
  }
}
