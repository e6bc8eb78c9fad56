import { rmSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock as clock } from "#lib/clock.ts";
import type { TailEvent } from "../../../../apps/query/client-tail.ts";
import { Disk } from "../../../../apps/query/disk/disk.ts";
import { withEarlier } from "../../../../apps/query/disk/earlier.ts";
import { relieve } from "../../../../apps/query/disk/relieve.ts";
import { windowOf } from "../../../../apps/query/disk/window.ts";
import type { Selection } from "../../../../apps/query/merge.ts";
import { type NewTailEvent, PartitionTail, type Pin } from "../../../../apps/query/partition-tail.ts";
import { ORIGIN } from "../../../../apps/query/places.ts";
import { candidates, LOOKED_AT_NONE, lookedAtFirst, SCAN_EVENTS_MAX, scanEnd } from "../../../../apps/query/scan.ts";
import { newFolder } from "../../../support/folder.ts";
import { silentLog, someEvent } from "../../../support/records.ts";
import { CLIENTS, randomFrom, TYPES } from "../model.ts";

const EPOCH = 2;
const PLAIN: Selection = {
  after: ORIGIN,
  before: null,
  types: null,
  sinceMs: null,
  untilMs: null,
  order: "asc",
  limit: 5,
};
type Random = ReturnType<typeof randomFrom>;

