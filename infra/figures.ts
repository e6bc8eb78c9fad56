/** Figures for people: quantiles of measured times, numbers with separators. */

/** The value that a share `q` of all values does not exceed (nearest rank); NaN without values. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** `20,000` */
export const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

/** `1.234 s` → at most three figures: `0.41 ms`, `12.3 ms`, `345 ms`. */
export function ms(value: number): string {
  if (Number.isNaN(value)) return "-";
  return `${value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : whole(value)} ms`;
}
