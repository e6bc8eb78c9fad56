import { expect, test } from "vitest";
import { median, ms, quantile, whole } from "../../infra/figures.ts";

test("a quantile is one of the values, by nearest rank", () => {
  const values = [5, 1, 4, 2, 3];
  expect([quantile(values, 0), median(values), quantile(values, 0.99)]).toEqual([1, 3, 5]);
  expect(values).toEqual([5, 1, 4, 2, 3]);
  expect(quantile([], 0.5)).toBeNaN();
});

test("figures are short and have separators", () => {
  expect([ms(0.414), ms(9.999), ms(99.96), ms(1234.4), ms(Number.NaN)]).toEqual([
    "0.41 ms",
    "10.0 ms",
    "100 ms",
    "1,234 ms",
    "-",
  ]);
  expect(whole(19_999.6)).toBe("20,000");
});
