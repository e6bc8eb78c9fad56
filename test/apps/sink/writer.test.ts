import { expect, test } from "vitest";
import { RecordDecoder } from "#lib/decode.ts";
import { createMetrics } from "#lib/metrics.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import { Circuit } from "../../../apps/sink/circuit.ts";
import { AdaptiveController } from "../../../apps/sink/controller.ts";
import { Lanes } from "../../../apps/sink/lanes.ts";
import { Pace } from "../../../apps/sink/pace.ts";
import { Writer } from "../../../apps/sink/writer.ts";
import { fakeClock, settled } from "../../support/fake-clock.ts";
import { fetched, keptLog, recordOf, someEvent } from "../../support/records.ts";

/** A writer with one record, and a store whose checkpoint row is locked until it is told to take the batch. */
function scene() {
  const [clock, log, metrics] = [fakeClock(), keptLog(), createMetrics()];
  const store = {
    locked: true,
    /** What every statement meets. */
    error: null as Error | null,
    silent: null as PromiseWithResolvers<never> | null,
    ended: 0,
  };
  const pool = {
    transaction: async () => {
      if (store.error) throw store.error;
      if (store.silent) await store.silent.promise;
      if (store.locked) throw Object.assign(new Error("canceling statement due to lock timeout"), { code: "55P03" });
      return { kind: "written", rows: 1, copies: 0, dead: [], tripMs: 0.1, rowsMs: 1, trips: 2 };
    },
    query: async (text: string) => {
      if (store.error) throw store.error;
      if (text.includes("pg_terminate_backend")) store.ended++;
      return [];
    },
  };
  const orders = { pause: () => undefined, resume: () => undefined, seek: () => undefined };
  const lanes = new Lanes(orders, clock, log, 10_000);
  lanes.assign([0]);
  lanes.lane(0)?.start(0n);
  lanes.push(fetched(0, [recordOf(someEvent(), 0n)]));
  const circuit = new Circuit();
  const writer = new Writer({
    pool: pool as unknown as Pool,
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
    saved: () => undefined,
  });
  return { clock, log, metrics, store, lanes, circuit, writer };
}

const withCode = (code: string, message: string): Error => Object.assign(new Error(message), { code });

test("an owner counts as frozen after ten seconds, whatever the wall clock is set to meanwhile", async () => {
  const { clock, log, store, writer } = scene();
  const stop = new AbortController();
  const ended = writer.run(stop.signal);
  await settled();
  clock.setWall(3_600_000);
  await clock.advance(9_000);
  expect(store.ended).toBe(0);
  clock.setWall(-7_200_000);
  await clock.advance(2_000);
  expect(store.ended).toBeGreaterThan(0);
  store.locked = false;
  await clock.advance(1_000);
  expect(log.lines.find(({ message }) => message === "store took a batch again")?.fields["afterMs"]).toSatisfy(
    (ms: number) => ms >= 11_000 && ms <= 12_000,
  );
  stop.abort();
  await ended;
});

test("a database that does not answer is told of after five seconds, since the question, until it answers again", async () => {
  const { clock, store, writer } = scene();
  store.locked = false;
  const silence = Promise.withResolvers<never>();
  store.silent = silence;
  const stop = new AbortController();
  const askedAtMs = clock.now();
  const ended = writer.run(stop.signal);
  await clock.advance(4_900);
  expect(writer.unansweredSinceMs).toBeNull();
  await clock.advance(200);
  expect(writer.unansweredSinceMs).toBe(askedAtMs);
  // Given up after a while: the same silence, from its beginning on.
  silence.reject(new Error("Query read timeout") as never);
  store.silent = Promise.withResolvers<never>();
  await clock.advance(20_000);
  expect(writer.unansweredSinceMs).toBe(askedAtMs);
  const { silent } = store;
  store.silent = null;
  silent.reject(new Error("Query read timeout") as never);
  await clock.advance(20_000);
  expect(writer.unansweredSinceMs).toBeNull();
  stop.abort();
  await ended;
});

test("a lock that somebody holds is an answer, however long it takes", async () => {
  const { clock, writer } = scene();
  const stop = new AbortController();
  const ended = writer.run(stop.signal);
  await clock.advance(60_000);
  expect(writer.unansweredSinceMs).toBeNull();
  stop.abort();
  await clock.advance(1_000);
  await ended;
});

test("an outage ends although the lanes whose batch met it have gone to another sink", async () => {
  const { clock, log, store, lanes, circuit, writer } = scene();
  store.error = withCode("ECONNREFUSED", "connect ECONNREFUSED");
  const stop = new AbortController();
  const ended = writer.run(stop.signal);
  await clock.advance(1_000);
  expect(circuit.outage).toMatchObject({ errorClass: "down" });
  lanes.revoke([0]);
  await clock.advance(60_000);
  expect(circuit.outage).toMatchObject({ errorClass: "down" });
  store.error = null;
  await clock.advance(30_000);
  expect(circuit.outage).toBeNull();
  expect(log.lines.at(-1)?.message).toBe("store answers again");
  stop.abort();
  await ended;
});

test("a sink without anything to save tells of a store that it may not use, once in each step of the backoff", async () => {
  const { clock, metrics, store, circuit, writer } = scene();
  store.locked = false;
  const stop = new AbortController();
  const ended = writer.run(stop.signal);
  await clock.advance(20_000);
  expect(circuit.outage).toBeNull();
  store.error = withCode("42501", "permission denied for schema spillway");
  await clock.advance(120_000);
  const { outage } = circuit;
  expect(outage).toMatchObject({ errorClass: "bug", error: "permission denied for schema spillway" });
  // The clock's chance is 0.5: three quarters of 5, 10, 20, 30 and 30 s.
  expect(outage?.attempts).toSatisfy((attempts: number) => attempts >= 5 && attempts <= 7);
  expect((await metrics.sinkCircuitState.get()).values[0]?.value).toBe(2);
  store.error = null;
  await clock.advance(30_000);
  expect(circuit.outage).toBeNull();
  stop.abort();
  await ended;
});
