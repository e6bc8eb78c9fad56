/** Whether a page was the truth at some moment while it was read, and whether its `next` and `hasMore` are honest. */
import { hasFilters } from "../../../../apps/query/merge.ts";
import { comparePlaces, type Place } from "../../../../apps/query/places.ts";
import type { Page } from "../../../../apps/query/read.ts";
import { PAGE_BYTES_MAX } from "../../../../apps/query/statements.ts";
import { type ModelRecord, passes } from "../model.ts";
import type { Read } from "./node.ts";
import { EPOCH, type Moment, nameOf, type World } from "./world.ts";

/** What was judged: a verdict on little is none. */
export interface Tally {
  pages: number;
  /** Refused with a reason that the world gave. */
  refused: number;
  /** Pages that are no one moment's truth, since rows went while they were read or the database was away. */
  loose: number;
  events: number;
  /** Walks to the end. */
  walks: number;
  /** Pages with rows and tail. */
  mixed: number;
}

/** A page, told of in the world's records. */
interface Shown extends Omit<Page, "events"> {
  readonly records: readonly ModelRecord[];
}

/** @throws what is wrong with it */
export function judge(world: World, read: Read, tally: Tally): void {
  if (read.problem !== null) {
    tally.refused++;
    const wrong = refusedWithoutReason(world, read);
    if (wrong !== null) fail(read, [wrong]);
    return;
  }
  const shown = shownIn(world, read);
  tally.pages++;
  tally.events += shown.records.length;
  const wrong: string[] = [];
  const [first, last] = read.moments;
  for (let nth = last; nth >= first; nth--) {
    const why = against(world, read, shown, world.moments[nth] as Moment);
    if (why === null) {
      count(shown, tally);
      return;
    }
    wrong.push(`moment ${nth}: ${why}`);
  }
  const less = world.moments.slice(first + 1, last + 1).some((moment) => moment.less);
  if (less || read.unchecked) wrong.push(...loose(world, read, shown, less));
  if ((!less && !read.unchecked) || wrong.length > last - first + 1) fail(read, wrong);
  tally.loose++;
}

function fail({ order, query, page }: Read, wrong: readonly string[]): never {
  const text = (key: string, value: unknown): unknown =>
    typeof value === "bigint" ? Number(value) : value instanceof Set ? [...value] : key === "json" ? undefined : value;
  const asked = JSON.stringify(query, text);
  const answer = JSON.stringify(page && { ...page, events: page.events.length }, text);
  throw new Error(
    `${order.clientId} (partition ${order.partition}) asked ${asked}, shown ${answer}:\n${wrong.join("\n")}`,
  );
}

function count({ records, savedThrough }: Shown, tally: Tally): void {
  const saved = records.filter(({ place }) => savedThrough !== null && comparePlaces(place, savedThrough) <= 0).length;
  if (saved > 0 && saved < records.length) tally.mixed++;
}

/** What the most impatient reader gives it, less a step of looking again. */
const LATE_MS = 300;

function refusedWithoutReason(world: World, read: Read): string | null {
  const { problem, query, order, faulty, shownNone, ms, moments, ends } = read;
  const isBegun = ({ checkpoints }: Moment): boolean => checkpoints[order.partition] !== null;
  const code = problem?.problem.code;
  const wanted = query.atLeast === null ? 0n : beyond(query.atLeast);
  const late = ms >= LATE_MS;
  const begun = world.moments.slice(moments[0], moments[1] + 1).every(isBegun);
  const reasons = {
    // While the database is away, a node knows what it was shown last.
    behind: late || moments[1] > moments[0] || !begun || (faulty && shownNone),
    "log-unreachable": late || faulty,
    "store-unreachable": late || faulty,
    "cursor-gone": wanted > ends[0],
  };
  return code !== undefined && code in reasons && reasons[code as keyof typeof reasons]
    ? null
    : `refused without a reason: ${code}, ${problem?.message} (${problem?.cause}, ${ms} ms)`;
}

/** The page's records. @throws for what nobody wrote */
function shownIn(world: World, read: Read): Shown {
  const { events, ...page } = read.page as Page;
  const records = events.map((json) => world.byJson.get(json) ?? fail(read, [`nobody wrote ${json.slice(0, 200)}`]));
  return { ...page, records };
}

