import { describe, expect, test } from "vitest";
import { decodeCursor } from "#lib/cursor.ts";
import { Line, type Wire } from "../../../apps/query/line.ts";
import type { Frame } from "../../../apps/query/live.ts";
import { ORIGIN, type Place } from "../../../apps/query/places.ts";
import { until } from "../../support/until.ts";
import { LiveScene } from "./live-scene.ts";

/** A connection whose reader takes bytes when the test says so. */
class Reader implements Wire {
  readonly scene: LiveScene;
  readonly line: Line;
  readonly frames: { clientId: string; frame: Frame; bytes: Buffer }[] = [];
  readonly problems: unknown[] = [];
  /** Takes all at once, or nothing. */
  reads = true;
  pings = 0;
  gone = false;
  #untaken: (() => void)[] = [];

  constructor(scene: LiveScene) {
    this.scene = scene;
    this.line = new Line(scene.live, this);
  }

  get open(): boolean {
    return !this.gone;
  }
  print(order: { clientId: string }, frame: Frame): Buffer {
    const bytes = this.scene.live.printer.json(order as never, frame);
    this.frames.push({ clientId: order.clientId, frame, bytes });
    return bytes;
  }
  problem(sent: unknown): Buffer {
    this.problems.push(sent);
    return Buffer.from("{}");
  }
  write(_bytes: Buffer, taken: () => void): void {
    if (this.reads) queueMicrotask(taken);
    else this.#untaken.push(taken);
  }
  ping(): void {
    this.pings++;
  }
  silent(): void {
    this.gone = true;
    this.line.end();
  }
  failed(_order: unknown, error: unknown): void {
    this.problems.push(error);
  }

