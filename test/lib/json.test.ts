import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { excerpt, pointer } from "#lib/excerpt.ts";
import { jsonFault, scanItems } from "#lib/json.ts";
import { numberFault } from "#lib/json-number.ts";

const LOOSE = { depthMax: 1_000, keysMax: 100_000, spaceAllowed: true };
const STRICT = { depthMax: 64, keysMax: 10_000, spaceAllowed: true };
const codeOf = (text: string, limits = STRICT) => jsonFault(text, limits)?.code ?? null;
const canonical = (text: string) => JSON.stringify(JSON.parse(text));

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Pieces of JSON in any order: mostly wrong in a way that a grammar could overlook. */
const PIECES =
  `{ } [ ] , : " \\ \\u \\" "a" "b" "" "\\u0061" "__proto__" 0 1 - . e E + 10 00 -0 1.5 1e5 true false null nul tru
  \\ud83d \\ude00 \\u0000 "x\\ny"`.split(/\s+/);
const pieces = fc.array(fc.constantFrom(...PIECES, " ", "\n", "\t", "\u00a0", "\u0000", "\ud800", "é"), {
  maxLength: 12,
});

/** Valid JSON text with one stretch removed, doubled or replaced. */
const mutated = fc
  .tuple(fc.json({ stringUnit: "binary" }), fc.nat(), fc.nat(3), fc.constantFrom("", ...PIECES, " ", "\u0000"))
  .map(([text, at, cut, put]) => {
    const start = at % (text.length + 1);
    return text.slice(0, start) + put + text.slice(start + cut);
  });

describe("grammar", () => {
  test("the scanner accepts what JSON.parse accepts, and nothing else", () => {
    const same = (text: string) => {
      expect(codeOf(text, LOOSE) !== "malformed-json").toBe(parses(text));
    };
    fc.assert(fc.property(fc.json({ stringUnit: "binary" }), same), { numRuns: 500 });
    fc.assert(fc.property(mutated, same), { numRuns: 3_000 });
    fc.assert(
      fc.property(pieces, (parts) => same(parts.join(""))),
      { numRuns: 5_000 },
    );
  });

  test("every character stands raw in a string, and between tokens, where JSON.parse allows it", () => {
    for (let unit = 0; unit < 0x3100; unit++) {
      const character = String.fromCharCode(unit);
      for (const text of [`"${character}"`, `[${character}1]`, `"\\${character}"`])
        if ((codeOf(text) !== "malformed-json") !== parses(text)) expect.fail(JSON.stringify(text));
    }
  });

  test("the place of an error and what was expected there are named", () => {
    expect(jsonFault('{"a":1 "b"}', STRICT)?.detail).toBe('at character 8: expected a comma or }, found "\\""');
    expect(jsonFault("[1", STRICT)?.detail).toBe("at character 3: expected a comma or ], the text ends");
  });

  test("a syntax error is told before any other fault", () => {
    expect(codeOf('{"__proto__":1e400,')).toBe("malformed-json");
  });
});

describe("what JSON.parse would change", () => {
  test("text without a fault has one canonical form, which has no fault and parses to the same", () => {
    const kept = (text: string) => {
      fc.pre(codeOf(text, LOOSE) === null);
      const once = canonical(text);
      expect(canonical(once)).toBe(once);
      expect(jsonFault(once, { ...LOOSE, spaceAllowed: false })).toBeNull();
      expect(JSON.parse(once)).toEqual(negativeZeroLost(JSON.parse(text)));
    };
    fc.assert(fc.property(fc.json({ stringUnit: "grapheme" }), kept), { numRuns: 1_000 });
    fc.assert(
      fc.property(mutated, (text) => (parses(text) ? kept(text) : undefined)),
      { numRuns: 1_000 },
    );
  });

  test("every key that an object holds twice is found, however it is spelled", () => {
    const key = fc
      .string({ unit: "binary", maxLength: 3 })
      .filter((text) => text.isWellFormed() && !text.includes("\0"));
    const spelled = (text: string, escaped: boolean) =>
      escaped ? `"${[...text].map((c) => units(c)).join("")}"` : JSON.stringify(text);
    const members = fc.array(fc.tuple(key, fc.boolean()), { maxLength: 30 });
    fc.assert(
      fc.property(members, (list) => {
        const text = `{${list.map(([name, escaped]) => `${spelled(name, escaped)}:0`).join()}}`;
        const twice = new Set(list.map(([name]) => name)).size < list.length;
        expect(codeOf(text)).toBe(twice ? "duplicate-key" : null);
      }),
      { numRuns: 1_000 },
    );
  });

  test("a string with U+0000 or a lone surrogate is found, raw or escaped, as value or key", () => {
    const any = fc.string({
      unit: fc.constantFrom("a", "\0", "\ud83d", "\ude00", "😀", "\\", "\ud800", "\udfff"),
      maxLength: 5,
    });
    fc.assert(
      fc.property(any, (text) => {
        const bad = text.includes("\0") || !text.isWellFormed();
        const escaped = `"${[...text].map(units).join("")}"`;
        for (const literal of [JSON.stringify(text), escaped])
          for (const place of [literal, `[${literal}]`, `{${literal}:1}`])
            expect(codeOf(place)).toBe(bad ? "unstorable-text" : null);
      }),
      { numRuns: 1_000 },
    );
    expect(codeOf('"\ud800"')).toBe("unstorable-text");
    expect(codeOf('{"\udc00":1}')).toBe("unstorable-text");
    expect(codeOf('"\0"')).toBe("malformed-json");
  });

  test("an integer is kept to the last digit or refused", () => {
    const integer = fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n });
    const near = fc.integer({ min: -2_000, max: 2_000 }).map((n) => 2n ** 53n + BigInt(n));
    const kept = (n: bigint) => {
      const printed = JSON.stringify(Number(n));
      // The mathematical value of what would be stored, without the code under test.
      const [mantissa = "", exponent = "0"] = printed.split("e+");
      const [whole = "", fraction = ""] = mantissa.split(".");
      const stored = BigInt(whole + fraction) * 10n ** BigInt(Number(exponent) - fraction.length);
      expect(numberFault(`${n}`) === null).toBe(stored === n);
    };
    fc.assert(fc.property(integer, kept), { numRuns: 1_000 });
    fc.assert(fc.property(near, kept), { numRuns: 1_000 });
    for (let e = 0n; e <= 308n; e++) for (const n of [10n ** e, -(10n ** e)]) kept(n);
  });

  test.each(["0", "-0", "1.0", "1E2", "1e300", "0.1234567890123456789", "9007199254740992", "0e999", "1e21", "5e-324"])(
    "%s is normalised or kept",
    (literal) => expect(numberFault(literal)).toBeNull(),
  );

  test.each(["1e400", "-1e400", "1e-400", `0.${"0".repeat(330)}1`, "9".repeat(310), "1152921504606846976"])(
    "%s is refused",
    (literal) => expect(numberFault(literal)).toMatch(/send it as a string$/),
  );
});

