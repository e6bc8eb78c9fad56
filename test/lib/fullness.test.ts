import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Drain, refuses, retryAfterSeconds } from "#lib/fullness.ts";

const MAX = 1_000_000;
const ROUNDING_BYTES = 1e-3;
const bytes = (retained: number, unsaved: number) => ({ retainedBytes: retained * MAX, unsavedBytes: unsaved * MAX });

describe("new events are refused", () => {
  test("from four fifths of the limit unsaved on, until there is a tenth of that less", () => {
    expect(refuses(false, bytes(0.79, 0.79), MAX)).toBe(false);
    expect(refuses(false, bytes(0.8, 0.8), MAX)).toBe(true);
    expect(refuses(true, bytes(0.8, 0.73), MAX)).toBe(true);
    expect(refuses(true, bytes(0.8, 0.72), MAX)).toBe(false);
  });

  test("when the log is full of saved ones, which the margin keeps", () => {
    expect(refuses(false, bytes(0.94, 0), MAX)).toBe(false);
    expect(refuses(false, bytes(0.95, 0), MAX)).toBe(true);
    expect(refuses(true, bytes(0.86, 0), MAX)).toBe(true);
    expect(refuses(true, bytes(0.85, 0), MAX)).toBe(false);
  });
});

describe("when to come again", () => {
  test("is when the sink will have saved enough, at the pace that it keeps: then events are taken again", () => {
    const share = fc.double({ min: 0.8, max: 1.5, noNaN: true });
    const pace = fc.double({ min: MAX / 2_000, max: MAX, noNaN: true });
    fc.assert(
      fc.property(share, pace, (unsaved, savedBytesPerSecond) => {
        // Nothing saved before, and all is deleted as soon as it is saved, once a minute.
        const seconds = retryAfterSeconds(bytes(unsaved, unsaved), MAX, savedBytesPerSecond);
        const left = (after: number): number =>
          Math.max(0, unsaved - (after * savedBytesPerSecond + ROUNDING_BYTES) / MAX);
        expect(refuses(true, bytes(left(seconds), left(seconds)), MAX)).toBe(false);
        expect(refuses(true, bytes(unsaved, left(seconds - 62)), MAX)).toBe(true);
      }),
    );
  });

  test("is a minute while nothing is being saved, and an hour at most", () => {
    expect(retryAfterSeconds(bytes(0.8, 0.8), MAX, 0)).toBe(60);
    expect(retryAfterSeconds(bytes(0.8, 0.8), MAX, 1)).toBe(3_600);
  });

  test("is when saved records are deleted next, where that is enough", () => {
    expect(retryAfterSeconds(bytes(0.96, 0), MAX, 0)).toBe(60);
  });
});

describe("the pace of saving", () => {
  const at = (nextOffset: bigint, recordBytes = 100) => ({
    partitions: new Map([[0, { low: 0n, high: 1_000n, nextOffset, recordBytes }]]),
  });

  test("is what the checkpoints moved lately", () => {
    const drain = new Drain();
    expect(drain.bytesPerSecond).toBe(0);
    drain.observe(0, at(0n));
    expect(drain.bytesPerSecond).toBe(0);
    for (let second = 1; second <= 10; second++) drain.observe(second * 1_000, at(BigInt(second * 50)));
    expect(drain.bytesPerSecond).toBe(5_000);
  });

  test("is nothing soon after the sink has stopped, and nothing negative when a checkpoint goes back", () => {
    const drain = new Drain();
    drain.observe(0, at(0n));
    drain.observe(1_000, at(500n));
    for (let second = 2; second <= 21; second++) drain.observe(second * 1_000, at(500n));
    expect(drain.bytesPerSecond).toBe(0);
    drain.observe(22_000, at(10n));
    expect(drain.bytesPerSecond).toBe(0);
  });
});
