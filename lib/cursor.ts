/**
 * Positions ↔ opaque cursors. One form everywhere: acknowledgement, page, live frame, resume.
 *
 * A cursor stands for everything up to and including its position. It is 15 bytes (version 1, epoch 2, partition 4, offset
 * plus one 8, big-endian) in base32hex, lower case: 24 characters from 0-9a-v, URL-safe, and within one client's events
 * text order is event order. The offset is kept plus one so that "before the first record" (offset -1) has a cursor too.
 */

/** A place in the log. `offset` -1n stands before an epoch's first record. */
export interface Position {
  readonly epoch: number;
  readonly partition: number;
  readonly offset: bigint;
}

export const CURSOR_LENGTH = 24;
/** As `after`: from the beginning of all epochs. As `Spillway-Saved-Through`: nothing is saved. */
export const BEGINNING = "0";

const VERSION = 1n;
const DIGITS = "0123456789abcdefghijklmnopqrstuv";
const VALUES = new Map([...DIGITS].map((digit, value) => [digit, BigInt(value)]));

/** @throws RangeError when a part does not fit its width */
export function encodeCursor({ epoch, partition, offset }: Position): string {
  const next = offset + 1n;
  if (epoch < 0 || epoch > 0xffff || partition < 0 || partition > 0xffffffff || next < 0n || next >> 63n !== 0n)
    throw new RangeError(`position ${epoch}/${partition}/${offset} fits no cursor`);
  // 56 bits before the offset are eleven digits and one bit; that bit and 64 more are thirteen. Digits from numbers, thirty
  // bits at a time: 0.15 µs a cursor, against 3 µs by shifting one bigint.
  const head = (((VERSION << 16n) | BigInt(epoch)) << 32n) | BigInt(partition);
  if (head !== lastHead) {
    lastHead = head;
    const high = head >> 1n;
    lastHeadDigits = digits(Number(high >> 30n), 5) + digits(Number(high & LOW_30), 6);
  }
  const top = Number(((head & 1n) << 4n) | (next >> 60n));
  return lastHeadDigits + digits(top, 1) + digits(Number((next >> 30n) & LOW_30), 6) + digits(Number(next & LOW_30), 6);
}

const LOW_30 = (1n << 30n) - 1n;
// Most cursors in a row are of one partition.
let lastHead = -1n;
let lastHeadDigits = "";

/** A number below 2^30 as so many digits. */
function digits(value: number, count: number): string {
  let text = "";
  for (let shift = (count - 1) * 5; shift >= 0; shift -= 5) text += DIGITS.charAt((value >>> shift) & 31);
  return text;
}

/** The position, or null when the text is no cursor of this version. `BEGINNING` is not a cursor: callers look for it first. */
export function decodeCursor(text: string): Position | null {
  if (text.length !== CURSOR_LENGTH) return null;
  let bits = 0n;
  for (const digit of text) {
    const value = VALUES.get(digit);
    if (value === undefined) return null;
    bits = (bits << 5n) | value;
  }
  const next = bits & 0xffffffffffffffffn;
  if (bits >> 112n !== VERSION || next >> 63n !== 0n) return null;
  return {
    epoch: Number((bits >> 96n) & 0xffffn),
    partition: Number((bits >> 64n) & 0xffffffffn),
    offset: next - 1n,
  };
}
