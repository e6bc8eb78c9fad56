/** Bodies that must be refused, and hostile ones that must pass unharmed through every part. */
import type { ProblemCode } from "#lib/problem.ts";

export interface BadBody {
  readonly name: string;
  /** For POST /api/v1/events as application/json. */
  readonly body: Uint8Array;
  readonly status: number;
  readonly code: ProblemCode;
}

export interface HostileEvent {
  readonly name: string;
  readonly clientId: string;
  readonly type: string;
  readonly id: string;
  /** JSON text as sent, or null for an event without data. */
  readonly data: string | null;
  /** JSON text as stored and shown. */
  readonly canonical: string | null;
}

const nested = (depth: number, open = "[", close = "]") => open.repeat(depth) + close.repeat(depth);
const keys = (count: number) => `{${Array.from({ length: count }, (_, i) => `"k${i}":0`).join()}}`;
const withData = (data: string) => `{"clientId":"bad","type":"t","data":${data}}`;
const withTime = (time: string) => `{"clientId":"bad","type":"t","occurredAt":${time}}`;
const withNames = (names: Record<string, unknown>) => JSON.stringify({ clientId: "bad", type: "t", ...names });

const MALFORMED: [name: string, body: string][] = [
  ["an empty body", ""],
  ["only space", " \r\n\t"],
  ["a byte order mark", `\ufeff${withData("1")}`],
  ["half an event", '{"clientId":"bad","type":'],
  ["an unclosed array", `[${withData("1")}`],
  ["text after the event", `${withData("1")} x`],
  ["two events without an array", `${withData("1")}\n${withData("2")}`],
  ["a trailing comma", withData('{"a":1,}')],
  ["a trailing comma in the array of events", `[${withData("1")},]`],
  ["a comment", withData("1/* */")],
  ["single quotes", "{'clientId':'bad'}"],
  ["a leading zero", withData("01")],
  ["a leading plus", withData("+1")],
  ["a bare fraction", withData(".5")],
  ["a fraction without digits", withData("1.")],
  ["NaN", withData("NaN")],
  ["Infinity", withData("-Infinity")],
  ["undefined", withData("undefined")],
  ["a raw NUL in a string", withData('"\u0000"')],
  ["a raw line break in a string", withData('"\n"')],
  ["an unknown escape", withData('"\\x41"')],
  ["half a unicode escape", withData('"\\u00"')],
  ["a no-break space between tokens", `\u00a0${withData("1")}`],
];

const HAZARDS: [name: string, code: ProblemCode, body: string][] = [
  ["a repeated clientId", "duplicate-key", '{"clientId":"bad","clientId":"other","type":"t"}'],
  ["a repeated clientId by escape", "duplicate-key", '{"clientId":"bad","\\u0063lientId":"other","type":"t"}'],
  ["a repeated key in data", "duplicate-key", withData('{"a":1,"b":2,"a":1}')],
  ["a repeated key deep in data", "duplicate-key", withData('[[{"x":{"":1,"":2}}]]')],
  ["a repeated key after many", "duplicate-key", withData(`${keys(50).slice(0, -1)},"k17":0}`)],
  ["__proto__ as a field", "forbidden-key", '{"clientId":"bad","type":"t","__proto__":{}}'],
  ["__proto__ in data", "forbidden-key", withData('{"__proto__":{"admin":true}}')],
  ["__proto__ deep in data", "forbidden-key", withData('[{"a":{"__proto__":null}}]')],
  ["__proto__ by escape", "forbidden-key", withData('{"\\u005f_proto__":1}')],
  ["65 arrays", "too-deep", withData(nested(65))],
  ["65 objects", "too-deep", withData(`${'{"a":'.repeat(65)}1${"}".repeat(65)}`)],
  ["5,000 arrays", "too-deep", withData(nested(5_000))],
  ["a million arrays", "too-deep", withData(nested(1_000_000))],
  ["10,001 keys", "too-many-keys", withData(keys(10_001))],
  ["2^53 + 1", "inexact-number", withData("9007199254740993")],
  ["-(2^53 + 1)", "inexact-number", withData("[-9007199254740993]")],
  ["2^60, which is printed otherwise", "inexact-number", withData("1152921504606846976")],
  ["an integer of 25 digits", "inexact-number", withData("1234567890123456789012345")],
  ["an integer of 400 digits", "inexact-number", withData(`1${"0".repeat(399)}`)],
  ["1e400", "inexact-number", withData('{"a":1e400}')],
  ["-1e400", "inexact-number", withData("-1E+400")],
  ["1e-400", "inexact-number", withData("1e-400")],
  ["a tiny fraction in digits", "inexact-number", withData(`0.${"0".repeat(400)}1`)],
  ["an escaped NUL in a string", "unstorable-text", withData('"\\u0000"')],
  ["an escaped NUL in a key", "unstorable-text", withData('{"a\\u0000b":1}')],
  ["an escaped NUL in clientId", "unstorable-text", withNames({ clientId: "a\u0000" })],
  ["an escaped NUL in type", "unstorable-text", withNames({ type: "a\u0000" })],
  ["an escaped NUL in id", "unstorable-text", withNames({ id: "a\u0000" })],
  ["a lone high surrogate", "unstorable-text", withData('"\\ud800"')],
  ["a lone low surrogate", "unstorable-text", withData('"\\uDC00x"')],
  ["surrogates in the wrong order", "unstorable-text", withData('"\\udc00\\ud800"')],
  ["a lone surrogate in a key", "unstorable-text", withData('{"\\ud83d":1}')],
  ["a lone surrogate in clientId", "unstorable-text", '{"clientId":"\\ud83d","type":"t"}'],
];

