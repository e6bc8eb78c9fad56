/**
 * The one exemption from "each event appears once": a copy of a saved event may be shown while the database is away, since
 * only the database knows where the first one lies. It is told apart here, counted, and taken out of the history.
 */
import type { Seen } from "./content.ts";
import { identity } from "./facts.ts";
import type { Entry, History, Live, Page } from "./history.ts";
import type { Truth } from "./truth.ts";

/** By process.hrtime. */
export interface Outage {
  readonly from: bigint;
  readonly to: bigint;
}

/**
 * Takes copies of saved events out of what was read in an outage; all else of it is judged as ever. Of a page's copy the
 * first one was saved when the page was made: its own header says so. Live events tell only that it was saved in the end.
 * @returns how many copies were shown
 */
export function exemptCopies(history: Pick<History, "entries">, truth: Truth, outages: readonly Outage[]): number {
  const saved = new Map(truth.rows.map((row) => [identity(row), row.offset]));
  const isCopy = (one: Seen, savedThrough: bigint): boolean => {
    const offset = saved.get(identity(one));
    return offset !== undefined && offset < one.offset && offset <= savedThrough;
  };
  const during = (from: bigint, to: bigint): boolean => outages.some((one) => one.from <= to && from <= one.to);
  const isExempt = (entry: Page | Live, one: Seen): boolean =>
    entry.f === "page"
      ? during(entry.tInv, entry.tRet) && isCopy(one, entry.savedThrough ?? -1n)
      : during(one.at, one.at) && isCopy(one, one.offset);
  let copies = 0;
  const judged = history.entries.map((entry): Entry => {
    if (entry.f === "append") return entry;
    const events = entry.events.filter((one) => !isExempt(entry, one));
    copies += entry.events.length - events.length;
    return { ...entry, events };
  });
  history.entries.splice(0, history.entries.length, ...judged);
  return copies;
}
