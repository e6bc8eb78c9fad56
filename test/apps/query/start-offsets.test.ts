import { expect, test } from "vitest";
import { LogError, type LogErrorKind } from "#lib/kafka/ports.ts";
import { startOffsets } from "../../../apps/query/start-offsets.ts";
import { fakeClock } from "../../support/fake-clock.ts";
import { silentLog } from "../../support/records.ts";

/** A log that answers once it was asked more often than it has `faults`. */
function logWith(faults: LogErrorKind[]) {
  const offsets = () => {
    const kind = faults.shift();
    if (kind !== undefined) return Promise.reject(new LogError(kind, "not the leader"));
    return Promise.resolve(new Map([0, 1].map((partition) => [partition, { low: 5n, high: 9n }])));
  };
  return { admin: { offsets } as never, identity: { epoch: 1, topic: "t", partitions: 2 } };
}

test("a log that does not know its new topic yet is waited for; a fault that no wait can mend ends the node", async () => {
  const clock = fakeClock();
  const { signal } = new AbortController();
  const starts = startOffsets(
    logWith(["retriable", "retriable"]),
    new Map([[1, 7n]]),
    { log: silentLog, clock },
    signal,
  );
  await clock.advance(1_000);
  expect([...(await starts)]).toEqual([
    [0, { start: 5n, logStart: 5n }],
    [1, { start: 7n, logStart: 5n }],
  ]);
  await expect(startOffsets(logWith(["fatal"]), new Map(), { log: silentLog, clock }, signal)).rejects.toThrow(
    "leader",
  );
});

test("the wait for a log's offsets ends when the node is told to stop", async () => {
  const stop = new AbortController();
  const clock = fakeClock();
  const starts = startOffsets(logWith(Array(9).fill("retriable")), new Map(), { log: silentLog, clock }, stop.signal);
  stop.abort();
  await expect(starts).rejects.toMatchObject({ name: "AbortError" });
});