const INVALID: [name: string, body: string][] = [
  ["a number as body", "1"],
  ["null as body", "null"],
  ["a string as body", '"event"'],
  ["an empty array", "[]"],
  ["an array in the array", "[[]]"],
  ["null in the array", `[${withData("1")},null]`],
  ["an empty object", "{}"],
  ["no clientId", '{"type":"t"}'],
  ["no type", '{"clientId":"bad"}'],
  ["a number as clientId", withNames({ clientId: 1 })],
  ["an empty clientId", withNames({ clientId: "" })],
  ["a clientId of 256 bytes", withNames({ clientId: "c".repeat(256) })],
  ["a clientId of 86 characters and 258 bytes", withNames({ clientId: "€".repeat(86) })],
  ["an empty type", withNames({ type: "" })],
  ["null as type", withNames({ type: null })],
  ["a type of 256 bytes", withNames({ type: "t".repeat(256) })],
  ["an empty id", withNames({ id: "" })],
  ["null as id", withNames({ id: null })],
  ["an id of 129 bytes", withNames({ id: "i".repeat(129) })],
  ["an unknown field", withNames({ payload: 1 })],
  ["a field in another case", withNames({ clientID: "bad" })],
  ["a field of every object", withNames({ constructor: 1 })],
  ["receivedAt", withNames({ receivedAt: "2026-01-31T08:00:00Z" })],
  ["cursor", withNames({ cursor: "0" })],
  ["data over 256 KiB", withData(`"${"d".repeat(256 * 1024 - 1)}"`)],
  ["data over 256 KiB in bytes only", withData(`"${"€".repeat(90_000)}"`)],
  ["data over 256 KiB once its numbers are spelled out", withData(`[${Array(20_000).fill("1e20").join()}]`)],
  ["null as occurredAt", withTime("null")],
  ["a number as occurredAt", withTime("1769846400000")],
  ["an empty occurredAt", withTime('""')],
  ["a date without time", withTime('"2026-01-31"')],
  ["a time without offset", withTime('"2026-01-31T08:00:00"')],
  ["a time with a space", withTime('"2026-01-31 08:00:00Z"')],
  ["a time without seconds", withTime('"2026-01-31T08:00Z"')],
  ["an offset without colon", withTime('"2026-01-31T08:00:00+0100"')],
  ["an offset of 24 hours", withTime('"2026-01-31T08:00:00+24:00"')],
  ["30 February", withTime('"2026-02-30T00:00:00Z"')],
  ["29 February of a common year", withTime('"1900-02-29T00:00:00Z"')],
  ["month 0", withTime('"2026-00-10T00:00:00Z"')],
  ["month 13", withTime('"2026-13-01T00:00:00Z"')],
  ["day 0", withTime('"2026-01-00T00:00:00Z"')],
  ["hour 24", withTime('"2026-01-31T24:00:00Z"')],
  ["a leap second", withTime('"2016-12-31T23:59:60Z"')],
  ["a fraction without digits in a time", withTime('"2026-01-31T08:00:00.Z"')],
  ["a comma in a time", withTime('"2026-01-31T08:00:00,5Z"')],
  ["a time with space around", withTime('" 2026-01-31T08:00:00Z"')],
  ["digits of another script", withTime('"２０２６-01-31T08:00:00Z"')],
  ["year 0", withTime('"0000-01-01T00:00:00Z"')],
  ["a UTC year of 0", withTime('"0001-01-01T00:00:00+00:01"')],
  ["a UTC year of 10000", withTime('"9999-12-31T23:59:59-01:00"')],
  ["a year of five digits", withTime('"+10000-01-01T00:00:00Z"')],
];

const bytes = (text: string) => new TextEncoder().encode(text);
/** `before`, the given bytes, `after`. */
const around = (before: string, middle: number[], after: string) =>
  Uint8Array.from([...bytes(before), ...middle, ...bytes(after)]);
const string = (middle: number[]) => around('{"clientId":"bad","type":"', middle, '"}');

const NOT_UTF8: [name: string, body: Uint8Array][] = [
  ["a stray byte", string([0xff])],
  ["a stray continuation", string([0x80])],
  ["half a character", string([0xe2, 0x82])],
  ["an overlong slash", string([0xc0, 0xaf])],
  ["a surrogate in UTF-8", string([0xed, 0xa0, 0x80])],
  ["a code point beyond Unicode", string([0xf4, 0x90, 0x80, 0x80])],
  ["UTF-16", new Uint8Array(Buffer.from('\ufeff{"clientId":"bad"}', "utf16le"))],
];

