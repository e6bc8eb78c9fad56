/** From memory to disk: the oldest records of the partition that has most. */
import type { Clock } from "#lib/clock.ts";
import type { PartitionTail } from "../partition-tail.ts";
import type { Disk } from "./disk.ts";

/** Dropped from memory in one go once they are on disk: a millisecond. */
const FORGET_RECORDS = 1_000;

/**
 * The one writer of the tail waits for it, so that nothing is appended meanwhile; reads, evictions and restarts go on.
 * @returns false when the disk takes no more
 */
export async function relieve(
  tails: readonly PartitionTail[],
  disk: Pick<Disk, "write">,
  clock: Pick<Clock, "turn">,
): Promise<boolean> {
  const largest = tails.reduce((most, tail) => (tail.bytes > most.bytes ? tail : most));
  const leaving = largest.leaving();
  if (leaving === null) return false;
  const segment = await disk.write(leaving);
  if (segment === null) return false;
  if (!largest.moved(leaving, segment)) segment.drop();
  while (largest.forget(segment, FORGET_RECORDS)) await clock.turn();
  return true;
}
