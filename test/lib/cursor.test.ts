import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BEGINNING, CURSOR_LENGTH, decodeCursor, encodeCursor, type Position } from "#lib/cursor.ts";

const OFFSET_MAX = 2n ** 63n - 2n;
/** Small ones and close ones are what order is lost over. */
const offset = fc.oneof(fc.bigInt({ min: -1n, max: 40n }), fc.bigInt({ min: -1n, max: OFFSET_MAX }));
const epoch = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 0xffff }));
const partition = fc.integer({ min: 0, max: 0xffffffff });
const position: fc.Arbitrary<Position> = fc.record({ epoch, partition, offset });

const compare = <T>(a: T, b: T): number => (a < b ? -1 : a > b ? 1 : 0);

describe("a cursor", () => {
  test("reads back as its position", () => {
    fc.assert(
      fc.property(position, (one) => {
        expect(decodeCursor(encodeCursor(one))).toEqual(one);
      }),
    );
  });

  test("has a fixed width and is safe in a URL", () => {
    fc.assert(
      fc.property(position, (one) => {
        const cursor = encodeCursor(one);
        expect(cursor).toHaveLength(CURSOR_LENGTH);
        expect(encodeURIComponent(cursor)).toBe(cursor);
      }),
    );
  });

  test("sorts as text in the order of a client's events: by epoch, then offset", () => {
    // Within an epoch a client has one partition; in another epoch it may have any other.
    const two = fc
      .tuple(position, position)
      .map(([a, b]) => [a, a.epoch === b.epoch ? { ...b, partition: a.partition } : b] as const);
    fc.assert(
      fc.property(two, ([a, b]) => {
        const byPlace = compare(a.epoch, b.epoch) || compare(a.offset, b.offset);
        expect(compare(encodeCursor(a), encodeCursor(b))).toBe(byPlace);
      }),
    );
  });

  test("sorts behind the beginning", () => {
    fc.assert(fc.property(position, (one) => encodeCursor(one) > BEGINNING));
    expect(decodeCursor(BEGINNING)).toBeNull();
  });

  test("does not change from version to version", () => {
    // Python: base64.b32hexencode(struct.pack(">BHIQ", 1, 1, 7, 42)).lower()
    expect(encodeCursor({ epoch: 1, partition: 7, offset: 41n })).toBe("04002000003g00000000001a");
    expect(encodeCursor({ epoch: 0, partition: 0, offset: -1n })).toBe("040000000000000000000000");
    expect(encodeCursor({ epoch: 0xffff, partition: 0xffffffff, offset: OFFSET_MAX })).toHaveLength(CURSOR_LENGTH);
  });

  test("is refused when it is garbage", () => {
    const digits = fc.string({ minLength: CURSOR_LENGTH, maxLength: CURSOR_LENGTH });
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), digits), (text) => {
        const found = decodeCursor(text);
        expect(found === null ? null : encodeCursor(found)).toBe(found === null ? null : text);
      }),
    );
  });

  test("is refused when one of its characters is not a digit", () => {
    const strange = fc.constantFrom("w", "z", "A", "V", "-", " ", "=", "\u0000", "é", "٣");
    fc.assert(
      fc.property(position, fc.nat({ max: CURSOR_LENGTH - 1 }), strange, (one, at, char) => {
        const cursor = encodeCursor(one);
        expect(decodeCursor(cursor.slice(0, at) + char + cursor.slice(at + 1))).toBeNull();
      }),
    );
  });

  test("is refused when it is longer, shorter, of another version, or beyond the last offset", () => {
    const cursor = encodeCursor({ epoch: 1, partition: 7, offset: 41n });
    for (const text of [
      "",
      cursor.slice(1),
      `${cursor}0`,
      `0${cursor}`,
      `08${cursor.slice(2)}`,
      `00${cursor.slice(2)}`,
    ])
      expect(decodeCursor(text)).toBeNull();
    expect(decodeCursor(`${cursor.slice(0, 11)}${"v".repeat(13)}`)).toBeNull();
  });

  test.each<Partial<Position>>([
    { epoch: -1 },
    { epoch: 0x10000 },
    { partition: -1 },
    { partition: 2 ** 32 },
    { offset: -2n },
    { offset: OFFSET_MAX + 1n },
  ])("is not made of a position that does not fit: %o", (wrong) => {
    expect(() => encodeCursor({ epoch: 1, partition: 0, offset: 0n, ...wrong })).toThrow(RangeError);
  });
});
