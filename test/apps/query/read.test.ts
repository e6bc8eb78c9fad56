import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Barrier } from "../../../apps/query/barrier.ts";
import { Checkpoints } from "../../../apps/query/checkpoints.ts";
import { neverChanges } from "../../../apps/query/etags.ts";
import { comparePlaces, ORIGIN, type Place } from "../../../apps/query/places.ts";
import { Reach } from "../../../apps/query/reach.ts";
import { type Page, type PageQuery, Reader } from "../../../apps/query/read.ts";
import type { Rows } from "../../../apps/query/rows.ts";
import { Subscription } from "../../../apps/query/subscription.ts";
import { Tail } from "../../../apps/query/tail.ts";
import { LogError } from "../../../lib/kafka/ports.ts";
import { createMetrics } from "../../../lib/metrics.ts";
import { ProblemError } from "../../../lib/problem.ts";
import { contactWith } from "../../support/records.ts";
import { CLIENTS, ManualClock, Model, type ModelRecord, orderOf, passes, quiet, randomFrom, TYPES } from "./model.ts";

const metrics = createMetrics();

/** A node that reads the model's log and database, all by hand. */
class Node {
  readonly model: Model;
  readonly clock = new ManualClock();
  readonly tail: Tail;
  readonly checkpoints: Checkpoints;
  readonly reader: Reader;
  readonly barrier: Barrier;
  readonly reach: Reach;
  /** Rows that a filter looks at. */
  scanMax = 10_000;
  /** Called before the database takes its snapshot. */
  beforeSnapshot: () => void = () => undefined;
  storeError: Error | null = null;
  logError: Error | null = null;
  logSilent = false;
  snapshots = 0;

  constructor(model: Model) {
    this.model = model;
    const start = model.checkpoint;
    this.tail = new Tail(
      { bytesMax: 1 << 30, log: quiet, clock: this.clock, metrics },
      new Map([[0, { start, logStart: 0n }]]),
    );
    const rows = {
      page: async (...[order, selection, asked]: RowsPage) => {
        this.beforeSnapshot();
        this.snapshots++;
        if (this.storeError) throw this.storeError;
        return this.model.page(order, selection, asked, this.scanMax);
      },
      checkpoints: async () => {
        if (this.storeError) throw this.storeError;
        return this.model.checkpoints();
      },
    };
    this.checkpoints = new Checkpoints({
      epoch: 2,
      rows,
      tail: this.tail,
      log: quiet,
      clock: this.clock,
      known: new Map([[0, start]]),
      prepare: () => Promise.resolve(),
    });
    const ask = async (): Promise<Map<number, bigint>> => {
      if (this.logError) throw this.logError;
      if (this.logSilent) await new Promise(() => undefined);
      return new Map([[0, this.model.nextOffset]]);
    };
    this.barrier = new Barrier(ask, this.clock, contactWith(quiet, this.clock));
    this.reach = new Reach({ tail: this.tail, barrier: this.barrier });
    this.reader = new Reader({
      tail: this.tail,
      rows,
      checkpoints: this.checkpoints,
      reach: this.reach,
      clock: this.clock,
      metrics,
    });
  }

  /** Reads the log to its end. */
  follow(): void {
    const from = this.tail.partition(0).next;
    const events = this.model.records
      .filter(({ place }) => place.epoch === 2 && place.offset >= from)
      .map(({ event, place, json }) => ({ event, offset: place.offset, json }));
    this.tail.take(0, from, events, this.model.nextOffset);
  }

  read(clientId: string, more: Partial<PageQuery> = {}): Promise<Page> {
    return this.reader.read(orderOf(clientId), { ...PLAIN, ...more });
  }
}
type RowsPage = Parameters<Rows["page"]>;

const PLAIN: PageQuery = {
  after: ORIGIN,
  before: null,
  types: null,
  sinceMs: null,
  untilMs: null,
  order: "asc",
  limit: 100,
  view: "merged",
  consistency: "latest",
  atLeast: null,
  timeoutMs: 1_000,
};

/** Lets everything that is ready run. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 50; i++) await Promise.resolve();
};

type Random = ReturnType<typeof randomFrom>;

/** @param beyond how far behind the log's end */
function randomPlace(random: Random, model: Model, beyond: number): Place {
  if (random.next() < 0.2) return { epoch: 1, offset: BigInt(random.below(14)) - 1n };
  return { epoch: 2, offset: BigInt(random.below(Number(model.nextOffset) + 1 + beyond)) - 1n };
}

