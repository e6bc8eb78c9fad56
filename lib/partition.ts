/** clientId → partition: murmur2 as Kafka's own default partitioner has it, so that foreign producers agree. */

const SEED = 0x9747b28c;
const M = 0x5bd1e995;

/** murmur2, 32 bit, as `org.apache.kafka.common.utils.Utils.murmur2`. Returns a signed 32 bit integer. */
export function murmur2(data: Uint8Array): number {
  const length = data.length;
  let h = SEED ^ length;
  const words = length >> 2;
  for (let i = 0; i < words; i++) {
    const at = i * 4;
    let k =
      ((data[at] as number) |
        ((data[at + 1] as number) << 8) |
        ((data[at + 2] as number) << 16) |
        ((data[at + 3] as number) << 24)) >>>
      0;
    k = Math.imul(k, M);
    k ^= k >>> 24;
    k = Math.imul(k, M);
    h = Math.imul(h, M) ^ k;
  }
  const rest = words * 4;
  const left = length & 3;
  if (left === 3) h ^= (data[rest + 2] as number) << 16;
  if (left >= 2) h ^= (data[rest + 1] as number) << 8;
  if (left >= 1) h = Math.imul(h ^ (data[rest] as number), M);
  h ^= h >>> 13;
  h = Math.imul(h, M);
  h ^= h >>> 15;
  return h | 0;
}

/** The partition that holds a client's events. @param key the clientId's UTF-8 bytes */
export function partitionOf(key: Uint8Array, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}
