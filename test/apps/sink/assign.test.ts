import { expect, test } from "vitest";
import type { LogAdmin, PartitionReader } from "#lib/kafka/ports.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import { type AssignParts, assignments } from "../../../apps/sink/assign.ts";
import { Lanes } from "../../../apps/sink/lanes.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { silentLog } from "../../support/records.ts";

/** Partition 0 of a log with ten records, and a store that refuses everything until it is told otherwise. */
function scene() {
  const clock = fakeClock();
  const store = { error: Object.assign(new Error("permission denied for table checkpoint_mark"), { code: "42501" }) };
  const state = { refuses: true };
  const pool = {
    query: async (text: string) => {
      if (state.refuses) throw store.error;
      return text.startsWith("SELECT") ? [{ partition: 0, next: "7", last: null, hash: null }] : [];
    },
  };
  const offsets = async () => new Map([[0, { low: 0n, high: 10n }]]);
  const orders = { pause: () => undefined, resume: () => undefined, seek: () => undefined };
  const handlers = assignments({
    begins: true,
    identity: { epoch: 1, topic: "t", partitions: 1 },
    pool: pool as unknown as Pool,
    admin: { offsets } as unknown as LogAdmin,
    openReader: async () => ({ offsets, close: async () => undefined }) as unknown as PartitionReader,
    lanes: new Lanes(orders, clock, silentLog, 10_000),
    clock,
    log: silentLog,
    started: () => undefined,
  } satisfies AssignParts);
  return { clock, handlers, state };
}

test("a sink that cannot read where to start says why, not only that it has no partitions", async () => {
  const { clock, handlers, state } = scene();
  const sinceMs = clock.now();
  expect(handlers.unassigned()).toEqual({ sinceMs, why: null });
  await clock.advance(3_000);
  const starts = handlers.onAssigned([0], new AbortController().signal);
  await clock.advance(1_000);
  expect(handlers.unassigned()).toEqual({
    sinceMs,
    why: "checkpoints not read: bug: permission denied for table checkpoint_mark",
  });
  state.refuses = false;
  await clock.advance(30_000);
  expect(await starts).toEqual(new Map([[0, 7n]]));
  expect(handlers.unassigned()).toBeNull();
  handlers.onRevoked([0]);
  expect(handlers.unassigned()).toEqual({ sinceMs: clock.now(), why: null });
});
