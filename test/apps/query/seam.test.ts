/**
 * The seam between rows and tail, under fire: random histories in which everything happens between a question and its answer,
 * and pages of every shape. Each page must be the filter of the truth at some moment while it was read.
 * `SPILLWAY_SEAM_PAGES=1000000 npx vitest run test/apps/query/seam.test.ts` reads more of them; `SPILLWAY_SEAM_SEED` tells a
 * run again.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ORIGIN } from "../../../apps/query/places.ts";
import type { PageQuery } from "../../../apps/query/read.ts";
import { randomFrom } from "./model.ts";
import { History } from "./seam/history.ts";
import type { Tally } from "./seam/judge.ts";
import { Node, type Read } from "./seam/node.ts";
import { CLIENTS, EPOCH, World } from "./seam/world.ts";

const PAGES_MIN = Number(process.env["SPILLWAY_SEAM_PAGES"] ?? 20_000);
const HISTORIES_A_BATCH = 50;
const ROUNDS_MAX = 60;

test("any page of any shape is the filter of the truth, whatever happens while it is read", {
  timeout: 3_600_000,
}, async () => {
  const tally: Tally = { pages: 0, refused: 0, loose: 0, events: 0, mixed: 0, walks: 0 };
  const rounds = fc.array(fc.integer(), { minLength: 1, maxLength: ROUNDS_MAX, size: "max" });
  const histories = fc.asyncProperty(fc.integer(), rounds, (seed, numbers) => new History(seed, tally).play(numbers));
  const seed = Number(process.env["SPILLWAY_SEAM_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  for (let batch = 0; tally.pages < PAGES_MIN; batch++)
    await fc.assert(histories, { numRuns: HISTORIES_A_BATCH, seed: seed + batch });
  console.log(`seam: seed ${seed}, ${JSON.stringify(tally)}`);
  // Enough of each, or nothing was shown.
  expect(tally.mixed).toBeGreaterThan(tally.pages / 15);
  expect(tally.walks).toBeGreaterThan(tally.pages / 30);
  expect(tally.refused).toBeLessThan(tally.pages / 5);
  expect(tally.loose).toBeLessThan(tally.pages / 10);
});

const PLAIN: PageQuery = {
  ...{ after: ORIGIN, before: null, types: null, sinceMs: null, untilMs: null, atLeast: null, timeoutMs: 1_000 },
  ...({ order: "asc", limit: 100, view: "merged", consistency: "latest" } as const),
};
const [CLIENT = ""] = CLIENTS;
const idsFrom = (name: string, count: number): string[] => Array.from({ length: count }, (_, n) => `${name}-${n}`);

/** A world of one client, and a node that knows its checkpoint. @param saved how many of the ids, which are as many offsets */
function scene(ids: readonly string[], saved: bigint): { world: World; node: Node; shown(read: Read): unknown } {
  const world = new World(randomFrom(1));
  world.appendIds(CLIENT, ids);
  world.save(0, saved);
  const node = new Node(world, { bytesMax: 1 << 30, withDisk: false, known: world.now.checkpoints, ask: null });
  const idOf = (json: string): string | undefined => world.byJson.get(json)?.event.id;
  return { world, node, shown: ({ page, problem }) => page?.events.map(idOf) ?? problem };
}

/** Lets all run that waits for nothing but its turn, and the log's answers. */
async function settle(node: Node): Promise<void> {
  for (let hop = 0; hop < 300; hop++) {
    await Promise.resolve();
    node.answerFetch(true);
  }
}