function randomQuery(random: Random, model: Model): PageQuery {
  const maybe = <T>(chance: number, make: () => T): T | null => (random.next() < chance ? make() : null);
  return {
    ...PLAIN,
    // Beyond the end it is refused.
    after: maybe(0.6, () => randomPlace(random, model, 0)) ?? ORIGIN,
    before: maybe(0.4, () => randomPlace(random, model, 2)),
    types: maybe(0.3, () => new Set([random.pick(TYPES)])),
    sinceMs: maybe(0.2, () => random.below(100)),
    untilMs: maybe(0.2, () => random.below(100)),
    order: random.pick(["asc", "desc"]),
    limit: 1 + random.below(8),
    view: random.pick(["merged", "merged", "merged", "saved", "unsaved"]),
  };
}

/** The page is a prefix of the truth, and `next` says exactly how long a prefix. */
function checkPage(page: Page, query: PageQuery, truth: readonly ModelRecord[]): void {
  const wanted = truth.filter((record) => passes(query, record));
  if (query.order === "desc") wanted.reverse();
  const covered = wanted.filter(({ place }) =>
    query.order === "asc" ? comparePlaces(place, page.next) <= 0 : comparePlaces(place, page.next) >= 0,
  );
  expect(page.events).toEqual(covered.map(({ json }) => json));
  expect(page.events.length).toBeLessThanOrEqual(query.limit);
  if (!page.hasMore) expect(covered.length).toBe(wanted.length);
  const moved = comparePlaces(page.next, query.order === "asc" ? query.after : (query.before ?? FAR));
  if (page.hasMore) expect(query.order === "asc" ? moved > 0 : moved < 0).toBe(true);
}
const FAR: Place = { epoch: 9, offset: 0n };

/** What the view shows of the client at this checkpoint. */
function viewOf(model: Model, clientId: string, view: PageQuery["view"], checkpoint: bigint): ModelRecord[] {
  const saved = ({ place }: ModelRecord): boolean => place.epoch === 1 || place.offset < checkpoint;
  return model.truth(clientId).filter((record) => view === "merged" || saved(record) === (view === "saved"));
}

/** The node goes on reading the log while the read is under way. */
async function whileFollowing<T>(node: Node, read: Promise<T>): Promise<T> {
  const state = { done: false };
  const ended = read.finally(() => {
    state.done = true;
  });
  while (!state.done) {
    node.follow();
    await settle();
  }
  return ended;
}

/** Random saving, appending, looking and going back. */
async function randomMoves(random: Random, node: Node): Promise<void> {
  const { model } = node;
  if (random.next() < 0.5) model.append(random.below(20));
  if (random.next() < 0.5) save(random, model);
  if (random.next() < 0.1) goBack(random, model);
  if (random.next() < 0.5) node.clock.advance(600);
  node.follow();
  if (random.next() < 0.5) await node.checkpoints.refresh();
  node.follow();
  node.scanMax = random.next() < 0.5 ? 1 + random.below(10) : 10_000;
}

const save = (random: Random, model: Model): void => {
  model.checkpoint += BigInt(random.below(Number(model.nextOffset - model.checkpoint) + 1));
};
const goBack = (random: Random, model: Model): void => {
  model.checkpoint = BigInt(random.below(Number(model.checkpoint) + 1));
};

/** A page of any shape after such moves, while the checkpoint moves before each snapshot of the read. */
async function randomPage(random: Random, node: Node): Promise<void> {
  const { model } = node;
  const query = randomQuery(random, model);
  const clientId = random.pick(CLIENTS);
  const checkpoints: bigint[] = [];
  node.beforeSnapshot = () => {
    if (random.next() < 0.5) save(random, model);
    if (random.next() < 0.05) goBack(random, model);
    checkpoints.push(model.checkpoint);
  };
  const page = await whileFollowing(node, node.read(clientId, query));
  node.beforeSnapshot = () => undefined;
  const [first] = checkpoints;
  if (query.view === "merged") checkPage(page, query, viewOf(model, clientId, "merged", 0n));
  else if (checkpoints.length === 1 && first !== undefined)
    checkPage(page, query, viewOf(model, clientId, query.view, first));
}

