/** What the relay that works does beside publishing: removes recorded rows, looks at what waits, and who keeps writers waiting. */
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Reason } from "#lib/operator.ts";
import { Alarm } from "#lib/retention-alarm.ts";
import type { Backlog, Blocker, EventBuffer } from "./buffer.ts";

export interface HousekeepingParts {
  readonly buffer: Pick<EventBuffer, "removeRecorded" | "backlog" | "blockers">;
  /** Recorded rows stay for so long. */
  readonly keepMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** One step of the removal: a few ms, so that publishing hardly waits for it. */
const STEP_ROWS = 1_000;
/** While there may be more, so 5,000 rows a second at most; and after a step that found the rest too young. */
const STEP_EVERY_MS = 200;
const SWEEP_EVERY_MS = 10_000;
const LOOK_EVERY_MS = 5_000;
/** To count very many waiting rows, or to go over very many dead ones, takes its time: a twentieth of it all at most, also where it is given up. */
const SHARE = 20;
/** A row is published within a second. One that has waited for so long at two looks in a row is not for its transaction's sake. */
const OLD_MS = 10_000;
/** A transaction that keeps writers waiting for so long is told. */
const BLOCKED_MS = 5_000;

export class Housekeeping {
  readonly #parts: HousekeepingParts;
  readonly #grows: Alarm;
  readonly #blocked: Alarm;
  #sweptTo = "0";
  #sweepAtMs = Number.NEGATIVE_INFINITY;
  #lookAtMs = Number.NEGATIVE_INFINITY;
  #wasOld = false;
  #waitingBefore = 0;

  constructor(parts: HousekeepingParts) {
    this.#parts = parts;
    this.#grows = new Alarm("event buffer's backlog grows", "event buffer's backlog grows no more", parts);
    this.#blocked = new Alarm("writers wait for a transaction", "writers wait no more", parts);
  }

  /** What weakens the relay. */
  get reasons(): readonly Reason[] {
    return [...this.#grows.reasons, ...this.#blocked.reasons];
  }

  /**
   * Does what is due; never rejects: a database that is away is the next round's to tell.
   * @param works false: another relay does it now, and knows how things are
   */
  async tend(works: boolean): Promise<void> {
    const { clock, log } = this.#parts;
    if (!works) return this.#forget();
    const begunMs = clock.elapsed();
    const [sweeps, looks] = [clock.elapsed() >= this.#sweepAtMs, clock.elapsed() >= this.#lookAtMs];
    try {
      if (sweeps) await this.#sweep(begunMs);
      if (looks) await this.#look();
    } catch (error) {
      log.warn("event buffer not tended", { error: error instanceof Error ? error.message : String(error) });
      this.#sweepAtMs = clock.elapsed() + this.#pause(SWEEP_EVERY_MS, begunMs);
      this.#lookAtMs = clock.elapsed() + this.#pause(LOOK_EVERY_MS, begunMs);
    }
  }

  /** After what took long, longer than usual. */
  #pause(usualMs: number, begunMs: number): number {
    return Math.max(usualMs, SHARE * (this.#parts.clock.elapsed() - begunMs));
  }

  #forget(): void {
    this.#judgeBacklog({ waiting: 0, oldestMs: 0, setAside: 0 });
    this.#judgeBlocker(undefined);
    this.#lookAtMs = Number.NEGATIVE_INFINITY;
  }

  async #sweep(begunMs: number): Promise<void> {
    const { buffer, keepMs, clock, metrics } = this.#parts;
    const { rows, last, more } = await buffer.removeRecorded(this.#sweptTo, STEP_ROWS, keepMs);
    // From the start again after a while: a long transaction's rows appear behind. What was removed and cannot be vacuumed is gone over then.
    this.#sweptTo = more ? last : "0";
    this.#sweepAtMs = clock.elapsed() + (more ? STEP_EVERY_MS : this.#pause(SWEEP_EVERY_MS, begunMs));
    metrics.relayRemovedRows.inc(rows);
  }

  async #look(): Promise<void> {
    const { buffer, clock } = this.#parts;
    const begunMs = clock.elapsed();
    const backlog = await buffer.backlog();
    const [blocker] = await buffer.blockers();
    this.#lookAtMs = clock.elapsed() + this.#pause(LOOK_EVERY_MS, begunMs);
    this.#judgeBacklog(backlog);
    this.#judgeBlocker(blocker);
  }

  #judgeBacklog(backlog: Backlog): void {
    const { metrics } = this.#parts;
    const { waiting, oldestMs, setAside } = backlog;
    metrics.relayBacklogRows.set(waiting);
    metrics.relayBacklogOldestMs.set(oldestMs);
    metrics.relaySetAsideRows.set(setAside);
    const old = oldestMs > OLD_MS;
    const course =
      waiting < this.#waitingBefore ? "there were more at the look before" : "there were no more at the look before";
    const what = `event buffer: ${waiting} rows wait, the oldest for ${Math.round(oldestMs / 1_000)} s; ${course}`;
    this.#grows.set(old && this.#wasOld ? what : null, { ...backlog });
    this.#wasOld = old;
    this.#waitingBefore = waiting;
  }

  #judgeBlocker(blocker: Blocker | undefined): void {
    const { metrics } = this.#parts;
    metrics.relayBlockerMs.set(blocker?.ageMs ?? 0);
    const told = blocker !== undefined && (blocker.ageMs ?? Number.POSITIVE_INFINITY) > BLOCKED_MS;
    this.#blocked.set(told ? blockerText(blocker) : null, told ? { ...blocker } : {});
  }
}

function blockerText({ pid, gid, ageMs, state, application, writersWaiting }: Blocker): string {
  const who =
    pid === null
      ? `the prepared transaction ${gid}`
      : `process ${pid} (${application || "no application_name"}, ${state})`;
  const age = ageMs === null ? "" : `, open for ${Math.round(ageMs / 1_000)} s`;
  const end =
    pid === null ? "COMMIT PREPARED or ROLLBACK PREPARED ends it" : `SELECT pg_terminate_backend(${pid}) would end it`;
  return `event buffer: ${writersWaiting} writers wait for ${who}${age}: ${end}`;
}
