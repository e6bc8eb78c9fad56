/**
 * Rows → acknowledged records: one page after the other, each by position, stamped only when the log has it.
 *
 * Why the first copies of one client's events stand in the order of its commits, whatever relays do and wherever they die:
 * a relay hands a row to the log only when every earlier row of its client is on the log (acknowledged here, or `recorded`,
 * which follows an acknowledgement), set aside, or before it in the same append. For a page begins with the lowest row that
 * is visible and waits; whoever sees a row sees every earlier one of its client (schemas/buffer); and the publisher has one send
 * under way. So wherever a row's record lands, an earlier row's lies below it, and this needs nothing of other relays: one
 * that was frozen or cut off while its append was under way, and that another has replaced, adds only copies of what its
 * page held, under the same ids, and the first copy of an id counts. Hence the lease spares work and decides nothing, and
 * a row is published again after every doubt.
 */
import type { Clock } from "#lib/clock.ts";
import type { Event } from "#lib/event.ts";
import { isRecordRefused } from "#lib/kafka/errors.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { backoffMs } from "#lib/postgres/backoff.ts";
import { isWrongStore } from "#lib/postgres/identity.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import type { Alarm } from "#lib/retention-alarm.ts";
import { LogFull } from "#lib/retention-guard.ts";
import type { Task } from "#lib/run.ts";
import type { Aside, EventBuffer, Row } from "./buffer.ts";
import { judge } from "./judge.ts";

export interface RelayParts {
  readonly buffer: Pick<EventBuffer, "lease" | "release" | "page" | "record" | "setAside">;
  /** @throws NotAcknowledged */
  readonly publish: (events: readonly Event[]) => Promise<unknown>;
  /** What else a relay does now and then, with whether it is the one that works; never rejects. */
  readonly tend: (works: boolean) => Promise<void>;
  /** The database does not answer. */
  readonly storeAlarm: Pick<Alarm, "set">;
  /** The log does not take rows. */
  readonly logAlarm: Pick<Alarm, "set">;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

const PAGE_ROWS_MAX = 1_000;
/** With one event above it, 4.4 MiB: a third of what the publisher may have in flight. */
export const PAGE_BYTES_MAX = 4 * 1024 * 1024;
/** After rows came, and after long silence. */
const POLL_MS_MIN = 50;
const POLL_MS_MAX = 1_000;
/**
 * Longer than a round while the log is away (4.5 s until the publisher gives up), or relays would take turns for nothing. Who died is
 * replaced within this and one look: 8 s.
 */
const LEASE_MS = 7_000;
const RENEW_MS = 2_000;
const STANDBY_LOOK_MS = 1_000;
/** While the log takes nothing: first wait, longest wait. */
const LOG_WAIT_MS = [100, 2_000] as const;
/** A full log says when to ask again; sooner than the lease ends. */
const FULL_WAIT_MS_MAX = 5_000;

type Good = Extract<ReturnType<typeof judge>, { readonly ok: true }>;

export class Relay implements Task {
  readonly name = "relay";
  readonly #parts: RelayParts;
  readonly #holder: string;
  /** Until then the lease needs no renewal; null: another relay may hold it. */
  #renewAtMs: number | null = null;
  /** null: not known yet. */
  #standsBy: boolean | null = null;
  /** Halved when the log did not take a page: too much for a slow way to it, or a record among them that it refuses. */
  #rowsMax = PAGE_ROWS_MAX;
  #failures = 0;

  constructor(parts: RelayParts) {
    this.#parts = parts;
    this.#holder = parts.clock.newId();
  }