/** Against the truth of this one moment; null: it is right. */
function against(world: World, read: Read, shown: Shown, moment: Moment): string | null {
  const { query, order } = read;
  const checkpoint = moment.checkpoints[order.partition] ?? null;
  const savedThrough = checkpoint === null ? null : { epoch: EPOCH, offset: checkpoint - 1n };
  if (!samePlace(shown.savedThrough, savedThrough)) return `all is saved through ${print(savedThrough)}`;
  const wanted = viewAt(world, read, moment).filter((record) => passes(query, record));
  const below = mustReach(read, checkpoint ?? 0n);
  const judged = query.order === "asc" ? ascending : descending;
  return judged(read, shown, wanted, below) ?? wrongLength(world, read, shown);
}

/** What the view shows of the client, when all of the log is read. */
function viewAt(world: World, { order, query, ends }: Read, moment: Moment): readonly ModelRecord[] {
  const rows = moment.rows.get(order.clientId) ?? [];
  if (query.view === "saved") return rows;
  const ids = new Set(rows.map(({ event }) => event.id));
  const unsaved: ModelRecord[] = [];
  for (const record of world.unsavedOf(order.clientId, moment.checkpoints[order.partition] ?? 0n, ends[1])) {
    if (ids.has(record.event.id)) continue;
    ids.add(record.event.id);
    unsaved.push(record);
  }
  return query.view === "merged" ? [...rows, ...unsaved] : unsaved;
}

/** The first offset that the answer need not know of. */
function mustReach({ query, ends }: Read, checkpoint: bigint): bigint {
  if (query.view === "saved") return checkpoint;
  const asked = query.atLeast !== null ? beyond(query.atLeast) : query.consistency === "latest" ? ends[0] : 0n;
  return asked > checkpoint ? asked : checkpoint;
}
const beyond = ({ epoch, offset }: Place): bigint => (epoch === EPOCH ? offset + 1n : 0n);

function ascending(
  { query, ends }: Read,
  { records, next, hasMore }: Shown,
  wanted: readonly ModelRecord[],
  below: bigint,
): string | null {
  const different = compare(
    records,
    wanted.filter(({ place }) => comparePlaces(place, next) <= 0),
  );
  if (different !== null) return different;
  const moved = comparePlaces(next, query.after);
  if (moved < 0) return "next went back";
  if (moved > 0 && beyond(next) > ends[1]) return "next lies beyond the log";
  // Where a log begins there is nothing between a place and the one before it.
  const latest = query.before && {
    ...query.before,
    offset: query.before.offset - (query.before.offset < 0n ? 0n : 1n),
  };
  if (moved > 0 && latest !== null && comparePlaces(next, latest) > 0) return "next is not before";
  if (hasMore) return moved > 0 ? null : "there is more, and next does not move";
  const end = { epoch: EPOCH, offset: below };
  const left = wanted.find(({ place }) => comparePlaces(place, next) > 0 && comparePlaces(place, end) < 0);
  if (left) return `no more, and ${nameOf(left)} is left`;
  const bounded = query.before !== null && comparePlaces(query.before, end) <= 0;
  return bounded || comparePlaces(next, { epoch: EPOCH, offset: below - 1n }) >= 0
    ? null
    : `no more, and next does not reach ${below - 1n}`;
}

function descending(
  { query }: Read,
  { records, next, hasMore }: Shown,
  wanted: readonly ModelRecord[],
  below: bigint,
): string | null {
  const [first] = records;
  const covered = wanted.filter(({ place }) => {
    if (hasMore && comparePlaces(place, next) < 0) return false;
    // It need not know of what came while it was read: a page begins anywhere there.
    return beyond(place) <= below || (first !== undefined && comparePlaces(place, first.place) <= 0);
  });
  const different = compare(records, covered.reverse());
  if (different !== null) return different;
  if (!hasMore) return samePlace(next, query.after) ? null : "no more, and next is not the end";
  if (comparePlaces(next, query.after) <= 0) return "next lies outside";
  return query.before !== null && comparePlaces(next, query.before) >= 0 ? "next does not move" : null;
}

function compare(shown: readonly ModelRecord[], truth: readonly ModelRecord[]): string | null {
  const length = Math.max(shown.length, truth.length);
  for (let nth = 0; nth < length; nth++) {
    const [here, there] = [shown[nth], truth[nth]];
    if (here !== there)
      return `event ${nth} is ${here ? nameOf(here) : "none"} and not ${there ? nameOf(there) : "none"}`;
  }
  return null;
}

