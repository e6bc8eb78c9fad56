/** The tail's half of a page, asking the database again where copies have left it short. Bounded. */

import type { TailEvent } from "./client-tail.ts";
import { windowOf } from "./disk/window.ts";
import { hasFilters, type Selection, type Source, tailSource } from "./merge.ts";
import type { Pin } from "./partition-tail.ts";
import type { ClientOrder } from "./places.ts";
import type { Saved } from "./questions.ts";
import { type Candidates, candidates, scanEnd } from "./scan.ts";

/** What the first statement gave. */
interface Begun {
  /** What the page sees of the pin. */
  readonly view: Pin;
  readonly found: Candidates;
  /** The checkpoint of the snapshot that the rows come from. */
  readonly unsavedFrom: bigint;
  /** That snapshot. */
  readonly saved: Pick<Saved, "places" | "looked" | "server">;
  /** Events that precede the tail's half in the page; null: they fill it. */
  readonly taken: number | null;
}

/** Statements beyond the first. A crowd of copies longer than this makes a short page that tells where to go on. */
const ROUNDS_MAX = 3;

/**
 * @param lookUp a later snapshot: checkpoint, and where identities are saved
 * @returns null when that snapshot's checkpoint is lower than the first one's, or its server another one, whose rows may be of
 *   another past: the read must begin again
 */
export async function tailHalf(
  { order, query, pin }: { order: ClientOrder; query: Selection; pin: Pin },
  { view, found, unsavedFrom, saved, taken }: Begun,
  lookUp: (events: readonly TailEvent[]) => Promise<Pick<Saved, "nextOffset" | "places" | "server">>,
): Promise<Source | null> {
  const { epoch } = order;
  const [onDisk, ascending] = [pin.segments.length > 0, query.order === "asc"];
  // What was looked at before the checkpoint was known may lie below it.
  const anew = onDisk && ascending && hasFilters(query) && unsavedFrom > view.low;
  const scanned = anew ? await windowOf(pin, epoch, query, unsavedFrom) : view;
  const end = scanEnd(scanned, epoch, query, unsavedFrom, saved.looked);
  let { events, cutAt } = tailSource(found, epoch, query.order, unsavedFrom, saved.places, end);
  if (taken === null) return { events, cutAt };
  const wanted = query.limit - taken;
  for (let round = 0; round < ROUNDS_MAX && cutAt !== null && cutAt !== end && events.length <= wanted; round++) {
    const at = ascending ? cutAt.offset + 1n : cutAt.offset;
    const more = candidates(onDisk ? await windowOf(pin, epoch, query, at) : pin, epoch, query, cutAt.offset);
    const later = await lookUp(more.events);
    const savedBelow = later.nextOffset ?? 0n;
    if (savedBelow < unsavedFrom || later.server !== saved.server) return null;
    const source = tailSource(more, epoch, query.order, unsavedFrom, later.places, end, savedBelow);
    events = [...events, ...source.events];
    cutAt = source.cutAt;
  }
  return { events, cutAt };
}
