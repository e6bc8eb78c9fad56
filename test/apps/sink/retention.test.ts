import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Evidence, MARGIN_MS_MIN, type Mark, shrunkMarginMs, trimTo } from "../../../apps/sink/retention.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const NOW_MS = 1_800_000_000_000;

const ago = (ms: number, nextOffset: bigint): Mark => ({ atMs: NOW_MS - ms, nextOffset });
const evidence = (nextOffset: bigint, marks: readonly Mark[], more: Partial<Evidence> = {}): Evidence => ({
  nextOffset,
  lastOffset: nextOffset - 1n,
  marks,
  nowMs: NOW_MS,
  ...more,
});
const WHOLE = { low: 0n, high: 1_000_000n };

describe("how far a partition is trimmed", () => {
  test("what was below the checkpoint a margin ago goes, and nothing above", () => {
    const marks = [ago(DAY_MS + 2 * MINUTE_MS, 100n), ago(DAY_MS, 200n), ago(DAY_MS - 1, 300n), ago(MINUTE_MS, 400n)];
    expect(trimTo(evidence(500n, marks), WHOLE, DAY_MS)).toBe(200n);
  });

  test("a backlog of 30 hours that was saved a minute ago stays", () => {
    const marks = Array.from({ length: 30 * 60 }, (_, minute) => ago((minute + 1) * MINUTE_MS, 10n));
    expect(trimTo(evidence(900_000n, marks), WHOLE, DAY_MS)).toBe(10n);
  });

  test("without a mark as old as the margin nothing goes: how long ago anything was saved is not known", () => {
    expect(trimTo(evidence(500n, [ago(DAY_MS - 1, 300n)]), WHOLE, DAY_MS)).toBeNull();
    expect(trimTo(evidence(500n, []), WHOLE, DAY_MS)).toBeNull();
  });

  test("a checkpoint that went back is the bound, whatever its marks say", () => {
    const marks = [ago(2 * DAY_MS, 400n), ago(HOUR_MS, 450n)];
    expect(trimTo(evidence(50n, marks), WHOLE, DAY_MS)).toBe(49n);
    // Moved by hand: what it covered last lies above it.
    expect(trimTo(evidence(50n, marks, { lastOffset: 449n }), WHOLE, DAY_MS)).toBe(50n);
  });

  test("what was saved again after it went back begins its margin anew", () => {
    const marks = [ago(2 * DAY_MS, 400n), ago(DAY_MS - HOUR_MS, 50n), ago(DAY_MS - 2 * HOUR_MS, 450n)];
    expect(trimTo(evidence(500n, marks), WHOLE, DAY_MS)).toBe(50n);
    const later = NOW_MS + 2 * HOUR_MS;
    expect(trimTo(evidence(500n, marks, { nowMs: later }), WHOLE, DAY_MS)).toBe(450n);
  });

  test("a clock of the database that was set back makes nothing older: marks of its future only hold back", () => {
    const marks = [ago(2 * DAY_MS, 400n), ago(-HOUR_MS, 300n), ago(-2 * HOUR_MS, 900n)];
    expect(trimTo(evidence(1_000n, marks), WHOLE, DAY_MS)).toBe(300n);
    expect(trimTo(evidence(1_000n, [ago(-HOUR_MS, 300n)]), WHOLE, DAY_MS)).toBeNull();
  });

  test("the last saved record stays, so that the log can be proved to be the same", () => {
    const marks = [ago(2 * DAY_MS, 500n)];
    expect(trimTo(evidence(500n, marks), WHOLE, DAY_MS)).toBe(499n);
    expect(trimTo(evidence(500n, marks, { lastOffset: 300n }), WHOLE, DAY_MS)).toBe(300n);
    expect(trimTo(evidence(500n, marks, { lastOffset: null }), WHOLE, DAY_MS)).toBeNull();
  });

  test("a log that ends below the checkpoint is not the one that was saved: it is left alone", () => {
    expect(trimTo(evidence(500n, [ago(2 * DAY_MS, 500n)]), { low: 0n, high: 499n }, DAY_MS)).toBeNull();
  });

  test("what is gone already is not asked for again", () => {
    expect(trimTo(evidence(500n, [ago(2 * DAY_MS, 400n)]), { low: 400n, high: 600n }, DAY_MS)).toBeNull();
  });
});

/** What happens to a checkpoint, minute by minute. */
type Step =
  | { readonly kind: "save"; readonly records: number }
  /** Somebody moves it, or a standby takes over that lags by some minutes and has lost the marks since. */
  | { readonly kind: "back"; readonly records: number }
  | { readonly kind: "failover"; readonly minutes: number }
  | { readonly kind: "down"; readonly minutes: number };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 20, arbitrary: fc.record({ kind: fc.constant("save" as const), records: fc.nat(1_000) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("back" as const), records: fc.nat(3_000) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("failover" as const), minutes: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("down" as const), minutes: fc.nat(90) }) },
);

