/** CRC-64-AVRO, Avro's Rabin fingerprint. https://avro.apache.org/docs/1.12.0/specification/#schema-fingerprints */

const EMPTY = 0xc15d213aa4d7a795n;

const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = BigInt(byte);
  for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (EMPTY & -(value & 1n) & 0xffffffffffffffffn);
  return value;
});

/** The fingerprint as single-object encoding writes it: 8 bytes, little-endian. @param data a schema's canonical form */
export function crc64Avro(data: Uint8Array): Buffer {
  let value = EMPTY;
  for (const byte of data) value = (value >> 8n) ^ (TABLE[Number((value ^ BigInt(byte)) & 0xffn)] ?? 0n);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}