const folder = newFolder("window");
let disk: Disk;
beforeAll(async () => {
  disk = await Disk.open({ folder, bytesMax: 2 ** 30, log: silentLog, clock });
});
afterAll(async () => {
  await disk[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** Many ids come again, some offsets hold no event, and some texts are large. */
function someEvents(random: Random, from: bigint, count: number): NewTailEvent[] {
  return Array.from({ length: count }, (_, n) => BigInt(n) + from)
    .filter(() => random.next() < 0.9)
    .map((offset) => {
      const event = someEvent({
        clientId: random.pick([...CLIENTS, "é😀"]),
        id: `id-${random.below(random.next() < 0.3 ? 8 : 200)}-ü`,
        type: random.pick(TYPES),
        occurredAtMs: random.below(100),
      });
      return { event, offset, json: `${event.id}@${offset}${"x".repeat(random.next() < 0.02 ? 70_000 : 0)}` };
    });
}

/** The same records, all in memory and partly on disk. */
class Both {
  readonly whole = new PartitionTail(0n);
  readonly split = new PartitionTail(0n);

  async append(events: readonly NewTailEvent[], next: bigint): Promise<void> {
    this.whole.append(events, next);
    this.split.append(await withEarlier(this.split, events), next);
  }

  async spill(): Promise<void> {
    const some = this.split.records > 0;
    expect(await relieve([this.split], disk, clock)).toBe(some);
  }
}

const told = ({ offset, id, type, occurredAtMs, previous }: TailEvent): unknown[] => [
  ...[offset, id, type, occurredAtMs, previous],
];

function someSelection(random: Random, next: bigint): Selection {
  const maybe = <T>(chance: number, make: () => T): T | null => (random.next() < chance ? make() : null);
  const place = () => ({ epoch: random.next() < 0.1 ? 1 : EPOCH, offset: BigInt(random.below(Number(next) + 2)) - 1n });
  return {
    after: maybe(0.7, place) ?? ORIGIN,
    before: maybe(0.5, place),
    types: maybe(0.3, () => new Set([random.pick(TYPES)])),
    sinceMs: maybe(0.2, () => random.below(100)),
    untilMs: maybe(0.2, () => random.below(100)),
    order: random.pick(["asc", "desc"]),
    limit: 1 + random.below(30),
  };
}

/** Whatever a page asks of memory's slice, the window answers it alike. */
async function compare(random: Random, whole: Pin, split: Pin): Promise<void> {
  const selection = someSelection(random, whole.next);
  const window = await windowOf(split, EPOCH, selection);
  const [found, seen] = [candidates(whole, EPOCH, selection), candidates(window, EPOCH, selection)];
  expect(seen.events.map(told)).toEqual(found.events.map(told));
  expect(seen.events.map(({ json }) => json)).toEqual(found.events.map(({ json }) => json));
  if (seen.cutAt === null) expect(found.cutAt).toBeNull();
  // Of a page that is full, the window does not know whether anything comes behind it.
  else expect([seen.cutAt, seen.events.at(-1)?.offset]).toContain(found.cutAt ?? seen.cutAt);
  if (seen.cutAt === null) return;
  const beyond = await windowOf(split, EPOCH, selection, selection.order === "asc" ? seen.cutAt + 1n : seen.cutAt);
  const [after, later] = [whole, beyond].map((pin) => candidates(pin, EPOCH, selection, seen.cutAt).events.map(told));
  expect(later).toEqual(after);
}

async function randomTail(seed: number): Promise<void> {
  const random = randomFrom(seed);
  const both = new Both();
  for (let round = 0; round < 8; round++) {
    const next = both.whole.next + BigInt(random.below(120));
    await both.append(someEvents(random, both.whole.next, Number(next - both.whole.next)), next);
    for (let spills = random.below(3); spills > 0; spills--) await both.spill();
    if (random.next() < 0.3) {
      const below = both.whole.start + BigInt(random.below(Number(next - both.whole.start) + 1));
      both.whole.evict(below);
      both.split.evict(below);
    }
    for (let page = 0; page < 6; page++) {
      const clientId = random.pick([...CLIENTS, "é😀", "nobody"]);
      await compare(random, both.whole.pin(clientId), both.split.pin(clientId));
    }
  }
  both.split.restart(both.split.start);
}

test("a window over memory and disk shows what memory alone would, and which record came before with the same identity", async () => {
  await fc.assert(fc.asyncProperty(fc.integer(), randomTail), { numRuns: 100 });
});

test("a filter looks as far on disk as in memory", async () => {
  const both = new Both();
  const events = Array.from({ length: SCAN_EVENTS_MAX + 3_000 }, (_, n) => ({
    event: someEvent({ clientId: "a", id: `${n}`, type: n % 1_000 === 999 ? "rare" : "common" }),
    offset: BigInt(n),
    json: `${n}`,
  }));
  for (let at = 0; at < events.length; at += 1_000) {
    await both.append(events.slice(at, at + 1_000), BigInt(at + 1_000));
    await both.spill();
  }
  for (const order of ["asc", "desc"] as const) {
    const selection = { ...PLAIN, order, limit: 100, types: new Set(["rare"]) };
    const [whole, split] = [both.whole.pin("a"), await windowOf(both.split.pin("a"), EPOCH, selection)];
    const scanned = (pin: Pin) => ({
      found: candidates(pin, EPOCH, selection).events.map(told),
      first: lookedAtFirst(pin, EPOCH, selection),
      end: scanEnd(pin, EPOCH, selection, 0n, LOOKED_AT_NONE),
    });
    expect(scanned(split)).toEqual(scanned(whole));
    expect(scanned(split).end).not.toBeNull();
  }
  both.split.restart(0n);
});

test("a page of large events brings no more from disk than it can show", async () => {
  const both = new Both();
  const json = "x".repeat(250_000);
  for (let n = 0; n < 200; n++) {
    const event = someEvent({ clientId: "a", id: `${n}` });
    both.split.append([{ event, offset: BigInt(n), json }], BigInt(n + 1));
    if (n % 20 === 19) await both.spill();
  }
  const window = await windowOf(both.split.pin("a"), EPOCH, { ...PLAIN, limit: 1_000 });
  expect(window.array.length).toBeGreaterThan(30);
  expect(window.array.length).toBeLessThan(40);
  expect(candidates(window, EPOCH, { ...PLAIN, limit: 1_000 }).cutAt).toBe(BigInt(window.array.length - 1));
  both.split.restart(0n);
});
