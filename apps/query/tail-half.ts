/** The tail's half of a page, asking the database again where copies have left it short. Bounded. */

import type { TailEvent } from "./client-tail.ts";
import { type RowPlaces, type Selection, type Source, tailSource } from "./merge.ts";
import type { Pin } from "./partition-tail.ts";
import type { ClientOrder } from "./places.ts";
import { type Candidates, candidates, type Looked, scanEnd } from "./scan.ts";

/** What the first statement gave. */
interface Begun {
  readonly found: Candidates;
  /** The checkpoint of the snapshot that the rows come from. */
  readonly unsavedFrom: bigint;
  readonly places: RowPlaces;
  /** Events that precede the tail's half in the page; null: they fill it. */
  readonly taken: number | null;
  readonly looked: Looked;
}

/** Statements beyond the first. A crowd of copies longer than this makes a short page that tells where to go on. */
const ROUNDS_MAX = 3;

/**
 * @param lookUp a later snapshot: checkpoint, and where identities are saved
 * @returns null when that snapshot's checkpoint is lower than the first one's: the read must begin again
 */
export async function tailHalf(
  { order, query, pin }: { order: ClientOrder; query: Selection; pin: Pin },
  { found, unsavedFrom, places, taken, looked }: Begun,
  lookUp: (events: readonly TailEvent[]) => Promise<{ readonly nextOffset: bigint | null; readonly places: RowPlaces }>,
): Promise<Source | null> {
  const end = scanEnd(pin, order.epoch, query, unsavedFrom, looked);
  let { events, cutAt } = tailSource(found, order.epoch, query.order, unsavedFrom, places, end);
  if (taken === null) return { events, cutAt };
  const wanted = query.limit - taken;
  for (let round = 0; round < ROUNDS_MAX && cutAt !== null && cutAt !== end && events.length <= wanted; round++) {
    const more = candidates(pin, order.epoch, query, cutAt.offset);
    const later = await lookUp(more.events);
    if ((later.nextOffset ?? 0n) < unsavedFrom) return null;
    const source = tailSource(more, order.epoch, query.order, unsavedFrom, later.places, end);
    events = [...events, ...source.events];
    cutAt = source.cutAt;
  }
  return { events, cutAt };
}
