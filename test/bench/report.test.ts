import { expect, test } from "vitest";
import { barLine, meets } from "../../bench/report.ts";

test("a bar is met by its own value and missed beyond it, upwards and downwards", () => {
  const ratio = { what: "a", least: 0.35, goal: 0.5, unit: "ratio" } as const;
  const time = { what: "b", most: 50, unit: "ms" } as const;
  expect([0.35, 0.349].map((value) => meets({ ...ratio, value }))).toEqual([true, false]);
  expect([50, 50.1].map((value) => meets({ ...time, value }))).toEqual([true, false]);
  expect(meets({ ...ratio, value: Number.NaN })).toBe(false);
});

test("a bar's line tells value, bar, goal and the verdict", () => {
  expect(barLine({ what: "x", value: 0.3, least: 0.35, goal: 0.5, unit: "ratio" })).toBe(
    "x: 0.30, bar ≥ 0.35, goal ≥ 0.50: MISSED",
  );
  expect(barLine({ what: "y", value: 4.21, most: 5, unit: "ms" })).toBe("y: 4.2 ms, bar ≤ 5.0 ms: met");
});
