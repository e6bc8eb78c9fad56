/** What a page needs of its two halves, the rows and the tail, and what to say when it is not to be had. Pure. */
import { ProblemError, problem } from "#lib/problem.ts";
import type { Pin } from "./partition-tail.ts";
import { type ClientOrder, comparePlaces, type Place } from "./places.ts";
import type { PageQuery } from "./read.ts";

/** Whether this page needs nothing but the tail. */
export const isInTail = (
  { order, query }: { readonly order: ClientOrder; readonly query: PageQuery },
  { start }: Pick<Pin, "start">,
): boolean => query.view === "unsaved" || comparePlaces(query.after, { epoch: order.epoch, offset: start - 1n }) >= 0;

/** @param away whether the database as a whole does not answer, and not merely this page's statement */
export function storeUnreachable(away: boolean, cause?: unknown): ProblemError {
  const why = away ? "The database does not answer, and it has" : "timeoutMs (at most 2 s of it) was too short for";
  const detail = `${why} the saved events: try again, or ask with view=unsaved for what is not saved yet.`;
  return new ProblemError(problem("store-unreachable", detail), { cause });
}

/**
 * A log's checkpoints begin once the log that it succeeds is saved whole: without one nobody can tell whether the rows of that
 * have all come, or some are missing again, as in a backup from before; nor what of it is unsaved.
 * @param nextOffset the checkpoint of the snapshot; null: none
 * @throws ProblemError behind, to a page that reaches back into an earlier log
 */
export function requireBegun(
  { order: { succeeds, epoch }, query }: { readonly order: ClientOrder; readonly query: Pick<PageQuery, "after"> },
  nextOffset: bigint | null,
): void {
  if (!succeeds || nextOffset !== null || query.after.epoch === epoch) return;
  const detail = `The log of epoch ${epoch} succeeds another one, of which the last events are being saved: try again.`;
  throw new ProblemError(problem("behind", detail));
}

/** Up to where a client's events are saved. */
export const savedThrough = ({ epoch }: ClientOrder, nextOffset: bigint | null): Place | null =>
  nextOffset === null ? null : { epoch, offset: nextOffset - 1n };
