/**
 * What clients did and saw, against what there is: which invariants of the promises are broken? Pure, O(n log n).
 *
 * 1 no loss, 2 nothing invented, 3 an id and its first position are one to one, 4 no id twice, 5 order follows the real
 * time of acknowledged writes and a request's own order, 6 no hole, 7 `latest` and `atLeast` cover what they must,
 * 8 later reads never cover less, 9 a follower's frames are the slice, 10 one text per id, 12 every offset below the
 * checkpoint is exactly one of row, later copy and dead letter, 13 nobody else's event.
 * Invariants 2 and 5 to 8 together are linearizability of one log per client: no search is needed.
 */
import { type Facts, factsOf, identity } from "./facts.ts";
import type { Append, Entry, Live, Page } from "./history.ts";
import { disordered, displaced, repeated } from "./invariants/placed.ts";
import { foreign, holes, reprinted, shrunk, torn, uncovered } from "./invariants/shown.ts";
import { invented, lost, unaccounted } from "./invariants/stored.ts";
import type { Violation } from "./invariants/violation.ts";
import type { Truth } from "./truth.ts";

export type { Violation } from "./invariants/violation.ts";

/** What the history holds: a verdict on little is none. */
export interface Counts {
  /** Attempts of one event each. */
  readonly appends: number;
  /** Ids with an acknowledgement. */
  readonly okIds: number;
  /** Ids of which no attempt was acknowledged, and that may be stored. */
  readonly infoIds: number;
  /** Attempts that ended without saying whether the event is stored. */
  readonly infoAttempts: number;
  /** Ids that were sent more than once. */
  readonly resentIds: number;
  /** Records of the topic that repeat an earlier one's identity. */
  readonly copies: number;
  readonly pages: number;
  /** Pages with saved and unsaved events. */
  readonly mixedPages: number;
  /** Ids shown in pages as saved, and as unsaved, and both. */
  readonly savedShown: number;
  readonly unsavedShown: number;
  readonly shownOnBothSides: number;
  readonly liveEvents: number;
  readonly resumes: number;
  readonly rows: number;
  readonly dead: number;
}

export interface Verdict {
  readonly violations: readonly Violation[];
  readonly counts: Counts;
}

/** Judges; everything must have come to rest before `truth` was read. */
export function check(history: { readonly entries: readonly Entry[] }, truth: Truth): Verdict {
  const appends = history.entries.filter((one): one is Append => one.f === "append");
  const pages = history.entries.filter((one): one is Page => one.f === "page");
  const lives = history.entries.filter((one): one is Live => one.f === "live");
  const shown = [...pages, ...lives, ...truth.finals].flatMap(({ events }) => events);
  const facts = factsOf(appends, truth);
  const violations = [
    ...lost(facts, truth),
    ...invented(facts, shown, truth),
    ...displaced(facts, appends, shown),
    ...repeated(pages, lives, truth),
    ...disordered(facts, appends),
    ...holes(facts, pages),
    ...uncovered(facts, pages),
    ...shrunk(facts, pages),
    ...torn(facts, lives),
    ...reprinted(shown),
    ...unaccounted(truth),
    ...foreign([...pages, ...lives]),
  ];
  return { violations, counts: count(facts, appends, pages, lives, truth) };
}

/** One line a violation, at most five of each invariant. */
export function shortened(violations: readonly Violation[]): string[] {
  const lines: string[] = [];
  for (const invariant of new Set(violations.map((one) => one.invariant))) {
    const all = violations.filter((one) => one.invariant === invariant);
    lines.push(...all.slice(0, 5).map(({ what }) => `I${invariant}: ${what}`));
    if (all.length > 5) lines.push(`I${invariant}: and ${all.length - 5} more`);
  }
  return lines;
}

/** What happened less often than it must for the verdict to mean anything. */
export function tooSeldom(counts: Counts, atLeast: Partial<Counts>): string[] {
  return Object.entries(atLeast)
    .filter(([name, least]) => counts[name as keyof Counts] < least)
    .map(
      ([name, least]) => `verdict unknown: ${name} is ${counts[name as keyof Counts]}, and must be at least ${least}`,
    );
}

function count(
  facts: Facts,
  appends: readonly Append[],
  pages: readonly Page[],
  lives: readonly Live[],
  truth: Truth,
): Counts {
  const [asSaved, asUnsaved] = [new Set<string>(), new Set<string>()];
  let mixedPages = 0;
  for (const { events, savedThrough } of pages) {
    const saved = events.filter(({ offset }) => offset <= (savedThrough ?? -1n));
    for (const one of events) (one.offset <= (savedThrough ?? -1n) ? asSaved : asUnsaved).add(identity(one));
    if (saved.length > 0 && saved.length < events.length) mixedPages++;
  }
  const sent = [...facts.sent.values()];
  return {
    appends: appends.length,
    okIds: sent.filter(({ okAt }) => okAt !== null).length,
    infoIds: sent.filter(({ okAt, contents }) => okAt === null && contents.size > 0).length,
    infoAttempts: appends.filter(({ type }) => type === "info").length,
    resentIds: sent.filter(({ attempts }) => attempts > 1).length,
    copies: facts.copies.size - facts.first.size,
    pages: pages.length,
    mixedPages,
    savedShown: asSaved.size,
    unsavedShown: asUnsaved.size,
    shownOnBothSides: [...asSaved].filter((one) => asUnsaved.has(one)).length,
    liveEvents: lives.reduce((sum, { events }) => sum + events.length, 0),
    resumes: lives.reduce((sum, { resumes }) => sum + resumes, 0),
    rows: truth.rows.length,
    dead: truth.dead.length,
  };
}
