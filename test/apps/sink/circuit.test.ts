import { describe, expect, test } from "vitest";
import type { ErrorClass } from "#lib/postgres/sqlstate.ts";
import { Circuit } from "../../../apps/sink/circuit.ts";

/** Wall clock and monotonic clock tell different times. */
const at = (ms: number, random = 0) => ({ now: () => 70_000 + ms, elapsed: () => ms, random: () => random });

const BOUNDS: readonly [ErrorClass, first: number, longest: number][] = [
  ["lock", 100, 500],
  ["down", 100, 10_000],
  ["silent", 1_000, 10_000],
  ["overload", 1_000, 30_000],
  ["space", 1_000, 30_000],
  ["bug", 5_000, 30_000],
  ["data", 1_000, 30_000],
  ["duplicate", 30_000, 30_000],
];

describe.each(BOUNDS)("%s", (errorClass, first, longest) => {
  test(`waits double from ${first} to ${longest} ms, each from its upper half`, () => {
    for (const random of [0, 0.5, 0.999]) {
      const circuit = new Circuit();
      for (let attempt = 0; attempt < 100; attempt++) {
        const whole = Math.min(longest, first * 2 ** attempt);
        const wait = circuit.failed(errorClass, "e", 1_000, at(0, random));
        expect(wait).toBe(Math.round(whole * (0.5 + random / 2)));
      }
    }
  });
});

test("an outage knows since when, how often and what was last", () => {
  const circuit = new Circuit();
  expect(circuit.outage).toBeNull();
  circuit.failed("down", "refused", 1_000, at(1_000));
  circuit.failed("overload", "too many", 1_000, at(5_000));
  expect(circuit.outage).toEqual({
    errorClass: "overload",
    error: "too many",
    sinceMs: 71_000,
    begunMs: 1_000,
    attempts: 2,
  });
  circuit.succeeded();
  expect(circuit.outage).toBeNull();
  circuit.failed("down", "refused", 1_000, at(9_000));
  expect(circuit.outage).toMatchObject({ sinceMs: 79_000, begunMs: 9_000, attempts: 1 });
});

describe("after an outage", () => {
  const sizesOf = (circuit: Circuit): number[] => {
    const sizes: number[] = [];
    for (; circuit.recordsMax !== Number.POSITIVE_INFINITY && sizes.length < 100; circuit.succeeded())
      sizes.push(circuit.recordsMax);
    return sizes;
  };

  test("a store that was away is tried with 50 records, then with twice as many each time, then with whole batches", () => {
    const circuit = new Circuit();
    expect(circuit.state).toBe("closed");
    circuit.failed("down", "refused", 5_000, at(0));
    expect(circuit.state).toBe("open");
    circuit.succeeded();
    expect(circuit.state).toBe("half-open");
    expect(sizesOf(circuit)).toEqual([100, 200, 400, 800, 1_600, 3_200, 6_400]);
    expect(circuit.state).toBe("closed");
  });

  test("a batch that takes too long is tried by halves, down to one record", () => {
    const circuit = new Circuit();
    for (const half of [500, 250, 125, 62, 31, 15, 7, 3, 1, 1]) {
      circuit.failed("overload", "statement timeout", Math.min(1_000, circuit.recordsMax), at(0));
      expect(circuit.recordsMax).toBe(half);
    }
  });

  test("a lock makes nothing smaller", () => {
    const circuit = new Circuit();
    circuit.failed("lock", "lock timeout", 1_000, at(0));
    expect(circuit.recordsMax).toBe(Number.POSITIVE_INFINITY);
  });
});
