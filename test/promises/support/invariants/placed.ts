/** 3 an id and its first position are one to one, 4 no id twice, 5 order follows real time and requests. */
import type { Seen } from "../content.ts";
import { type Event, type Facts, identity, type Sent } from "../facts.ts";
import type { Append, Live, Page } from "../history.ts";
import type { Truth } from "../truth.ts";
import { byTime, nameOf, type Violation, violation } from "./violation.ts";

/** What is shown stands at its first copy; an acknowledged cursor names a copy. */
export function* displaced(facts: Facts, appends: readonly Append[], shown: readonly Seen[]): Generator<Violation> {
  for (const one of shown) {
    const first = facts.first.get(identity(one));
    if (first !== undefined && (first.offset !== one.offset || first.partition !== one.partition))
      yield violation(3, `${nameOf(one)} was shown at ${one.offset}, and its first copy is at ${first.offset}`);
  }
  for (const one of appends) {
    if (one.type !== "ok") continue;
    const fault = cursorFault(facts, one);
    if (fault !== null) yield violation(3, `${nameOf(one)} was acknowledged ${fault}`);
  }
}

function cursorFault(facts: Facts, one: Append): string | null {
  if (one.position === null) return "without a cursor";
  const { partition, offset } = one.position;
  const there = facts.copies.get(`${partition}/${offset}`);
  // Below the log's start nobody can tell any more.
  if (there === undefined && offset < (facts.logStarts.get(partition) ?? 0n)) return null;
  return there === identity(one) ? null : `at ${partition}/${offset}, where it is not`;
}

/** No id comes twice in a walk, a tail, a final read or the table. */
export function* repeated(pages: readonly Page[], lives: readonly Live[], truth: Truth): Generator<Violation> {
  const readings: { where: string; events: readonly Seen[] }[] = [
    ...joined(pages),
    ...lives.map(({ reader, events }) => ({ where: reader, events })),
    ...truth.finals.map(({ node, clientId, events }) => ({
      where: `the final read of ${clientId} at ${node}`,
      events,
    })),
  ];
  for (const { where, events } of readings) {
    const ids = new Set<string>();
    for (const one of events) {
      if (ids.has(one.id)) yield violation(4, `${nameOf(one)} comes twice in ${where}`);
      ids.add(one.id);
    }
  }
  const saved = new Set<string>();
  for (const row of truth.rows) {
    if (saved.has(identity(row))) yield violation(4, `${nameOf(row)} is saved twice`);
    saved.add(identity(row));
  }
}

function joined(pages: readonly Page[]): { where: string; events: Seen[] }[] {
  const walks = new Map<string, Seen[]>();
  for (const { walk, clientId, events } of pages) {
    const key = `walk ${walk} of ${clientId}`;
    const all = walks.get(key) ?? [];
    all.push(...events);
    walks.set(key, all);
  }
  return [...walks].map(([where, events]) => ({ where, events }));
}

/** What was acknowledged before another was sent comes first; a request's own order is kept. */
export function* disordered(facts: Facts, appends: readonly Append[]): Generator<Violation> {
  for (const events of facts.clients.values()) yield* againstTime(facts, events);
  yield* againstRequests(facts, appends);
}

/** Ids by their first attempt, against the highest position of those acknowledged before it. */
function* againstTime(facts: Facts, events: readonly Event[]): Generator<Violation> {
  const timed = events.flatMap((event): { event: Event; sent: Sent }[] => {
    const sent = facts.sent.get(identity(event));
    return sent ? [{ event, sent }] : [];
  });
  const starts = timed.toSorted((a, b) => byTime(a.sent.begun, b.sent.begun));
  const ends = timed
    .flatMap(({ event, sent }) => (sent.okAt === null ? [] : [{ event, okAt: sent.okAt }]))
    .sort((a, b) => byTime(a.okAt, b.okAt));
  let highest: Event | undefined;
  let done = 0;
  for (const { event, sent } of starts) {
    for (let end = ends[done]; end !== undefined && end.okAt < sent.begun; end = ends[++done])
      if (highest === undefined || end.event.offset > highest.offset) highest = end.event;
    if (highest !== undefined && highest.offset > event.offset)
      yield violation(5, `${nameOf(highest)} was acknowledged before ${nameOf(event)} was sent, and comes after it`);
  }
}

/** Neighbours of one client in a request keep their order, if neither was ever sent without the other. */
function* againstRequests(facts: Facts, appends: readonly Append[]): Generator<Violation> {
  const before = new Map<string, Append>();
  for (const one of appends.toSorted((a, b) => a.request - b.request || a.index - b.index)) {
    const key = `${one.request}/${one.clientId}`;
    const previous = before.get(key);
    before.set(key, one);
    if (previous !== undefined && areSwapped(facts, previous, one))
      yield violation(5, `${nameOf(previous)} came before ${nameOf(one)} in its request, and comes after it`);
  }
}

function areSwapped(facts: Facts, previous: Append, one: Append): boolean {
  const [a, b] = [facts.first.get(identity(previous)), facts.first.get(identity(one))];
  const together = facts.sent.get(identity(previous))?.requests === facts.sent.get(identity(one))?.requests;
  return a !== undefined && b !== undefined && together && a.offset > b.offset;
}