async function randomHistory(seed: number): Promise<void> {
  const random = randomFrom(seed);
  const model = new Model(random);
  model.append(random.below(40));
  model.checkpoint = BigInt(random.below(Number(model.nextOffset) + 1));
  const node = new Node(model);
  node.follow();
  for (let page = 0; page < 12; page++) {
    await randomMoves(random, node);
    await randomPage(random, node);
  }
}

test("any page of any shape equals the filter of the truth, wherever the checkpoint is and moves", async () => {
  await fc.assert(fc.asyncProperty(fc.integer(), randomHistory), { numRuns: 600 });
}, 60_000);

/** Walks a client to the end, page by page, while everything moves. */
async function randomWalk(seed: number): Promise<void> {
  const random = randomFrom(seed);
  const model = new Model(random);
  model.append(60);
  const node = new Node(model);
  node.follow();
  node.beforeSnapshot = () => {
    const left = Number(model.nextOffset - model.checkpoint);
    model.checkpoint += BigInt(random.below(Math.min(left, 10) + 1));
  };
  const events: string[] = [];
  let after: Place = ORIGIN;
  for (let pages = 0; ; pages++) {
    const page = await node.read("a", { after, limit: 1 + random.below(5) });
    events.push(...page.events);
    after = page.next;
    if (pages < 20) model.append(random.below(5));
    node.follow();
    node.clock.advance(random.below(1_500));
    if (!page.hasMore && pages >= 20) break;
  }
  expect(events).toEqual(model.truth("a").map(({ json }) => json));
}

test("a walk over a moving log has neither gap nor repeat", async () => {
  await fc.assert(fc.asyncProperty(fc.integer(), randomWalk), { numRuns: 200 });
}, 60_000);

function node(events = 30): Node {
  const model = new Model(randomFrom(7));
  model.append(events);
  model.checkpoint = 10n;
  const made = new Node(model);
  made.follow();
  return made;
}

const codeOf = async (read: Promise<Page>): Promise<string> => {
  const error = await read.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  return error instanceof ProblemError ? error.problem.code : `no problem: ${error}`;
};

test("a read waits until the node has read as far as the log reached, and is 503 when that takes too long", async () => {
  const slow = node();
  slow.model.append(5);
  const patient = slow.read("a");
  await settle();
  slow.follow();
  const page = await patient;
  expect(page.events).toEqual(slow.model.truth("a").map(({ json }) => json));
  slow.model.append(5);
  const late = slow.read("a");
  await settle();
  slow.clock.advance(1_000);
  expect(await codeOf(late)).toBe("behind");
  expect((await slow.read("a", { consistency: "known" })).events).toEqual(page.events);
  expect(slow.clock.timers).toBe(0);
});

test("a log that does not answer is 503 for latest, and nothing for known, saved and atLeast", async () => {
  const cut = node();
  cut.logError = new LogError("fatal", "gone");
  expect(await codeOf(cut.read("a"))).toBe("log-unreachable");
  await cut.read("a", { consistency: "known" });
  await cut.read("a", { view: "saved" });
  await cut.read("a", { atLeast: { epoch: 2, offset: 29n } });
  const waits = cut.read("a", { atLeast: { epoch: 2, offset: 30n } });
  await settle();
  cut.clock.advance(1_000);
  expect(await codeOf(waits)).toBe("behind");
});

test("a log that is silent for a second counts as away; to a reader who gives it less, this node is merely behind", async () => {
  const silent = node();
  silent.logSilent = true;
  const refusal = async (timeoutMs: number): Promise<unknown> => {
    const read = problemOf(silent.read("a", { timeoutMs }));
    await settle();
    silent.clock.advance(timeoutMs);
    return read;
  };
  expect(await refusal(1)).toMatchObject({
    code: "behind",
    detail: expect.stringContaining("did not answer in time, which was 1 ms: allow more by timeoutMs"),
  });
  expect(await refusal(800)).toMatchObject({ code: "behind" });
  expect(await refusal(1_000)).toMatchObject({ code: "log-unreachable" });
});

const problemOf = (read: Promise<unknown>): Promise<unknown> =>
  read.then(
    () => null,
    (error: ProblemError) => error.problem,
  );