/** One for each way to be wrong that the body itself shows. None may leave a trace in the log. */
export const BAD_BODIES: readonly BadBody[] = [
  ...MALFORMED.map(([name, body]) => ({ name, body: bytes(body), code: "malformed-json" as const, status: 400 })),
  ...NOT_UTF8.map(([name, body]) => ({ name, body, code: "malformed-utf8" as const, status: 400 })),
  ...HAZARDS.map(([name, code, body]) => ({ name, body: bytes(body), code, status: 400 })),
  ...INVALID.map(([name, body]) => ({ name, body: bytes(body), code: "invalid-event" as const, status: 400 })),
  {
    name: "5,001 events",
    body: bytes(`[${Array(5_001).fill(withData("1")).join()}]`),
    code: "too-many-events",
    status: 400,
  },
];

const DATA: [name: string, data: string | null, canonical?: string][] = [
  ["no data", null],
  ["null as data", "null"],
  ["false as data", "false"],
  ["a string as data", '""'],
  ["zero", "0"],
  ["minus zero", "-0", "0"],
  ["an empty object", "{}"],
  ["an empty array", " [ ] ", "[]"],
  ["space between tokens", '{ "a" :\r\n\t[ 1 , 2 ] }', '{"a":[1,2]}'],
  ["a fraction that is whole", "[1.0,-1.50,1E2,1e-2]", "[1,-1.5,100,0.01]"],
  ["a long fraction", "0.1234567890123456789012345", "0.12345678901234568"],
  ["2^53", "9007199254740992"],
  ["the largest double", "1.7976931348623157e308", "1.7976931348623157e+308"],
  ["the smallest double", "5e-324"],
  ["zero with an exponent", "[0e400,0.0e-400]", "[0,0]"],
  ["10^21 in digits", "1000000000000000000000", "1e+21"],
  ["1e300", "1e300", "1e+300"],
  ["integer-like keys", '{"b":1,"10":2,"a":3,"9":4}', '{"9":4,"10":2,"b":1,"a":3}'],
  ["keys that objects have", '{"constructor":1,"toString":2,"hasOwnProperty":3,"prototype":{"__proto_":4}}'],
  ["toJSON", '{"toJSON":"x"}'],
  ["an empty key", '{"":{"":[]}}'],
  ["keys that differ in case", '{"a":1,"A":2}'],
  ["keys that look alike", '{"é":1,"e\u0301":2}'],
  ["escapes", '"\\u0061\\/\\u00e9\\b\\f\\n\\r\\t\\"\\\\\\u001f"', '"a/é\\b\\f\\n\\r\\t\\"\\\\\\u001f"'],
  ["an escaped surrogate pair", '"\\uD83D\\uDE00"', '"😀"'],
  ["line and paragraph separators", '"\u2028\u2029\u0085"'],
  ["a byte order mark within", '"\ufeff"'],
  ["the replacement character", '"\ufffd"'],
  ["noncharacters and private use", '"\uffff\ufffe\u{10ffff}\ue000"'],
  ["right to left and zero width", '"\u202e\u200b\u200d\u2066"'],
  ["DEL and C1 controls", '"\u007f\u0080\u009f"'],
  ["SQL", '"\'; DROP SCHEMA spillway; --"'],
  ["COPY's end and separators", '"\\\\.\\n\\\\N\\t\\\\t"'],
  ["HTML", '"</script><script>alert(1)</script>"'],
  ["JSON in a string", '"{\\"clientId\\":\\"other\\"}"'],
  ["64 levels", `${nested(64)}`],
  ["10,000 keys", keys(10_000)],
  ["exactly 256 KiB", `"${"d".repeat(256 * 1024 - 2)}"`],
];

const NAMES: [name: string, text: string][] = [
  ["one space", " "],
  ["a path", "../../a%2Fb?c=d&e#f"],
  ["quotes", "\"'`\\"],
  ["line breaks and tabs", "a\r\nb\tc"],
  ["a composed letter", "é"],
  ["a decomposed letter", "e\u0301"],
  ["an emoji with joiners", "👩\u200d👩\u200d👧"],
  ["a word of the language", "__proto__"],
  ["C1 controls", "\u0085\u007f"],
  ["128 bytes", `${"€".repeat(42)}xy`],
];

/** Valid, and a trap for a careless part. Each has its own clientId; ids are unique. */
export const HOSTILE_EVENTS: readonly HostileEvent[] = [
  ...DATA.map(([name, data, canonical], i) => ({
    name,
    clientId: `hostile-${i}`,
    type: "t",
    id: `data-${i}`,
    data,
    canonical: canonical ?? data,
  })),
  ...NAMES.map(([name, text]) => ({ name, clientId: text, type: text, id: text, data: null, canonical: null })),
];

/** The event as the JSON text of a body, `data` spliced in as it stands. */
export function bodyOf({ clientId, type, id, data }: HostileEvent): string {
  const fields = JSON.stringify({ clientId, type, id });
  return data === null ? fields : `${fields.slice(0, -1)},"data":${data}}`;
}