interface Life {
  readonly evidence: Evidence;
  /** Where the checkpoint of the database that is left truly stood, and from when on. */
  readonly truth: readonly Mark[];
}

/** A sink marks every minute, and whenever it begins at a checkpoint: before it saves anything from there. */
function live(steps: readonly Step[]): Life {
  let nowMs = NOW_MS;
  let truth: Mark[] = [{ atMs: nowMs, nextOffset: 0n }];
  let marks: Mark[] = [];
  const stands = (): bigint => truth.at(-1)?.nextOffset ?? 0n;
  const moves = (nextOffset: bigint): void => {
    nowMs += 1;
    truth.push({ atMs: nowMs, nextOffset });
  };
  const mark = (): void => {
    nowMs += 1;
    marks.push({ atMs: nowMs, nextOffset: stands() });
  };
  mark();
  for (const step of steps) {
    if (step.kind === "save") moves(stands() + BigInt(step.records));
    if (step.kind === "down") nowMs += step.minutes * MINUTE_MS;
    if (step.kind === "back") {
      moves(stands() > BigInt(step.records) ? stands() - BigInt(step.records) : 0n);
      mark();
    }
    if (step.kind === "failover") {
      const until = nowMs - step.minutes * MINUTE_MS;
      truth = truth.filter(({ atMs }, n) => n === 0 || atMs <= until);
      marks = marks.filter(({ atMs }) => atMs <= until);
      moves(stands());
      mark();
    }
    nowMs += MINUTE_MS;
    if (step.kind === "save") mark();
  }
  return { truth, evidence: { nextOffset: stands(), lastOffset: stands() - 1n, marks, nowMs } };
}

/** The lowest that the checkpoint stood during the margin: all below has been saved for all of it. */
function savedAllTheWhile({ truth, evidence: { nowMs } }: Life, marginMs: number): bigint {
  const first = truth.findLastIndex(({ atMs }) => atMs <= nowMs - marginMs);
  return truth
    .slice(Math.max(0, first))
    .reduce((low, { nextOffset }) => (nextOffset < low ? nextOffset : low), 1n << 60n);
}

const MARGINS_MS = [10 * MINUTE_MS, 45 * MINUTE_MS, 2 * HOUR_MS];
const anyMargin = fc.constantFrom(...MARGINS_MS);
const anyLife = fc.array(anyStep, { minLength: 1, maxLength: 200 });

test("whatever happens to a checkpoint, what goes has been saved for all of the margin", () => {
  fc.assert(
    fc.property(anyLife, anyMargin, (steps, marginMs) => {
      const life = live(steps);
      const offset = trimTo(life.evidence, WHOLE, marginMs);
      if (offset === null) return;
      expect(offset).toBeLessThanOrEqual(savedAllTheWhile(life, marginMs));
      expect(offset).toBeLessThan(life.evidence.nextOffset);
    }),
    { numRuns: 2_000 },
  );
});

test("in a calm life all goes that may, but for what was saved within the minute between two marks", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 1_000 }), { minLength: 200, maxLength: 300 }), (saves) => {
      const life = live(saves.map((records) => ({ kind: "save", records })));
      const lax = savedAllTheWhile(life, MARGINS_MS[0] as number);
      const strict = savedAllTheWhile(life, (MARGINS_MS[0] as number) + 2 * MINUTE_MS);
      const offset = trimTo(life.evidence, WHOLE, MARGINS_MS[0] as number);
      expect(offset).toBeLessThanOrEqual(lax);
      expect(offset).toBeGreaterThanOrEqual(strict);
    }),
  );
});

test("marks that are lost never make more go, while the checkpoint only rises", () => {
  const rising = fc.array(fc.oneof(fc.record({ kind: fc.constant("save" as const), records: fc.nat(1_000) })), {
    minLength: 1,
    maxLength: 100,
  });
  fc.assert(
    fc.property(rising, anyMargin, fc.infiniteStream(fc.boolean()), (steps, marginMs, coin) => {
      const { evidence: whole } = live(steps);
      const marks = whole.marks.filter(() => coin.next().value);
      const less = trimTo({ ...whole, marks }, WHOLE, marginMs) ?? 0n;
      expect(less).toBeLessThanOrEqual(trimTo(whole, WHOLE, marginMs) ?? 0n);
    }),
  );
});

describe("the margin", () => {
  test("is as wanted up to half of the limit, shrinks evenly to three quarters, and never below ten minutes", () => {
    const at = (part: number): number => shrunkMarginMs(part * 1e9, 1e9, DAY_MS);
    expect([0, 0.5].map(at)).toEqual([DAY_MS, DAY_MS]);
    expect(at(0.625)).toBe((DAY_MS + MARGIN_MS_MIN) / 2);
    expect([0.75, 1, 30].map(at)).toEqual([MARGIN_MS_MIN, MARGIN_MS_MIN, MARGIN_MS_MIN]);
  });

  test("is as wanted without a limit, however much the log holds", () => {
    expect(shrunkMarginMs(1e15, 0, DAY_MS)).toBe(DAY_MS);
  });
});
