import fc from "fast-check";
import { expect, test } from "vitest";
import { LINE_BYTES_MAX, type Line, Lines } from "../../../apps/ingest/lines.ts";

/** All lines of a stream that comes in these pieces, each taken as soon as it can be. */
function linesOf(pieces: readonly Buffer[]): Line[] {
  const lines = new Lines();
  const taken: Line[] = [];
  const takeAll = (): void => {
    for (let line = lines.take(); line !== null; line = lines.take()) taken.push(line);
  };
  for (const piece of pieces) {
    lines.push(piece);
    takeAll();
  }
  lines.end();
  takeAll();
  expect(lines.bytes).toBe(0);
  return taken;
}

const texts = (lines: readonly Line[]): [number, string | null][] =>
  lines.map(({ number, bytes }) => [number, bytes === null ? null : String(bytes)]);

/** The same from the whole text. */
const expected = (text: string): [number, string][] =>
  text
    .split("\n")
    .map((line, at): [number, string] => [at + 1, line])
    .filter(([, line]) => /[^ \t\r]/.test(line));

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, n) => Buffer.from(bytes.subarray(at[n], end)));
}

test("lines are the same however the stream is cut, the last one with or without an end; blank ones only count", () => {
  const line = fc.constantFrom("", " \t\r", '{"a":1}', "é😀", "\r", "x\r", " y ");
  fc.assert(
    fc.property(
      fc.array(line, { maxLength: 12 }),
      fc.boolean(),
      fc.array(fc.nat(), { maxLength: 30 }),
      (some, end, places) => {
        const text = some.join("\n") + (end ? "\n" : "");
        expect(texts(linesOf(cut(Buffer.from(text), places)))).toEqual(expected(text));
      },
    ),
  );
});

test("a line that is too long is known before its end, is not kept, and hurts no other", () => {
  const long = Buffer.alloc(LINE_BYTES_MAX, "x");
  for (const more of [1, 3 * LINE_BYTES_MAX]) {
    const text = Buffer.concat([
      Buffer.from("a\n"),
      long,
      Buffer.alloc(more, "y"),
      Buffer.from("\n\nb\n"),
      long,
      Buffer.from("\nc"),
    ]);
    for (const step of [text.length, 65_536, 1_000_003]) {
      const pieces: Buffer[] = [];
      for (let at = 0; at < text.length; at += step) pieces.push(text.subarray(at, at + step));
      expect(texts(linesOf(pieces))).toEqual([
        [1, "a"],
        [2, null],
        [4, "b"],
        [5, String(long)],
        [6, "c"],
      ]);
    }
  }
  const lines = new Lines();
  lines.push(Buffer.alloc(LINE_BYTES_MAX + 1));
  expect([lines.take(), lines.take(), lines.bytes, lines.nextNumber]).toEqual([{ number: 1, bytes: null }, null, 0, 2]);
});

test("what is left of a line holds no more than itself, also when it comes byte by byte", () => {
  const lines = new Lines();
  const piece = Buffer.alloc(65_536, "x");
  piece.write("\n", 65_530);
  lines.push(piece);
  expect([lines.take()?.bytes?.length, lines.take()]).toEqual([65_530, null]);
  expect([lines.bytes, lines.starved]).toEqual([5 + 512, true]);
  for (let n = 0; n < 2_000; n++) {
    lines.push(Buffer.from("y"));
    expect(lines.starved).toBe(false);
    lines.take();
  }
  expect(lines.bytes).toBeLessThan(2_005 + 300 * 512);
});
