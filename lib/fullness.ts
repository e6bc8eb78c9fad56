/** Whether the log has room for new events, and when it will have. Pure. */
import type { LogFill, PartitionFill } from "#lib/retention.ts";

/**
 * Of the limit. What is unsaved stops below what is kept in all: so there is room to go on with once the sink has caught up,
 * while what it has just saved must stay in the log for the margin.
 */
const UNSAVED_MAX = 0.8;
const RETAINED_MAX = 0.95;
/** Of the point of refusal: below it events are taken again. */
const RELEASED_AT = 0.9;

type Bytes = Pick<LogFill, "retainedBytes" | "unsavedBytes">;

/** Whether new events are refused, given whether they were before. */
export function refuses(before: boolean, { retainedBytes, unsavedBytes }: Bytes, bytesMax: number): boolean {
  const fullness = Math.max(unsavedBytes / UNSAVED_MAX, retainedBytes / RETAINED_MAX) / bytesMax;
  return before ? fullness > RELEASED_AT : fullness >= 1;
}

/** Where nothing is known, and the bounds of what is: who comes back too early is told again. */
const RETRY_SECONDS_UNKNOWN = 60;
const RETRY_SECONDS_MAX = 3_600;
/** Saved records are deleted once a minute. */
const TRIM_SECONDS = 60;

/** When refused events are worth sending again, if saving goes on at this pace. */
export function retryAfterSeconds(
  { retainedBytes, unsavedBytes }: Bytes,
  bytesMax: number,
  savedBytesPerSecond: number,
): number {
  const tooMuchUnsaved = unsavedBytes - bytesMax * UNSAVED_MAX * RELEASED_AT;
  const tooMuchRetained = retainedBytes - bytesMax * RETAINED_MAX * RELEASED_AT;
  // What is saved already can be deleted as it is; only what goes beyond that has to be saved first.
  const toSave = Math.max(0, tooMuchUnsaved, tooMuchRetained - (retainedBytes - unsavedBytes));
  if (toSave > 0 && savedBytesPerSecond <= 0) return RETRY_SECONDS_UNKNOWN;
  const seconds = (toSave > 0 ? toSave / savedBytesPerSecond : 0) + (tooMuchRetained > 0 ? TRIM_SECONDS : 0);
  return Math.min(RETRY_SECONDS_MAX, Math.max(1, Math.ceil(seconds)));
}

/** What counts as lately: a few dozen batches of a sink that works, and soon over when it stops. */
const LATELY_MS = 20_000;

/** How fast the published checkpoints moved lately. */
export class Drain {
  /** Of the last while, and the one before it. At one look a second, about twenty. */
  #seen: { readonly atMs: number; readonly partitions: ReadonlyMap<number, PartitionFill> }[] = [];

  /** @param atMs monotonic */
  observe(atMs: number, { partitions }: Pick<LogFill, "partitions">): void {
    this.#seen.push({ atMs, partitions });
    while ((this.#seen[1]?.atMs ?? atMs) <= atMs - LATELY_MS) this.#seen.shift();
  }

  get bytesPerSecond(): number {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    let bytes = 0;
    for (const [partition, { nextOffset, recordBytes }] of last.partitions) {
      const moved = Number(nextOffset - (first.partitions.get(partition)?.nextOffset ?? nextOffset));
      bytes += Math.max(0, moved) * recordBytes;
    }
    return bytes / ((last.atMs - first.atMs) / 1_000);
  }
}
