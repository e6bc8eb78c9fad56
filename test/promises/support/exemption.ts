/**
 * The one exemption from "each event appears once": a copy of a saved event may be shown while the database is away, since
 * only the database knows where the first one lies. It is told apart here, counted, and taken out of the history.
 */
import type { Seen } from "./content.ts";
import { identity } from "./facts.ts";
import type { Entry, History } from "./history.ts";
import type { Truth } from "./truth.ts";

/** By process.hrtime. */
export interface Outage {
  readonly from: bigint;
  readonly to: bigint;
}

/**
 * Takes out pages and live events that were read in an outage and show a copy of a saved event.
 * @returns how many copies they showed
 */
export function exemptCopies(history: History, truth: Truth, outages: readonly Outage[]): number {
  const saved = new Map(truth.rows.map((row) => [identity(row), row.offset]));
  const isCopy = (one: Seen): boolean => {
    const offset = saved.get(identity(one));
    return offset !== undefined && offset < one.offset;
  };
  const during = (from: bigint, to: bigint): boolean => outages.some((one) => one.from <= to && from <= one.to);
  let copies = 0;
  const kept = history.entries.flatMap((entry): Entry[] => {
    if (entry.f === "page") {
      const here = during(entry.tInv, entry.tRet) ? entry.events.filter(isCopy).length : 0;
      copies += here;
      return here > 0 ? [] : [entry];
    }
    if (entry.f === "live") {
      const events = entry.events.filter((one) => !(isCopy(one) && during(one.at, one.at)));
      copies += entry.events.length - events.length;
      return [{ ...entry, events }];
    }
    return [entry];
  });
  history.entries.splice(0, history.entries.length, ...kept);
  return copies;
}