test("copies whose first copy's row is erased between rows and look-up are not shown", async () => {
  const ids = idsFrom("first", 10);
  const { world, node, shown } = scene(ids, 10n);
  world.appendIds(CLIENT, [...ids, "new"]);
  let statements = 0;
  node.meanwhile = () => {
    // Called before and after each: now the rows and the first look-up are done.
    if (++statements !== 2) return;
    world.save(0, 21n);
    world.erase(CLIENT, ({ place }) => place.epoch === EPOCH && place.offset < 10n);
  };
  const read = node.read(CLIENT, { ...PLAIN, limit: 2, view: "unsaved" });
  await settle(node);
  expect(shown(await read)).toEqual(["new"]);
  expect(statements).toBeGreaterThan(2);
  node.kill();
});

test("a page whose look-up another server has answered than its rows begins again", async () => {
  const ids = idsFrom("first", 10);
  const { world, node, shown } = scene(ids, 10n);
  const first = world.moments.length - 1;
  world.appendIds(CLIENT, [...ids, "new"]);
  // A backup in which the copies are the events, since the first ones were erased before they came.
  world.erase(CLIENT, ({ place }) => place.epoch === EPOCH);
  world.save(0, 21n);
  const other = world.moments.length - 1;
  world.restore(first);
  let statements = 0;
  node.meanwhile = () => {
    // After the first look-up.
    if (++statements === 2) world.restore(other);
  };
  const read = node.read(CLIENT, { ...PLAIN, limit: 2, view: "unsaved" });
  await settle(node);
  expect(shown(await read)).toEqual([]);
  expect(statements).toBeGreaterThan(2);
  node.kill();
});

test("a tail that begins anew just when it has reached what a reader waits for is waited for again", async () => {
  const ids = idsFrom("first", 10);
  const { world, node, shown } = scene(ids, 5n);
  await settle(node);
  node.storeFault = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  node.refresh();
  world.appendIds(CLIENT, ["late"]);
  const read = node.read(CLIENT, { ...PLAIN, after: { epoch: EPOCH, offset: 2n } });
  for (let hop = 0; hop < 100; hop++) await Promise.resolve();
  // An answer from before the database was lost comes in the same moment, and shows that the checkpoint went back.
  node.tail.take(0, 10n, [], 11n);
  node.tail.observe(0, 3n, 5n);
  await settle(node);
  expect(shown(await read)).toEqual([...ids.slice(3), "late"]);
  node.kill();
});

test("without the database, a pin from before the checkpoint went back makes no short page", async () => {
  const ids = idsFrom("first", 10);
  const { world, node, shown } = scene(ids, 5n);
  await settle(node);
  let calls = 0;
  node.meanwhile = () => {
    calls++;
    // Before the first statement, and before the second one, which waits behind it.
    if (calls === 1) world.goBack(0, 3n);
    if (calls === 3) node.storeFault = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  };
  const other = node.read(CLIENT, PLAIN);
  const read = node.read(CLIENT, { ...PLAIN, order: "desc", view: "unsaved" });
  await settle(node);
  expect(shown(await read)).toEqual(ids.slice(3).reverse());
  await other;
  node.kill();
});

const AWAY = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });

test("without the database, an unsaved page begins where its header says that saving has come to", async () => {
  const ids = idsFrom("first", 10);
  const { world, node, shown } = scene(ids, 5n);
  await settle(node);
  world.save(0, 6n);
  let calls = 0;
  node.meanwhile = () => {
    if (++calls !== 2) return;
    // Another snapshot has shown more, and its answer came first.
    world.save(0, 8n);
    node.tail.partition(0).evict(8n);
  };
  const late = node.read(CLIENT, PLAIN);
  await settle(node);
  expect((await late).page?.hasMore).toBe(false);
  node.storeFault = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  const read = node.read(CLIENT, { ...PLAIN, view: "unsaved" });
  await settle(node);
  const { page } = await read;
  expect(page?.savedThrough).toEqual({ epoch: EPOCH, offset: 5n });
  expect(shown(await read)).toEqual(ids.slice(6));
  node.kill();
});

