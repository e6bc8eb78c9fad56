/**
 * Which JSON numbers a double keeps.
 *
 * An integer written plainly (no fraction, no exponent) is kept to the last digit or refused: what JavaScript prints for
 * it must denote the same integer. 9007199254740993 would become …992; 1152921504606846976 is 2^60, but printed …7000.
 * A number with a fraction or an exponent is an approximation: it becomes the nearest double, unless that is infinite,
 * or 0 for a number that is not 0.
 */
import { excerpt } from "./excerpt.ts";

/** What is wrong with a number of JSON's grammar and what to do about it, or null. */
export function numberFault(literal: string): string | null {
  const plain = !/[.eE]/.test(literal);
  // 15 digits always fit. A fraction of fewer than 300 characters without exponent is neither too large nor too small.
  if (plain ? literal.length <= 15 : literal.length < 300 && !/[eE]/.test(literal)) return null;
  const value = Number(literal);
  if (!Number.isFinite(value)) return `${excerpt(literal)} is too large for a double; send it as a string`;
  if (value === 0 && /^[-0.]*[1-9]/.test(literal))
    return `${excerpt(literal)} is too small for a double and would become 0; send it as a string`;
  if (!plain) return null;
  const printed = digits(value);
  if (printed === literal) return null;
  return `${excerpt(literal)} would be stored as ${excerpt(printed)}; send it as a string`;
}

/** An integer as JavaScript prints it, but with all its digits: 1.5e+21 → 1500000000000000000000. */
function digits(value: number): string {
  const [mantissa = "", exponent] = String(value).split("e+");
  if (exponent === undefined) return mantissa;
  const sign = value < 0 ? 1 : 0;
  return mantissa.replace(".", "").padEnd(sign + 1 + Number(exponent), "0");
}