  /** Works until `signal` aborts; the page in hand is finished. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    let waitMs = POLL_MS_MIN;
    while (!signal.aborted) {
      waitMs = await this.#round(waitMs);
      if (waitMs > 0) await clock.sleep(waitMs, signal);
    }
    await this.#giveWay();
  }

  /** @returns ms to wait before the next one */
  async #round(waitedMs: number): Promise<number> {
    const { clock, storeAlarm, logAlarm, tend, metrics } = this.#parts;
    const [begunMs, rowsMax] = [clock.elapsed(), this.#rowsMax];
    let waitMs: number;
    try {
      metrics.relayRounds.inc();
      const taken = await this.relayOnce();
      logAlarm.set(null, {});
      this.#failures = 0;
      // A poll that takes long, as over many dead rows, is not to keep the database busy all the time.
      const tookMs = Math.min(POLL_MS_MAX, clock.elapsed() - begunMs);
      const idleMs = Math.max(
        tookMs,
        taken > 0 ? POLL_MS_MIN : Math.min(POLL_MS_MAX, Math.max(POLL_MS_MIN, 2 * waitedMs)),
      );
      waitMs = taken >= rowsMax ? 0 : this.#standsBy ? STANDBY_LOOK_MS : idleMs;
    } catch (error) {
      this.#failures += 1;
      if (!(error instanceof NotAcknowledged)) return this.#storeFailed(error);
      waitMs = await this.#logFailed(error);
    }
    storeAlarm.set(null, {});
    await tend(this.#standsBy === false);
    return waitMs;
  }

  /**
   * Takes what waits, up to a page, publishes and stamps it; what can be no event is set aside.
   * @returns how many rows; none while another relay works
   * @throws NotAcknowledged; what the database gives
   */
  async relayOnce(): Promise<number> {
    const { buffer, clock } = this.#parts;
    if (!(await this.#leads())) return 0;
    const rows = await buffer.page(this.#rowsMax, PAGE_BYTES_MAX);
    const receivedAtMs = clock.now();
    const [good, bad]: [Good[], Aside[]] = [[], []];
    for (const row of rows) {
      const judged = judge(row, receivedAtMs);
      if (judged.ok) good.push(judged);
      else bad.push(judged);
    }
    if (bad.length > 0) await this.#setAside(bad);
    if (good.length > 0) await this.#publish(good);
    return rows.length;
  }

  async #leads(): Promise<boolean> {
    const { buffer, clock, log, metrics } = this.#parts;
    const now = clock.elapsed();
    if (this.#renewAtMs !== null && now < this.#renewAtMs) return true;
    const leads = await buffer.lease(this.#holder, LEASE_MS);
    if (leads === this.#standsBy || this.#standsBy === null)
      log.info(leads ? "relay works" : "relay stands by: another one works", { holder: this.#holder });
    this.#renewAtMs = leads ? now + RENEW_MS : null;
    this.#standsBy = !leads;
    metrics.relayStandby.set(leads ? 0 : 1);
    return leads;
  }

  /** Publishes rows in their order and stamps them. One that the log refuses for what it is stands alone in the end, and is set aside. */
  async #publish(good: readonly Good[]): Promise<void> {
    const { publish, buffer, metrics } = this.#parts;
    try {
      await publish(good.map(({ event }) => event));
    } catch (error) {
      if (!(error instanceof NotAcknowledged) || error instanceof LogFull) throw error;
      const [first] = good;
      if (first !== undefined && good.length === 1 && isRecordRefused(error))
        return this.#setAside([{ row: first.row, code: "invalid-event", why: `the log refused it: ${error.message}` }]);
      this.#rowsMax = Math.max(1, good.length >> 1);
      throw error;
    }
    this.#rowsMax = Math.min(PAGE_ROWS_MAX, this.#rowsMax * 2);
    // Should this be refused or never arrive, the rows are published once more, and are one event each all the same.
    await buffer.record(good.map(({ row }): Row => row));
    metrics.relayPublished.inc(good.length);
  }

  async #setAside(rows: readonly Aside[]): Promise<void> {
    const { buffer, log, metrics } = this.#parts;
    await buffer.setAside(rows);
    for (const { row, code, why } of rows) {
      metrics.relaySetAside.inc({ code });
      log.warn("row set aside", { position: row.position, clientId: row.clientId, id: row.id, code, why });
    }
  }

  async #logFailed(error: NotAcknowledged): Promise<number> {
    const { clock, logAlarm } = this.#parts;
    // The guard tells of it, and another relay would find the same log.
    if (error instanceof LogFull) return Math.min(FULL_WAIT_MS_MAX, error.retryAfterSeconds * 1_000);
    // Not the log is at fault, but a row that half the page will be without.
    if (isRecordRefused(error)) return 0;
    logAlarm.set(error.message, { reason: error.reason });
    // Another relay may reach the log.
    await this.#giveWay();
    const [first, longest] = LOG_WAIT_MS;
    const wait = Math.min(longest, first * 2 ** Math.min(this.#failures - 1, 10));
    return Math.round(wait * (0.5 + clock.random() / 2));
  }

  #storeFailed(error: unknown): number {
    if (isWrongStore(error)) throw error;
    const { clock, storeAlarm, metrics } = this.#parts;
    const errorClass = classify(error);
    metrics.relayStoreErrors.inc({ class: errorClass });
    storeAlarm.set(`${errorClass}: ${error instanceof Error ? error.message : String(error)}${remedy(error)}`, {});
    // How long this took is not known, nor who leads now.
    this.#renewAtMs = null;
    return backoffMs(errorClass, this.#failures, clock);
  }

  async #giveWay(): Promise<void> {
    if (this.#renewAtMs === null) return;
    this.#renewAtMs = null;
    // It ends by itself too.
    await this.#parts.buffer.release(this.#holder).catch(() => undefined);
  }
}

/** What to do about an error of the database, where it is known. */
function remedy(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown };
  // Table, function, column, schema: none of that name.
  if (code === "42P01" || code === "42883" || code === "42703" || code === "3F000")
    return "; the event buffer is not there or not up to date: npm run relay -- install";
  if (code === "25006") return "; this server takes no writes: promote it, or name the primary in DATABASE_URL";
  if (code === "42501") return "; give the relay's role its rights: npm run relay -- install --relay-role NAME";
  return "";
}
