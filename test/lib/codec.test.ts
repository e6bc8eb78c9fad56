import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  EventDecoder,
  encodeEvent,
  fingerprintOf,
  RECORD_BYTES_MAX,
  WRITER_FINGERPRINT,
  WRITER_SCHEMA,
} from "#lib/codec.ts";
import { LIMITS } from "#lib/event.ts";
import { anyEvent, someEvent } from "../support/records.ts";
import { NEWER_SCHEMA, OLDER_SCHEMA, writeAs } from "../support/writers.ts";

const decode = (value: Buffer | null) => new EventDecoder().decode(value);
const header = Buffer.concat([Buffer.from([0xc3, 0x01]), Buffer.from(WRITER_FINGERPRINT, "hex")]);
const withBody = (...body: number[]) => Buffer.concat([header, Buffer.from(body)]);

test("any event comes back as it was, and its bytes are its own", () => {
  fc.assert(
    fc.property(anyEvent, anyEvent, (event, other) => {
      const value = encodeEvent(event);
      encodeEvent(other);
      expect(decode(value)).toEqual({ ok: true, event });
    }),
  );
});

test("the largest event fits, larger than the buffer that encodings share", () => {
  const name = (bytes: number) => "é".repeat(bytes / 2);
  const event = someEvent({
    clientId: name(254),
    id: name(128),
    type: name(254),
    data: `"${name(LIMITS.dataBytesMax - 2)}"`,
  });
  const value = encodeEvent(event);
  expect(value.length).toBeLessThan(RECORD_BYTES_MAX);
  expect(decode(value)).toEqual({ ok: true, event });
  expect(decode(encodeEvent(someEvent()))).toEqual({ ok: true, event: someEvent() });
});

describe("schemas of other writers", () => {
  const event = someEvent({ data: null });

  test("an unknown one is named, not guessed", () => {
    const value = writeAs(NEWER_SCHEMA, event, { source: "x" });
    expect(decode(value)).toEqual({ ok: false, reason: "unknown-schema", fingerprint: fingerprintOf(NEWER_SCHEMA) });
  });

  test("a newer writer's added field is left out", () => {
    const decoder = new EventDecoder();
    decoder.learn(fingerprintOf(NEWER_SCHEMA), NEWER_SCHEMA);
    expect(decoder.decode(writeAs(NEWER_SCHEMA, event, { source: "x" }))).toEqual({ ok: true, event });
    expect(decoder.decode(encodeEvent(event))).toEqual({ ok: true, event });
  });

  test("an older writer's missing field has its default", () => {
    const decoder = new EventDecoder();
    decoder.learn(fingerprintOf(OLDER_SCHEMA), OLDER_SCHEMA);
    expect(decoder.decode(writeAs(OLDER_SCHEMA, event))).toEqual({ ok: true, event });
  });

  test.each([
    ["no JSON", "{"],
    ["no schema", '{"type":"nonsense"}'],
    ["no event", '{"type":"record","name":"spillway.Event","fields":[{"name":"clientId","type":"string"}]}'],
    ["another type of a field", WRITER_SCHEMA.replace('"name": "id", "type": "string"', '"name": "id", "type": "int"')],
  ])("a schema that is %s is refused", (_, schema) => {
    expect(() => new EventDecoder().learn("00", schema)).toThrow();
  });
});

describe("bytes that are no event", () => {
  const good = encodeEvent(someEvent());
  const long = (value: bigint): number[] => {
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
    for (; rest > 127n; rest >>= 7n) bytes.push(Number((rest & 127n) | 128n));
    return [...bytes, Number(rest)];
  };

  test.each([
    ["none", null, "no value"],
    ["empty", Buffer.alloc(0), "C3 01"],
    ["JSON", Buffer.from('{"clientId":"a"}'), "C3 01"],
    ["only a header's half", good.subarray(0, 9), "C3 01"],
    ["only a header", good.subarray(0, 10), ""],
    ["a byte too long", Buffer.concat([good, Buffer.from([0])]), "1 bytes follow"],
    ["a string of 2 GB", withBody(...long(2_000_000_000n)), ""],
    ["a string of 2^62 bytes", withBody(...long(2n ** 62n)), ""],
    ["a string of negative length", withBody(...long(-5n), 0, 0, 0, 0, 0, 0), ""],
    ["a number that never ends", withBody(...new Array(64).fill(0xff)), ""],
    [
      "a branch of the union that is not there",
      Buffer.concat([encodeEvent(someEvent({ data: null })).subarray(0, -1), Buffer.from([8])]),
      "",
    ],
    ["above the limit", Buffer.concat([header, Buffer.alloc(RECORD_BYTES_MAX)]), "more than any event"],
  ])("%s", (_, value, detail) => {
    const result = decode(value);
    expect(result).toMatchObject({ ok: false, reason: "undecodable" });
    expect("detail" in result && result.detail).toContain(detail);
  });

  test("a time beyond what a double keeps", () => {
    const strings = [2, 0x61, 2, 0x61, 2, 0x61];
    expect(decode(withBody(...strings, ...long(2n ** 60n), ...long(0n), 0))).toMatchObject({
      ok: false,
      reason: "undecodable",
    });
    expect(decode(withBody(...strings, ...long(5n), ...long(0n), 0))).toMatchObject({ ok: true });
  });

  test("any cut", () => {
    for (let end = 0; end < good.length; end++)
      expect(decode(good.subarray(0, end)), `cut at ${end}`).toMatchObject({ ok: false, reason: "undecodable" });
  });

  test("any noise behind a header is decided without an exception", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (noise) => void decode(Buffer.concat([header, noise]))));
  });
});

test("the envelope is flat: nothing in it can claim more than its bytes hold", () => {
  const { fields } = JSON.parse(WRITER_SCHEMA) as { fields: { type: unknown }[] };
  const types = fields.flatMap(({ type }) => (Array.isArray(type) ? type : [type]));
  const names = types.map((type) => (typeof type === "string" ? type : (type as { type: string }).type));
  expect(new Set(names)).toEqual(new Set(["string", "long", "null"]));
});