describe("a cursor beyond the log's end, which has lost what was there", () => {
  const lost = { epoch: 2, offset: 33n };

  test.each(["merged", "unsaved"] as const)("is no place to go on from: a %s page says so at once", async (view) => {
    const cut = node();
    for (const order of ["asc", "desc"] as const)
      expect(await problemOf(cut.read("a", { after: lost, view, order }))).toMatchObject({
        code: "cursor-gone",
        status: 410,
        field: "after",
        detail: expect.stringContaining("after names offset 33 of partition 0, and the log ends at 30"),
      });
    // The last record there is.
    expect((await cut.read("a", { after: { epoch: 2, offset: 29n }, view })).events).toEqual([]);
  });

  test("is told of at once as atLeast too, and by a page of what is saved", async () => {
    const cut = node();
    for (const more of [{}, { view: "saved" }, { consistency: "known" }] as const) {
      const read = problemOf(cut.read("a", { ...more, atLeast: lost }));
      await settle();
      // The page of what is saved looks again in steps.
      cut.clock.advance(100);
      expect(await read).toMatchObject({ code: "cursor-gone", field: "atLeast" });
    }
    expect(cut.clock.elapsed()).toBeLessThan(PLAIN.timeoutMs);
  });

  test("is waited for while the log reaches so far, and only this node does not", async () => {
    const slow = node();
    slow.model.append(5);
    const [after, atLeast] = [slow.read("a", { after: lost }), slow.read("a", { atLeast: lost })];
    await settle();
    slow.follow();
    expect((await after).events).toEqual(
      slow.model
        .truth("a")
        .filter(({ place }) => comparePlaces(place, lost) > 0)
        .map(({ json }) => json),
    );
    expect((await atLeast).events).toEqual(slow.model.truth("a").map(({ json }) => json));
  });

  test("beside a lower atLeast is what the answer must cover", async () => {
    const cut = node();
    const read = cut.read("a", { after: lost, atLeast: { epoch: 2, offset: 20n } });
    expect(await problemOf(read)).toMatchObject({ code: "cursor-gone", field: "after" });
  });

  test("asks nothing of the log for known, which never waits", async () => {
    const cut = node();
    cut.logSilent = true;
    expect((await cut.read("a", { after: lost, consistency: "known" })).events).toEqual([]);
  });

  test("ends a follower with the same problem", async () => {
    const cut = node();
    const told: unknown[] = [];
    const line = { problem: (sent: unknown) => void told.push(sent) };
    const wish = { order: orderOf("a"), from: lost, types: null };
    const subscription = new Subscription(cut as never, line as never, wish);
    await expect(subscription.begin()).rejects.toMatchObject({ problem: { code: "cursor-gone", field: "after" } });
    expect(told).toEqual([]);
  });
});

test("a page that a dead database refuses at once says that it does not answer, and not that time was short", async () => {
  const away = node();
  away.storeError = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  for (const view of ["merged", "merged", "saved"] as const)
    expect(await problemOf(away.read("a", { view }))).toMatchObject({
      code: "store-unreachable",
      detail: expect.stringMatching(/^The database does not answer, .* view=unsaved/),
    });
  const slow = node();
  slow.storeError = new Error("timeout exceeded when trying to connect");
  expect(await problemOf(slow.read("a"))).toMatchObject({
    detail: expect.stringMatching(/^timeoutMs .at most 2 s of it/),
  });
});

test("with the database away, pages that need no saved rows are served, others are 503 at once", async () => {
  const away = node();
  const truth = away.model.truth("a");
  const unsaved = truth.filter((record) => !away.model.isSaved(record)).map(({ json }) => json);
  away.storeError = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  expect(await codeOf(away.read("a"))).toBe("store-unreachable");
  expect(away.checkpoints.away).toBe(true);
  const snapshots = away.snapshots;
  expect(await codeOf(away.read("a"))).toBe("store-unreachable");
  expect(await codeOf(away.read("a", { view: "saved" }))).toBe("store-unreachable");
  const fromTail = await away.read("a", { after: { epoch: 2, offset: 9n } });
  // Copies of saved events cannot be recognised now; all that is shown besides them is exact.
  expect(fromTail.events).toEqual(expect.arrayContaining(unsaved));
  expect((await away.read("a", { view: "unsaved" })).events).toEqual(fromTail.events);
  expect((await away.read("a", { order: "desc", limit: 2 })).hasMore).toBe(true);
  expect(await codeOf(away.read("a", { order: "desc", limit: 1_000 }))).toBe("store-unreachable");
  expect(away.snapshots).toBe(snapshots);
  away.storeError = null;
  await away.checkpoints.refresh();
  expect((await away.read("a")).events).toEqual(truth.map(({ json }) => json));
});