test("without the database, an unsaved page begins where the log does, if that has forgotten what came after the checkpoint", async () => {
  const ids = idsFrom("first", 10);
  const { world, node, shown } = scene(ids, 5n);
  await settle(node);
  let calls = 0;
  node.meanwhile = () => {
    if (++calls !== 2) return;
    // Another snapshot has shown more, and its answer came first; then the checkpoint went back, and the log was trimmed below it.
    world.save(0, 9n);
    node.tail.partition(0).evict(9n);
    world.goBack(0, 7n);
    world.trim(0, 7n);
  };
  const late = node.read(CLIENT, PLAIN);
  await settle(node);
  expect((await late).page?.hasMore).toBe(false);
  node.storeFault = AWAY;
  const read = node.read(CLIENT, { ...PLAIN, view: "unsaved" });
  await settle(node);
  expect(shown(await read)).toEqual(ids.slice(7));
  node.kill();
});

const AGAIN = idsFrom("first", 10).slice(8);
const FROM_TAIL = [
  { view: "unsaved" },
  { view: "unsaved", order: "desc" },
  { view: "unsaved", types: new Set(["x", "y"]) },
  { view: "unsaved", before: { epoch: EPOCH, offset: 13n } },
  { view: "merged", after: { epoch: EPOCH, offset: 9n } },
  { view: "merged", after: { epoch: EPOCH, offset: 9n }, order: "desc" },
] as const;

/** Ten events are saved, of which the last two were sent again, and one came after; the node held them all, unsaved. */
async function heldThenSaved(evicted: boolean): Promise<ReturnType<typeof scene>> {
  const ids = idsFrom("first", 10);
  const all = scene([...ids, ...AGAIN, "new"], 0n);
  await settle(all.node);
  all.world.save(0, 10n);
  for (const pauseMs of evicted ? [0, 1_100] : [0]) {
    all.node.clock.advance(pauseMs);
    all.node.refresh();
    await settle(all.node);
  }
  expect(all.node.tail.partition(0).start).toBe(evicted ? 10n : 0n);
  all.node.storeFault = AWAY;
  return all;
}

test("without the database, events that were saved a moment ago take no room in an unsaved page", async () => {
  const ids = idsFrom("first", 10);
  const { world, node, shown } = scene(ids, 0n);
  await settle(node);
  world.save(0, 8n);
  const before = node.read(CLIENT, { ...PLAIN, after: { epoch: EPOCH, offset: 7n } });
  await settle(node);
  expect(shown(await before)).toEqual(ids.slice(8));
  node.storeFault = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  const read = node.read(CLIENT, { ...PLAIN, view: "unsaved", limit: 2 });
  await settle(node);
  expect(shown(await read)).toEqual(ids.slice(8));
  expect((await read).page).toMatchObject({ hasMore: false, savedThrough: { epoch: EPOCH, offset: 7n } });
  node.kill();
});

test.each([
  ["is held for a moment after it was saved", false],
  ["was held when the copy came", true],
])("without the database, a copy is not shown whose first copy %s", async (_, evicted) => {
  for (const query of FROM_TAIL) {
    const { node, shown } = await heldThenSaved(evicted);
    const read = node.read(CLIENT, { ...PLAIN, ...query });
    await settle(node);
    expect(shown(await read), JSON.stringify(query.view)).toEqual(["new"]);
    expect((await read).unchecked).toBe(true);
    node.kill();
  }
});

test("without the database, a copy is shown whose first copy was saved before this node held anything, and no other", async () => {
  for (const query of FROM_TAIL.filter((one) => !("order" in one))) {
    const { world, node, shown } = scene(idsFrom("first", 10), 10n);
    world.appendIds(CLIENT, [...AGAIN, "new"]);
    node.storeFault = AWAY;
    world.appendIds(CLIENT, ["new", ...AGAIN]);
    const read = node.read(CLIENT, { ...PLAIN, ...query });
    await settle(node);
    expect(shown(await read)).toEqual([...AGAIN, "new"]);
    node.kill();
  }
});
