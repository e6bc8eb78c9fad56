import { expect, test } from "vitest";
import { fingerprintOf } from "#lib/codec.ts";
import { crc64Avro } from "#lib/fingerprint.ts";

/** From Avro's share/test/data/schema-tests.txt: canonical form → fingerprint as a signed 64 bit number. */
const AVRO: readonly (readonly [schema: string, fingerprint: bigint])[] = [
  ['"null"', 7195948357588979594n],
  ['"boolean"', -6970731678124411036n],
  ['"int"', 8247732601305521295n],
  ['"long"', -3434872931120570953n],
  ['"float"', 5583340709985441680n],
  ['"double"', -8181574048448539266n],
  ['"bytes"', 5746618253357095269n],
  ['"string"', -8142146995180207161n],
];

const hex = (bytes: Buffer): string => bytes.readBigUInt64LE().toString(16);

test("the fingerprint of int is the specification's 7275d51a3f395c8f, little-endian in a record", () => {
  expect(hex(crc64Avro(Buffer.from('"int"')))).toBe("7275d51a3f395c8f");
  expect(crc64Avro(Buffer.from('"int"')).toString("hex")).toBe("8f5c393f1ad57572");
});

test.each(AVRO)("%s has Avro's own fingerprint", (schema, fingerprint) => {
  expect(crc64Avro(Buffer.from(schema)).readBigInt64LE()).toBe(fingerprint);
  expect(fingerprintOf(schema)).toBe(crc64Avro(Buffer.from(schema)).toString("hex"));
});

test("a fingerprint is that of the canonical form: docs, defaults, logical types and spelling do not count", () => {
  const canonical =
    '{"name":"a.R","type":"record","fields":[{"name":"x","type":"long"},{"name":"y","type":["null","string"]}]}';
  const decorated = `{ "type": "record", "doc": "d", "namespace": "a", "name": "R", "fields": [
    { "doc": "d", "name": "x", "type": { "type": "long", "logicalType": "timestamp-millis" } },
    { "default": null, "type": ["null", { "type": "string" }], "name": "y" } ] }`;
  expect(fingerprintOf(decorated)).toBe(crc64Avro(Buffer.from(canonical)).toString("hex"));
});