test("of a log that succeeds one not saved whole yet, no page is short of that one's events, saved or not", async () => {
  const begun = node();
  const { model } = begun;
  const views = ["merged", "saved", "unsaved"] as const;
  model.begun = false;
  // The tail begins anew at the log's start.
  await begun.checkpoints.refresh();
  begun.follow();
  const unreachable = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  for (const after of [ORIGIN, { epoch: 1, offset: 3n }])
    for (const view of views) expect(await codeOf(begun.read("a", { view, after }))).toBe("behind");
  const own = { view: "unsaved", after: { epoch: 2, offset: -1n } } as const;
  expect((await begun.read("a", own)).events).not.toEqual([]);
  begun.storeError = unreachable;
  expect(await codeOf(begun.read("a", { view: "unsaved" }))).toBe("behind");
  expect((await begun.read("a", own)).events).not.toEqual([]);
  begun.storeError = null;
  model.begun = true;
  await begun.checkpoints.refresh();
  for (const view of views) expect((await begun.read("a", { view })).events).not.toEqual([]);
});

test("what the database was not asked about is not told to caches as lasting, saved though it is", async () => {
  const one = node(100);
  const from = { epoch: 2, offset: 9n };
  one.model.checkpoint = one.model.nextOffset;
  // Saved records stay in the tail for a moment, and while the database is away for as long as that.
  await one.checkpoints.refresh();
  const ranges = [{ after: from }, { order: "desc", after: from, before: { ...from, offset: 60n } }] as const;
  for (const range of ranges) {
    const query = { ...PLAIN, ...range, limit: 2 };
    one.storeError = null;
    await one.checkpoints.refresh();
    expect(neverChanges(query, await one.read("a", query))).toBe(true);
    one.storeError = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    const page = await one.read("a", query);
    expect([page.events.length, page.hasMore]).toEqual([2, true]);
    expect(neverChanges(query, page)).toBe(false);
  }
});

test("a mistake in SQL is no outage", async () => {
  const broken = node();
  broken.storeError = Object.assign(new Error("column does not exist"), { code: "42703" });
  await expect(broken.read("a")).rejects.toThrow("column does not exist");
  expect(broken.checkpoints.away).toBe(false);
});

test("a checkpoint that went back is read again from there, and no page is short meanwhile", async () => {
  const back = node();
  back.model.checkpoint = 25n;
  await back.checkpoints.refresh();
  back.clock.advance(2_000);
  await back.checkpoints.refresh();
  expect(back.tail.partition(0).start).toBe(25n);
  back.model.checkpoint = 3n;
  const read = back.read("a");
  await settle();
  expect(back.tail.partition(0).next).toBe(3n);
  back.follow();
  expect((await read).events).toEqual(back.model.truth("a").map(({ json }) => json));
});

/** `firsts` events, then `copies` copies of them, then three more events. */
function crowd(firsts: number, copies: number): Model {
  const model = new Model(randomFrom(1));
  const event = { clientId: "a", type: "x", occurredAtMs: 0, receivedAtMs: 0, data: null };
  const add = (id: string): void => {
    const place = { epoch: 2, offset: model.nextOffset++ };
    model.records.push({ place, event: { ...event, id }, json: `${id}@${place.offset}` });
  };
  for (let i = 0; i < firsts; i++) add(`first-${i}`);
  for (let i = 0; i < copies; i++) add(`first-${i % firsts}`);
  for (let i = 0; i < 3; i++) add(`more-${i}`);
  return model;
}

test("a crowd of copies leaves no page short while more of the tail is to be had", async () => {
  const model = crowd(20, 20);
  model.checkpoint = 20n;
  const crowded = new Node(model);
  crowded.follow();
  const page = await crowded.read("a", { view: "unsaved", limit: 8 });
  expect(page.events).toEqual(["more-0@40", "more-1@41", "more-2@42"]);
  expect(page.hasMore).toBe(false);
});