  follow(clientId: string, from: Place | null = ORIGIN, types: ReadonlySet<string> | null = null): this {
    this.line.follow({ order: this.scene.order(clientId), from, types });
    return this;
  }
  /** Reads on. */
  resume(): void {
    this.reads = true;
    for (const taken of this.#untaken.splice(0)) taken();
  }
  events(clientId: string): string[] {
    return this.frames.flatMap(({ clientId: whose, frame }) =>
      whose === clientId && frame.type === "events" ? [...frame.events] : [],
    );
  }
  caughtUp(clientId: string): Promise<unknown> {
    const isMark = (one: (typeof this.frames)[number]): boolean =>
      one.clientId === clientId && one.frame.type === "caughtUp";
    return until(`${clientId} is caught up`, () => this.frames.some(isMark));
  }
  /** Bytes that were written and not taken. */
  async waitingBytes(): Promise<number> {
    return (await this.scene.metrics.queryLiveBytes.get()).values[0]?.value ?? 0;
  }
}

/** Of the log in use, whose events are all in the tail. */
const START: Place = { epoch: 1, offset: -1n };

/** Everybody has had all turns that may be had: 10,000 and more. */
async function settled({ clock }: LiveScene): Promise<void> {
  for (let n = 0; n < 100; n++) await clock.turn();
}

const wide = (clientId: string, characters: number) => ({ clientId, data: JSON.stringify("x".repeat(characters)) });

describe("one connection's subscriptions", () => {
  test("take turns: a hot client's backlog lets others' events through after each of its frames", async () => {
    const scene = new LiveScene();
    const others = Array.from({ length: 30 }, (_, n) => `quiet-${n}`);
    scene.append(...Array.from({ length: 40 }, () => wide("hot", 100_000)), ...others);
    const follow = async (): Promise<Reader> => {
      const reader = new Reader(scene).follow("hot", START);
      for (const clientId of others) reader.follow(clientId, START);
      for (const clientId of ["hot", ...others]) await reader.caughtUp(clientId);
      return reader;
    };
    // Once it is known what are copies, nobody waits for anything but a turn.
    await follow();
    const reader = await follow();
    expect(reader.events("hot")).toEqual(scene.jsonOf("hot"));
    const order = reader.frames.filter(({ frame }) => frame.type === "events").map(({ clientId }) => clientId);
    const lastOfOthers = Math.max(...others.map((clientId) => order.indexOf(clientId)));
    // 40 events of 100 kB are 20 frames and more; some fill the room before the others have begun, then all have a turn.
    expect(order.filter((one) => one === "hot").length).toBeGreaterThanOrEqual(20);
    expect(order.slice(0, lastOfOthers).filter((one) => one === "hot").length).toBeLessThanOrEqual(7);
  });

  test("read one page at a time, in turn, and live frames of others go between a page's frames", async () => {
    const scene = new LiveScene();
    const old = ["old-1", "old-2", "old-3"];
    for (const clientId of old) scene.append(...Array.from({ length: 1_200 }, () => clientId));
    scene.save();
    const reader = new Reader(scene);
    for (const clientId of old) reader.follow(clientId);
    for (const clientId of old) await reader.caughtUp(clientId);
    for (const clientId of old) expect(reader.events(clientId)).toEqual(scene.jsonOf(clientId));
    expect(scene.reads.most).toBe(1);
    expect(scene.reads.of.slice(0, 6)).toEqual([...old, ...old]);
  });

  test("end without a word to the others when one is followed no more", async () => {
    const scene = new LiveScene();
    scene.append("a", "b");
    const reader = new Reader(scene).follow("a").follow("b");
    await Promise.all([reader.caughtUp("a"), reader.caughtUp("b")]);
    expect(decodeCursor(reader.line.unfollow("a") ?? "")?.offset).toBeGreaterThanOrEqual(0n);
    scene.append("a", "b");
    await until("b's event", () => reader.events("b").length === 2);
    expect(reader.events("a")).toHaveLength(1);
    expect(reader.line.unfollow("a")).toBeUndefined();
  });
});

describe("a problem that passes", () => {
  test("is told once, and to nobody who leaves what it was sent, however often it comes back", async () => {
    const scene = new LiveScene();
    scene.away = true;
    const told = new Reader(scene).follow("a");
    const mute = new Reader(scene);
    mute.reads = false;
    mute.line.write("events", Buffer.alloc(1 << 20));
    mute.follow("b");
    const counts = (): number[] => [told.problems.length, mute.problems.length];
    const tryAgain = async (): Promise<void> => {
      await settled(scene);
      scene.clock.advance(6_000);
      await settled(scene);
    };
    await tryAgain();
    expect(counts()).toEqual([1, 0]);
    mute.resume();
    await tryAgain();
    await tryAgain();
    expect(counts()).toEqual([1, 1]);
    scene.away = false;
    await tryAgain();
    await Promise.all([told.caughtUp("a"), mute.caughtUp("b")]);
    expect(counts()).toEqual([1, 1]);
  });
});

describe("readers that do not read", () => {
  test("hold no more than the node's bound, leave room for who does read, and are kept", async () => {
    const scene = new LiveScene();
    const slow = Array.from({ length: 300 }, (_, n) => new Reader(scene).follow(`slow-${n}`, null));
    for (const [n, reader] of slow.entries()) await reader.caughtUp(`slow-${n}`);
    for (const reader of slow) reader.reads = false;
    for (let round = 0; round < 12; round++)
      for (let n = 0; n < slow.length; n++) scene.append(wide(`slow-${n}`, 60_000));
    await settled(scene);
    const first = slow[0] as Reader;
    const bytes = await first.waitingBytes();
    expect(bytes).toBeGreaterThan(24 * 1024 * 1024);
    expect(bytes).toBeLessThan(64 * 1024 * 1024);
    expect(first.events("slow-0").length).toBeLessThan(12);
    const quick = new Reader(scene).follow("quick");
    await quick.caughtUp("quick");
    for (let n = 0; n < 50; n++) scene.append(wide("quick", 50_000));
    await until("the quick reader's events", () => quick.events("quick").length === 50);
    // What they did not take is saved meanwhile, and comes from pages.
    scene.save();
    for (const reader of slow) reader.resume();
    for (const [n, reader] of slow.entries()) {
      await until(`all of slow-${n}`, () => reader.events(`slow-${n}`).length === 12);
      expect(reader.events(`slow-${n}`)).toEqual(scene.jsonOf(`slow-${n}`));
    }
    expect(first.frames.map(({ frame }) => frame.type)).toContain("fellBehind");
    expect(slow.flatMap(({ problems }) => problems)).toEqual([]);
    expect(await first.waitingBytes()).toBe(0);
  });

  test("who waits for room gets it when others go, be it by their end", async () => {
    const scene = new LiveScene();
    const stuck = Array.from({ length: 400 }, (_, n) => new Reader(scene).follow(`stuck-${n}`, null));
    for (const [n, reader] of stuck.entries()) await reader.caughtUp(`stuck-${n}`);
    for (const reader of stuck) reader.reads = false;
    // Larger than any share: each goes alone, as long as there is any room.
    for (let n = 0; n < stuck.length; n++) scene.append(wide(`stuck-${n}`, 250_000));
    await settled(scene);
    const late = new Reader(scene).follow("late", null);
    await settled(scene);
    expect(late.frames).toEqual([]);
    for (const reader of stuck) reader.line.end();
    await late.caughtUp("late");
  });

  test("hold pages within one bound: who has not taken its page for long gives way, and reads it again", async () => {
    const scene = new LiveScene();
    const clients = Array.from({ length: 12 }, (_, n) => `wide-${n}`);
    for (const clientId of clients) scene.append(...Array.from({ length: 40 }, () => wide(clientId, 100_000)));
    scene.save();
    const readers = clients.map((clientId) => Object.assign(new Reader(scene), { reads: false }).follow(clientId));
    // 4 MB each: eight pages fill the room of 32 MiB.
    await until("pages that are held", () => scene.live.pagesRoom.bytes > 28 * 1024 * 1024);
    expect(scene.live.pagesRoom.bytes).toBeLessThanOrEqual(32 * 1024 * 1024);
    scene.clock.advance(11_000);
    const another = new Reader(scene);
    scene.append(...Array.from({ length: 40 }, () => wide("another", 100_000)));
    scene.save();
    another.follow("another");
    await another.caughtUp("another");
    expect(another.events("another")).toEqual(scene.jsonOf("another"));
    for (const reader of readers) reader.resume();
    for (const [n, reader] of readers.entries()) {
      await reader.caughtUp(`wide-${n}`);
      expect(reader.events(`wide-${n}`)).toEqual(scene.jsonOf(`wide-${n}`));
    }
    expect(scene.live.pagesRoom.bytes).toBe(0);
    expect(scene.reads.of.filter((clientId) => clientId === "wide-0").length).toBeGreaterThan(1);
  });
});

test("a thousand who come back at once catch up 16 at a time, each connection in turn, and all do", async () => {
  const scene = new LiveScene();
  scene.append(...Array.from({ length: 1_000 }, (_, n) => `client-${n}`));
  scene.save();
  const gate = Promise.withResolvers<void>();
  scene.held = gate.promise;
  const crowd = new Reader(scene);
  for (let n = 0; n < 500; n++) crowd.follow(`client-${n}`);
  const singles = Array.from({ length: 500 }, (_, n) => new Reader(scene).follow(`client-${n + 500}`));
  await until("as many reads as may be", () => scene.reads.now === 16);
  scene.held = null;
  gate.resolve();
  for (const [n, reader] of singles.entries()) await reader.caughtUp(`client-${n + 500}`);
  for (let n = 0; n < 500; n++) await crowd.caughtUp(`client-${n}`);
  expect(scene.reads.most).toBe(16);
  // One connection's five hundred do not come before the others' first.
  const firstHalf = scene.reads.of.slice(0, 501).filter((clientId) => Number(clientId.slice(7)) < 500);
  expect(firstHalf.length).toBeLessThan(50);
});

describe("a beat", () => {
  test("brings cursors that move on; silence of a minute ends the connection, and no shorter one", async () => {
    const scene = new LiveScene(60_000);
    const [healthy, dead] = [new Reader(scene).follow("a"), new Reader(scene).follow("b")];
    await Promise.all([healthy.caughtUp("a"), dead.caughtUp("b")]);
    dead.reads = false;
    for (let n = 1; n <= 3; n++) {
      scene.append("c");
      scene.clock.advance(60_001);
      await until("a mark", () => healthy.frames.filter(({ frame }) => frame.type === "caughtUp").length === n + 1);
    }
    expect([healthy.gone, dead.gone, healthy.pings]).toEqual([false, true, 3]);
    const places = healthy.frames.flatMap(({ frame }) => (frame.type === "caughtUp" ? [frame.place.offset] : []));
    expect(places).toEqual([...places].sort((a, b) => Number(a - b)));
    expect(healthy.frames.length).toBeGreaterThan(3);
  });
});

test("who takes everything is asked for a sign of life though others have taken all room", () => {
  const scene = new LiveScene();
  const { live, clock } = scene;
  const reader = new Reader(scene);
  live.outflow.add(64 * 1024 * 1024);
  expect(reader.line.room).toBe(0);
  clock.advance(live.heartbeatMs);
  expect([reader.pings, reader.line.clogged]).toEqual([1, false]);
});

test("followers of one client are sent the very same bytes, printed once", async () => {
  const scene = new LiveScene();
  const readers = Array.from({ length: 50 }, () => new Reader(scene).follow("shared", null));
  for (const reader of readers) await reader.caughtUp("shared");
  scene.append("shared", "other", "shared");
  for (const reader of readers) await until("both", () => reader.events("shared").length === 2);
  const printed = new Set(
    readers.flatMap(({ frames }) => frames.filter(({ frame }) => frame.type === "events").map(({ bytes }) => bytes)),
  );
  expect(printed.size).toBe(1);
});
