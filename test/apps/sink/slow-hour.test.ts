/** The writer with its controller and its circuit, through an hour in which the database is slow and does not always answer. */
import { expect, test } from "vitest";
import { RecordDecoder } from "#lib/decode.ts";
import type { LogRecord } from "#lib/kafka/ports.ts";
import { createMetrics } from "#lib/metrics.ts";
import type { Pool, Transaction } from "#lib/postgres/pool.ts";
import { Circuit } from "../../../apps/sink/circuit.ts";
import { AdaptiveController, REST_MS_MAX, UNITS_MIN } from "../../../apps/sink/controller.ts";
import { Lanes } from "../../../apps/sink/lanes.ts";
import { Pace } from "../../../apps/sink/pace.ts";
import { Writer } from "../../../apps/sink/writer.ts";
import { seeded } from "../../promises/support/workload.ts";
import { type FakeClock, fakeClock } from "../../support/fake-clock.ts";
import { fetched, keptLog, recordOf, someEvent } from "../../support/records.ts";

const MINUTE_MS = 60_000;
/** Of one row while the database is well: a batch of 150 ms has 150. Few, since each row of an hour is printed. */
const ROW_MS = 1;
const STATEMENT_TIMEOUT_MS = 30_000;
/** After a time-out, as circuit.ts has them: the first, doubled with each that follows, and the longest. */
const [WAIT_MS_FIRST, WAIT_MS_MAX] = [1_000, 30_000];

interface Attempt {
  readonly beganAtMs: number;
  readonly endedAtMs: number;
  readonly rows: number;
  readonly saved: boolean;
}

