/**
 * Decompression of what other producers wrote; ours do not compress. Imported for its effect on kafkajs, which knows gzip
 * only, without a bound.
 */
import { promisify } from "node:util";
import { constants, gunzip, gzip, zstdCompress, zstdDecompress } from "node:zlib";
import { UnreadableBatch } from "./errors.ts";
import { kafkajs } from "./internals.ts";

/** A batch is about 1 MiB on the wire (`max.message.bytes`): more than this from it is a bomb, not events. */
const DECOMPRESSED_BYTES_MAX = 64 * 1024 * 1024;
/** Measured per record of 200 B: zstd at 1 takes 3.3 µs and a seventh of the room, gzip 6.2 µs. */
const ZSTD_LEVEL = 1;

interface Codec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>;
  decompress(compressed: Buffer): Promise<Buffer>;
}

const zstdOptions = { params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL } };
const limit = { maxOutputLength: DECOMPRESSED_BYTES_MAX };

const gzipCodec: Codec = {
  compress: ({ buffer }) => promisify(gzip)(buffer),
  decompress: (compressed) => readable("gzip", promisify(gunzip)(compressed, limit)),
};
const zstdCodec: Codec = {
  compress: ({ buffer }) => promisify(zstdCompress)(buffer, zstdOptions),
  decompress: (compressed) => readable("zstd", promisify(zstdDecompress)(compressed, limit)),
};

const { CompressionCodecs, CompressionTypes } = kafkajs;
const codecs = CompressionCodecs as Record<number, () => Codec>;
codecs[CompressionTypes.GZIP] = () => gzipCodec;
codecs[CompressionTypes.ZSTD] = () => zstdCodec;
codecs[CompressionTypes.Snappy] = refuse("Snappy");
codecs[CompressionTypes.LZ4] = refuse("LZ4");
// Taken for uncompressed otherwise, and decoded to nonsense.
for (const unknown of [5, 6, 7]) codecs[unknown] = refuse(`number ${unknown}`);

/** zlib throws a RangeError at its limit, which kafkajs takes for a bug of its own. */
async function readable(name: string, work: Promise<Buffer>): Promise<Buffer> {
  try {
    return await work;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UnreadableBatch(
      `A ${name} batch cannot be decompressed into at most ${DECOMPRESSED_BYTES_MAX} bytes: ${why}`,
      { cause: error },
    );
  }
}

function refuse(name: string): () => never {
  return () => {
    throw new UnreadableBatch(
      `A batch is compressed with codec ${name}, which cannot be read here: let its producer use zstd, gzip or none, ` +
        "or set compression.type of the topic to zstd so that the broker recompresses new batches.",
    );
  };
}
