/** 6 no hole, 7 `latest` and `atLeast` cover what they must, 8 later reads cover no less, 9 a tail is its slice, 10 one text, 13 nobody else's. */
import type { Seen } from "../content.ts";
import { type Event, type Facts, identity, slice } from "../facts.ts";
import type { Live, Page } from "../history.ts";
import { byTime, nameOf, pageOf, type Violation, violation } from "./violation.ts";

const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/** The offsets (low, high] that a page claims to show in full; null: its upper end is not told. */
function claimed(page: Page): { low: bigint; high: bigint | null } {
  const next = page.next ?? -1n;
  const after = page.after ?? -1n;
  const before = page.before === null ? null : page.before - 1n;
  // Descending, `next` is the last event shown; at the end everything is covered down to `after`.
  const bottom = page.order === "asc" ? after : page.hasMore ? next - 1n : after;
  const top = page.order === "asc" ? next : before;
  const saved = page.savedThrough ?? -1n;
  if (page.view === "unsaved") return { low: larger(saved, bottom), high: top };
  if (page.view === "saved") return { low: bottom, high: top === null ? saved : smaller(saved, top) };
  return { low: bottom, high: top };
}

const wants = ({ types }: Page, event: Event): boolean => types === null || types.includes(event.type);

/** A page is exactly the events of the range that it covers. */
export function* holes(facts: Facts, pages: readonly Page[]): Generator<Violation> {
  for (const page of pages) {
    const shown = page.order === "asc" ? page.events : page.events.toReversed();
    const { low, high } = claimed(page);
    // Without an upper end the slice is as long as what was shown: how far it must reach is invariant 7.
    const end = high ?? shown.at(-1)?.offset ?? low;
    const there = slice(facts, page.clientId, low, end).filter((event) => wants(page, event));
    const fault = firstDifference(there, shown);
    if (fault !== null) yield violation(6, `${pageOf(page)}, (${low}, ${end}]: ${fault}`);
  }
}

function firstDifference(there: readonly Event[], shown: readonly Seen[]): string | null {
  const print = (one: Event | Seen | undefined): string => (one ? `${one.id}@${one.offset}` : "nothing");
  for (let at = 0; at < Math.max(there.length, shown.length); at++)
    if (print(there[at]) !== print(shown[at]))
      return `event ${at} of ${there.length} should be ${print(there[at])}, and is ${print(shown[at])}`;
  return null;
}

/** Up to which offset a page claims to have seen all that there was; null: it makes no such claim. */
function coverage(facts: Facts, page: Page): bigint | null {
  if (page.view === "saved" || page.before !== null) return null;
  if (page.order === "asc") return page.hasMore ? null : (page.next ?? -1n);
  const bottom = larger(page.after ?? -1n, page.view === "unsaved" ? (page.savedThrough ?? -1n) : -1n);
  const top = page.events[0]?.offset ?? (page.hasMore ? null : bottom);
  if (top === null || page.types === null) return top;
  // With a filter, up to the next event that it would have shown.
  const above = slice(facts, page.clientId, top, null).find((event) => wants(page, event));
  return above === undefined ? null : above.offset - 1n;
}

/** The first event in (covered, must] that the page should have shown. */
function missed(facts: Facts, page: Page, covered: bigint, must: bigint): Event | undefined {
  return slice(facts, page.clientId, larger(covered, page.after ?? -1n), must).find((event) => wants(page, event));
}

/** `latest` covers every event acknowledged before the read began, `atLeast` its cursor. */
export function* uncovered(facts: Facts, pages: readonly Page[]): Generator<Violation> {
  for (const page of pages) {
    const covered = coverage(facts, page);
    if (covered === null) continue;
    const barrier = page.consistency === "latest" && page.atLeast === null;
    const must = barrier ? facts.acknowledgedBefore(page.clientId, page.tInv) : page.atLeast;
    const missing = must === null ? undefined : missed(facts, page, covered, must);
    if (missing !== undefined)
      yield violation(7, `${pageOf(page)} covers up to ${covered}, and not ${nameOf(missing)} at ${missing.offset}`);
  }
}

interface Read {
  readonly page: Page;
  readonly covered: bigint;
}

/** A `latest` read covers no less than one that had ended before it began, on whichever node. */
export function* shrunk(facts: Facts, pages: readonly Page[]): Generator<Violation> {
  const reads = new Map<string, Read[]>();
  for (const page of pages) {
    if (page.consistency === "known" || page.atLeast !== null || page.types !== null) continue;
    const covered = coverage(facts, page);
    const all = reads.get(page.clientId) ?? [];
    if (covered !== null) all.push({ page, covered });
    reads.set(page.clientId, all);
  }
  for (const all of reads.values()) yield* shrunkOf(facts, all);
}

function* shrunkOf(facts: Facts, reads: readonly Read[]): Generator<Violation> {
  const ends = reads.toSorted((a, b) => byTime(a.page.tRet, b.page.tRet));
  let highest = -1n;
  let done = 0;
  for (const { page, covered } of reads.toSorted((a, b) => byTime(a.page.tInv, b.page.tInv))) {
    for (let end = ends[done]; end !== undefined && end.page.tRet < page.tInv; end = ends[++done])
      highest = larger(highest, end.covered);
    // In events of the client: a cursor may stand behind others' records.
    const missing = missed(facts, page, covered, highest);
    if (missing !== undefined)
      yield violation(
        8,
        `${pageOf(page)} covers up to ${covered}; an earlier one had ${nameOf(missing)}@${missing.offset}`,
      );
  }
}

/** A follower's events, joined over its connections, rise strictly and are the slice from where it began. */
export function* torn(facts: Facts, lives: readonly Live[]): Generator<Violation> {
  for (const { reader, clientId, after, events, through } of lives) {
    const from = after ?? -1n;
    if (events.some((one, at) => at > 0 && one.offset <= (events[at - 1]?.offset ?? -1n)))
      yield violation(9, `${reader}: its events do not rise`);
    const fault = firstDifference(slice(facts, clientId, from, larger(from, through ?? from)), events);
    if (fault !== null) yield violation(9, `${reader}, (${from}, ${through}]: ${fault}`);
  }
}

/** An event has one text, wherever and whenever it is shown. */
export function* reprinted(shown: readonly Seen[]): Generator<Violation> {
  const texts = new Map<string, string>();
  for (const one of shown) {
    const known = texts.get(identity(one)) ?? one.text;
    texts.set(identity(one), known);
    if (known !== one.text) yield violation(10, `${nameOf(one)} was shown in two different texts`);
  }
}

/** Whoever asks for a client gets that client's events. */
export function* foreign(readings: readonly (Page | Live)[]): Generator<Violation> {
  for (const { clientId, events } of readings)
    for (const one of events)
      if (one.clientId !== clientId) yield violation(13, `${nameOf(one)} was shown to a reader of ${clientId}`);
}