test("a crowd too long for one page makes a short page that goes on, and never back", async () => {
  const model = crowd(200, 200);
  model.checkpoint = 200n;
  const crowded = new Node(model);
  crowded.follow();
  const after = { epoch: 2, offset: 199n };
  const short = await crowded.read("a", { after, limit: 4 });
  expect(short).toMatchObject({ events: [], next: { epoch: 2, offset: 219n }, hasMore: true });
  // Saved meanwhile: what the tail had to look at below the checkpoint does not take the page back there.
  crowded.beforeSnapshot = () => {
    model.checkpoint = 400n;
  };
  const rest = await crowded.read("a", { after: short.next, limit: 4 });
  expect(rest.events).toEqual(["more-0@400", "more-1@401", "more-2@402"]);
  expect(rest).toMatchObject({ next: { epoch: 2, offset: 402n }, hasMore: false });
});

test("a checkpoint that goes back between the rows and a further look-up begins the read again", async () => {
  const model = crowd(20, 20);
  model.checkpoint = 20n;
  const crowded = new Node(model);
  crowded.follow();
  // The first snapshot shows the originals as saved, the others lack them.
  crowded.beforeSnapshot = () => {
    model.checkpoint = crowded.snapshots === 0 ? 20n : 0n;
  };
  const read = crowded.read("a", { after: { epoch: 2, offset: 19n }, limit: 8 });
  const page = await whileFollowing(crowded, read);
  expect(page.events).toEqual(["more-0@40", "more-1@41", "more-2@42"]);
});

/** A client's log of so many events, none a copy, one in 5,000 of another type; gaps in between. */
function sparse(random: Random, events: number): Model {
  const model = new Model(random);
  for (let n = model.truth("a").length; n < events; n++) {
    model.nextOffset += BigInt(random.below(3));
    const place = { epoch: 2, offset: model.nextOffset++ };
    const type = random.next() < 0.0002 ? "rare" : "x";
    const event = { clientId: "a", id: `sparse-${n}`, type, occurredAtMs: 0, receivedAtMs: 0, data: null };
    model.records.push({ place, event, json: `${n}` });
  }
  return model;
}

/** A node that began to read the log when the checkpoint stood at `start`. */
function nodeFrom(model: Model, start: bigint): Node {
  model.checkpoint = start;
  const made = new Node(model);
  made.follow();
  return made;
}

async function readAt(one: Node, checkpoint: bigint, query: PageQuery): Promise<Omit<Page, "savedThrough">> {
  one.model.checkpoint = checkpoint;
  const { savedThrough, ...page } = await one.read("a", query);
  expect(savedThrough).toEqual({ epoch: 2, offset: checkpoint - 1n });
  return page;
}

test.each([10_000, 10_001, 15_000, 31_000])(
  "a page of a filter is the same wherever the checkpoint lies, also when more than it may look at is passed over: %i",
  async (events) => {
    const random = randomFrom(events);
    const model = sparse(random, events);
    const anywhere = (): bigint => BigInt(random.below(Number(model.nextOffset)));
    const middle = anywhere();
    const nodes = [nodeFrom(model, 0n), nodeFrom(model, middle)] as const;
    const truth = model.truth("a");
    const sharp = [10_000, 10_001, events - 10_000, events - 9_999].map((nth) => truth[nth]?.place.offset ?? 1n);
    const checkpoints = [...sharp, ...Array.from({ length: 3 }, anywhere), model.nextOffset];
    for (let nth = 0; nth < 8; nth++) {
      const ends = nth < 4 ? { after: ORIGIN, before: null } : {};
      const query: PageQuery = {
        ...randomQuery(random, model),
        ...{ types: new Set(["rare"]), sinceMs: null, view: "merged", order: nth % 2 === 0 ? "asc" : "desc" },
        ...ends,
      };
      const unsaved = await readAt(nodes[0], 0n, query);
      for (const checkpoint of checkpoints) {
        expect(await readAt(nodes[0], checkpoint, query)).toEqual(unsaved);
        if (checkpoint >= middle) expect(await readAt(nodes[1], checkpoint, query)).toEqual(unsaved);
      }
    }
  },
);