/** Only filters, bytes and a crowd of copies leave a page short where there is more. */
function wrongLength(world: World, { query, order, ends }: Read, { records, next, hasMore }: Shown): string | null {
  if (records.length > query.limit) return `more than ${query.limit} events`;
  const bytes = records.reduce((sum, { json }) => sum + Buffer.byteLength(json), 0);
  if (records.length > 1 && bytes > PAGE_BYTES_MAX) return `${bytes} bytes`;
  if (!hasMore || hasFilters(query) || records.length === query.limit || bytes > PAGE_BYTES_MAX / 2) return null;
  const [from, to] = query.order === "asc" ? [query.after, next] : [next, query.before];
  const passed = world.unsavedOf(order.clientId, beyond(from), to?.epoch === EPOCH ? to.offset + 1n : ends[1]);
  return passed.length - records.length > query.limit ? null : "it is short";
}

/**
 * Each event that it shows was true at one of these moments, and each that it lacks was not at one of them.
 * @returns what is wrong
 */
function loose(world: World, read: Read, shown: Shown, less: boolean): string[] {
  const { query, moments, unchecked } = read;
  const truths = world.moments
    .slice(moments[0], moments[1] + 1)
    .map((moment) => new Set(viewAt(world, read, moment).filter((record) => passes(query, record))));
  const here = new Set(shown.records);
  const lacking = [...(truths[0] ?? [])].filter(
    (record) =>
      !here.has(record) &&
      isCovered(read, shown, record) &&
      truths.every((truth) => truth.has(record)) &&
      !(unchecked && isSentAgain(world, record)),
  );
  const untrue = shown.records.filter(
    (record) => !truths.some((truth) => truth.has(record)) && !(unchecked && isOfSaved(world, read, record)),
  );
  return [
    ...lacking.map((record) => `lacks ${nameOf(record)}, which was there all the while`),
    ...untrue.map((record) => `shows ${nameOf(record)}, which was true at no moment`),
    ...misplaced(query, shown.records, less),
  ];
}

/** @param less rows have gone meanwhile: such an id may have been stored again */
function misplaced(query: Read["query"], records: readonly ModelRecord[], less: boolean): string[] {
  const wrong: string[] = [];
  const ids = new Set<string>();
  for (const [nth, record] of records.entries()) {
    const before = records[nth - 1];
    if (before && comparePlaces(before.place, record.place) * (query.order === "asc" ? 1 : -1) >= 0)
      wrong.push(`${nameOf(record)} is out of order`);
    if (!passes(query, record)) wrong.push(`shows ${nameOf(record)} in spite of the filters`);
    if (ids.has(record.event.id) && !less) wrong.push(`shows ${record.event.id} twice`);
    ids.add(record.event.id);
  }
  return wrong;
}

/** While the database is away, nobody knows that the first copy's row was erased. */
const isSentAgain = (world: World, { event, place }: ModelRecord): boolean =>
  world.unsavedOf(event.clientId, 0n, place.offset).some((before) => before.event.id === event.id);

/** While the database is away, nobody knows of rows; a copy of what was saved at no moment is recognised all the same. */
function isOfSaved(world: World, { order, moments }: Read, { event, place }: ModelRecord): boolean {
  let saved = 0n;
  for (const { checkpoints } of world.moments.slice(0, moments[1] + 1)) {
    const at = checkpoints[order.partition] ?? 0n;
    if (at > saved) saved = at;
  }
  return world.unsavedOf(event.clientId, saved, place.offset).every((before) => before.event.id !== event.id);
}

/** Whether the page says that it has looked there. */
function isCovered(read: Read, { next, hasMore, savedThrough }: Shown, { place }: ModelRecord): boolean {
  const { query } = read;
  const below = mustReach(read, 0n);
  // Without the database nobody knows that the checkpoint has gone back.
  if (query.view === "unsaved" && read.unchecked && savedThrough && comparePlaces(place, savedThrough) <= 0)
    return false;
  if (query.order === "desc") return beyond(place) <= below && (!hasMore || comparePlaces(place, next) >= 0);
  return comparePlaces(place, next) <= 0 || (!hasMore && beyond(place) <= below);
}

const samePlace = (a: Place | null, b: Place | null): boolean =>
  a === null || b === null ? a === b : comparePlaces(a, b) === 0;
const print = (one: Place | null): string => (one === null ? "nothing" : `${one.epoch}/${one.offset}`);
