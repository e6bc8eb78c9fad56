/** Which saved records the log need not keep any longer. Pure. */

/** What the database and the log say of one partition, each at one moment. */
export interface Evidence {
  /** The checkpoint, as it stands now. */
  readonly nextOffset: bigint;
  /** The last record that it covers, if there ever was one. */
  readonly lastOffset: bigint | null;
  /** Where it stood, and when, by the database's clock. Those that could only say more may be left out. */
  readonly marks: readonly Mark[];
  /** The database's clock now. */
  readonly nowMs: number;
}

export interface Mark {
  readonly nextOffset: bigint;
  readonly atMs: number;
}

/**
 * How far a partition may be trimmed: to where its checkpoint has stood or been above for all of the margin. What was saved
 * again within it, after the checkpoint went back, is as new as what was saved for the first time; so is what a mark of the
 * future says, for its time is not known. The last record that was saved stays: by it the log is known to be the same.
 * @returns the first offset to keep; null when nothing is to be deleted
 */
export function trimTo(
  { nextOffset, lastOffset, marks, nowMs }: Evidence,
  { low, high }: { readonly low: bigint; readonly high: bigint },
  marginMs: number,
): bigint | null {
  const isOld = ({ atMs }: Mark): boolean => atMs <= nowMs - marginMs;
  const newestOld = marks.filter(isOld).reduce<Mark | null>((a, b) => (a && a.atMs > b.atMs ? a : b), null);
  if (newestOld === null || lastOffset === null || nextOffset > high) return null;
  const bounds = [nextOffset, lastOffset, ...marks.filter((mark) => !isOld(mark)).map((mark) => mark.nextOffset)];
  const lowest = bounds.reduce((a, b) => (a < b ? a : b), newestOld.nextOffset);
  return lowest > low ? lowest : null;
}

/** The database's clock decides. One that went astray would make marks old at once: then the process' does not agree with it. */
export const CLOCKS_APART_MS_MAX = 5 * 60_000;

/** Enough for a failover to a database that lags, and for a person to notice. The margin is never shorter. */
export const MARGIN_MS_MIN = 10 * 60_000;
/** Of the limit: where pressure begins, and where it is at its height. */
const SHRINKS_FROM = 0.5;
export const SHORTEST_FROM = 0.75;

/**
 * 0: there is room; 1: there is hardly any. By what is retained it shortens the margin; by what is unsaved it makes the sink
 * rest less for others, and not at all before ingest has to refuse. `bytesMax` 0: there is no limit.
 */
export function pressure(bytes: number, bytesMax: number): number {
  if (bytesMax === 0) return 0;
  const beyond = (bytes / bytesMax - SHRINKS_FROM) / (SHORTEST_FROM - SHRINKS_FROM);
  return Math.min(1, Math.max(0, beyond));
}

/** How long saved records stay: as wanted, and the less the fuller the log is. */
export function shrunkMarginMs(retainedBytes: number, bytesMax: number, wantedMs: number): number {
  return Math.round(wantedMs - pressure(retainedBytes, bytesMax) * (wantedMs - Math.min(wantedMs, MARGIN_MS_MIN)));
}