describe("limits", () => {
  test("depth is counted before anything is parsed, and brackets in strings do not count", () => {
    expect(codeOf("[".repeat(64) + "]".repeat(64))).toBeNull();
    expect(codeOf("[".repeat(65) + "]".repeat(65))).toBe("too-deep");
    expect(codeOf(`[${JSON.stringify("[{".repeat(100))}]`)).toBeNull();
    expect(codeOf(`${"[".repeat(65)}"]\\"]"${"]".repeat(65)}`)).toBe("too-deep");
    expect(codeOf("[".repeat(1_000_000))).toBe("malformed-json");
  });

  test("keys count at all levels together", () => {
    const limits = { ...STRICT, keysMax: 3 };
    expect(codeOf('{"a":{"a":{"a":1}}}', limits)).toBeNull();
    expect(codeOf('[{"a":{"a":1}},{"a":1},{"b":1}]', limits)).toBe("too-many-keys");
  });

  test("canonical text has no space between tokens", () => {
    const limits = { ...STRICT, spaceAllowed: false };
    expect(codeOf('{"a b":[1,2]}', limits)).toBeNull();
    for (const text of [" 1", "1\n", "[1, 2]", '{"a" :1}', "[\n]"]) expect(codeOf(text, limits)).toBe("malformed-json");
  });
});

describe("items", () => {
  test("each element has its own fault, limits and place", () => {
    const text = ' [ {"a":[1,{"b/c":1e400}]}, 2 ,{"__proto__":1},[[[1]]] ] ';
    const scanned = scanItems(text, { ...STRICT, depthMax: 3, keysMax: 2 }, 10);
    expect(scanned).toMatchObject({ ok: true, array: true, tooMany: false });
    const items = scanned.ok ? scanned.items : [];
    expect(items.map((item) => item.text)).toEqual(['{"a":[1,{"b/c":1e400}]}', "2", '{"__proto__":1}', "[[[1]]]"]);
    expect(items.map((item) => item.fault?.code ?? null)).toEqual(["inexact-number", null, "forbidden-key", null]);
    expect(items.map((item) => item.fault?.pointer)).toEqual(["/a/1/b~1c", undefined, "/__proto__", undefined]);
  });

  test("elements are those of JSON.parse", () => {
    const values = fc.array(fc.jsonValue({ stringUnit: "grapheme" }), { maxLength: 6 });
    fc.assert(
      fc.property(values, fc.constantFrom(0, 1, 2), (list, space) => {
        const scanned = scanItems(JSON.stringify(list, null, space), LOOSE, 10);
        const items = scanned.ok ? scanned.items.map((item) => JSON.parse(item.text)) : null;
        expect(items).toEqual(JSON.parse(JSON.stringify(list)));
      }),
    );
  });

  test("reading stops at the limit", () => {
    expect(scanItems("[1,2,3]", STRICT, 3)).toMatchObject({ tooMany: false });
    expect(scanItems("[1,2,3,x", STRICT, 3)).toMatchObject({ ok: true, tooMany: true });
  });
});

test("foreign text in messages is short and well-formed", () => {
  expect(excerpt(`a"${"x".repeat(1_000_000)}`)).toHaveLength(44);
  expect(excerpt(`${"x".repeat(39)}😀`).isWellFormed()).toBe(true);
  expect(pointer(["~/", 0, ""])).toBe("/~0~1/0/");
  expect(pointer(Array(64).fill("k".repeat(100)))).toHaveLength(201);
});

function units(text: string): string {
  return Array.from({ length: text.length }, (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, "0")}`).join(
    "",
  );
}

/** JSON has no other value that a round trip changes. */
function negativeZeroLost(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