/** A store in virtual time: one checkpoint, moved by compare-and-set, and a count of rows; what fails is undone. */
class SlowStore {
  slowness = 1;
  /** Whether the next COPY runs into its time limit. */
  hangs: () => boolean = () => false;
  nextOffset = 0n;
  rows = 0;
  readonly attempts: Attempt[] = [];
  /** Statements that are neither the checkpoint's nor COPY. */
  readonly others: string[] = [];
  readonly #clock: FakeClock;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  async transaction<T>(_limits: unknown, work: (transaction: Transaction) => Promise<T>): Promise<T> {
    const beganAtMs = this.#clock.elapsed();
    let [moved, copied, saved] = [this.nextOffset, 0, false];
    try {
      await this.#clock.sleep(0.2);
      const result = await work({
        beginMs: 0.2,
        query: async <R>(text: string, values: readonly unknown[] = []): Promise<R[]> => {
          if (!text.includes("UPDATE spillway.checkpoint")) this.others.push(text);
          const [, partitions, [expected], [next]] = values as [number, number[], string[], string[]];
          if (BigInt(expected as string) !== this.nextOffset) return [];
          moved = BigInt(next as string);
          return partitions.map((partition) => ({ partition })) as R[];
        },
        copy: async (_text, data) => {
          copied = data.toString().split("\n").length - 1;
          const hangs = this.hangs();
          await this.#clock.sleep(hangs ? STATEMENT_TIMEOUT_MS : copied * ROW_MS * this.slowness);
          if (hangs) throw Object.assign(new Error("canceling statement due to statement timeout"), { code: "57014" });
        },
      });
      await this.#clock.sleep(2 * this.slowness);
      this.nextOffset = moved;
      this.rows += copied;
      saved = true;
      return result;
    } finally {
      this.attempts.push({ beganAtMs, endedAtMs: this.#clock.elapsed(), rows: copied, saved });
    }
  }
}

/** A writer at work on a log that never ends. */
function scene() {
  const [clock, log, metrics, circuit] = [fakeClock(), keptLog(), createMetrics(), new Circuit()];
  const store = new SlowStore(clock);
  const orders = { pause: () => undefined, resume: () => undefined, seek: () => undefined };
  const lanes = new Lanes(orders, clock, log, 64 * 1024 * 1024);
  lanes.assign([0]);
  lanes.lane(0)?.start(0n);
  const record = recordOf(someEvent(), 0n);
  const fill = (): void => {
    const lane = lanes.lane(0);
    if (lane === undefined || lane.waitingRecords > 2_000) return;
    const next = Array.from(
      { length: 2_000 },
      (_, n): LogRecord => ({ ...record, offset: lane.fetchedTo + BigInt(n) }),
    );
    lanes.push(fetched(0, next));
  };
  fill();
  const writer = new Writer({
    pool: store as unknown as Pool,
    epoch: 1,
    decoder: new RecordDecoder(1, () => Promise.resolve(undefined)),
    lanes,
    starts: () => Promise.resolve(new Map()),
    pace: new Pace(new AdaptiveController(), { clock, log, metrics }),
    urgency: () => 0,
    circuit,
    clock,
    log,
    contact: { tell: log.warn },
    metrics,
    saved: fill,
  });
  return { clock, log, store, circuit, writer };
}

test("an hour at a tenth of the speed, with time-outs now and then, sets nothing aside and is over when it is over", {
  timeout: 60_000,
}, async () => {
  const { clock, log, store, circuit, writer } = scene();
  const stop = new AbortController();
  const ended = writer.run(stop.signal);
  const random = seeded(1);
  const rowsIn = async (ms: number): Promise<number> => {
    const before = store.rows;
    await clock.advance(ms);
    return store.rows - before;
  };
  await clock.advance(MINUTE_MS / 3);
  const well = await rowsIn(MINUTE_MS / 3);

  const fromMs = clock.elapsed();
  store.slowness = 10;
  // About one batch in forty, and now and then several in a row.
  store.hangs = () => random() < (store.attempts.at(-1)?.saved ? 0.025 : 0.3);
  const slow = await rowsIn(60 * MINUTE_MS);
  const hour = store.attempts.filter(({ beganAtMs }) => beganAtMs > fromMs);
  const failed = hour.filter(({ saved }) => !saved).length;
  expect(failed).toBeGreaterThan(20);
  expect(slow).toBeGreaterThan(10_000);

  // A minute after it, whatever hung at its end included, the store is used as before.
  store.slowness = 1;
  store.hangs = () => false;
  await clock.advance(MINUTE_MS);
  expect(circuit.state).toBe("closed");
  expect((await rowsIn(MINUTE_MS / 3)) / well).toBeGreaterThan(0.9);

  // Batches: small ones once it is felt, whatever has failed before.
  expect(Math.max(...hour.slice(10).map(({ rows }) => rows))).toBeLessThanOrEqual(1.1 * UNITS_MIN);
  // Rests and waits between two attempts, both bounded, the rests also altogether: less than what the batches took.
  const rests: number[] = [];
  let inRow = 0;
  for (const [n, { beganAtMs }] of store.attempts.slice(1).entries()) {
    const before = store.attempts[n] as Attempt;
    const pauseMs = beganAtMs - before.endedAtMs;
    inRow = before.saved ? 0 : inRow + 1;
    if (inRow === 0) rests.push(pauseMs);
    else expect(pauseMs).toBeLessThanOrEqual(Math.min(WAIT_MS_MAX, WAIT_MS_FIRST * 2 ** (inRow - 1)));
  }
  expect(Math.max(...rests)).toBeLessThanOrEqual(REST_MS_MAX);
  expect(Math.max(...rests)).toBeGreaterThan(100);
  const workMs = hour.filter(({ saved }) => saved).reduce((sum, one) => sum + one.endedAtMs - one.beganAtMs, 0);
  expect(rests.reduce((sum, ms) => sum + ms, 0)).toBeLessThan(workMs);

  // Nothing was set aside, searched for or passed over: each offset is a row, once.
  expect(store.others).toEqual([]);
  expect(log.lines.filter(({ message }) => message === "record set aside")).toEqual([]);
  expect(store.rows).toBe(Number(store.nextOffset));
  stop.abort();
  await clock.advance(MINUTE_MS);
  await ended;
});
