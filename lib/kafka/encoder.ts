/**
 * The client library's encoder, made cheaper before anything of the library is loaded. Each record has an encoder of its own:
 * the library zeroes 512 bytes for it and reckons a timestamp delta of 0 in 64 bits, which was a third of a send's work.
 */
import { createRequire } from "node:module";

interface EncoderInstance {
  buf: Buffer;
  offset: number;
  writeInt8(value: number): EncoderInstance;
  writeVarLong(value: unknown): EncoderInstance;
  ensureAvailable(length: number): void;
}

interface EncoderClass {
  prototype: EncoderInstance;
  nextPowerOfTwo(value: number): number;
  sizeOfVarLong(value: unknown): number;
}

const load = createRequire(import.meta.url);
const path = load.resolve("kafkajs/src/protocol/encoder.js");
const Original = load(path) as EncoderClass;
const { sizeOfVarLong, nextPowerOfTwo } = Original;
const { writeVarLong } = Original.prototype;

/** As the original, with memory that is not zeroed: every byte below `offset` is written, and none above is read. */
function Encoder(this: EncoderInstance, initialBytes = 511): void {
  this.buf = Buffer.allocUnsafe(nextPowerOfTwo(initialBytes));
  this.offset = 0;
}

Encoder.prototype = Original.prototype;
Object.setPrototypeOf(Encoder, Original);
const module = load.cache[path];
if (module) module.exports = Encoder;

Original.prototype.ensureAvailable = function (this: EncoderInstance, length: number): void {
  if (this.offset + length <= this.buf.length) return;
  const larger = Buffer.allocUnsafe(nextPowerOfTwo(this.offset + length));
  this.buf.copy(larger, 0, 0, this.offset);
  this.buf = larger;
};

Original.sizeOfVarLong = (value) => (value === 0 ? 1 : sizeOfVarLong.call(Original, value));

Original.prototype.writeVarLong = function (this: EncoderInstance, value: unknown): EncoderInstance {
  return value === 0 ? this.writeInt8(0) : writeVarLong.call(this, value);
};
