/** Takes records out of the buffer in which they arrived. */
import type { RawMessage } from "./internals.ts";
import type { LogRecord } from "./ports.ts";

/**
 * Records share buffers of at most this size, so that one kept record of 200 B pins no more than that; left alone it pins
 * the whole response (256 KiB measured). One buffer each would cost an allocation outside the heap per record.
 */
const CHUNK_BYTES_MAX = 16 * 1024;

/** Copies keys and values; a record larger than a chunk gets its own. */
export function copyRecords(messages: readonly RawMessage[]): LogRecord[] {
  const records: LogRecord[] = [];
  for (let from = 0; from < messages.length; ) {
    let to = from;
    let bytes = 0;
    for (let message = messages[to]; message; message = messages[++to]) {
      const size = (message.key?.length ?? 0) + (message.value?.length ?? 0);
      if (to > from && bytes + size > CHUNK_BYTES_MAX) break;
      bytes += size;
    }
    copyChunk(messages.slice(from, to), Buffer.allocUnsafeSlow(bytes), records);
    from = to;
  }
  return records;
}

function copyChunk(messages: readonly RawMessage[], chunk: Buffer, into: LogRecord[]): void {
  let at = 0;
  const copy = (part: Buffer | null): Buffer | null => {
    if (part === null) return null;
    const from = at;
    at += part.copy(chunk, at);
    return chunk.subarray(from, at);
  };
  for (const { offset, timestamp, key, value } of messages) {
    into.push({ offset: BigInt(offset), timestampMs: Number(timestamp), key: copy(key), value: copy(value) });
  }
}
