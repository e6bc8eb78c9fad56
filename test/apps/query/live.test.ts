import fc from "fast-check";
import { expect, test } from "vitest";
import type { TailEvent } from "../../../apps/query/client-tail.ts";
import { Follower, type Frame } from "../../../apps/query/live.ts";
import { isCopy } from "../../../apps/query/merge.ts";
import { PartitionTail } from "../../../apps/query/partition-tail.ts";
import { comparePlaces, ORIGIN, type Place } from "../../../apps/query/places.ts";
import { Model, type ModelRecord, orderOf, randomFrom } from "./model.ts";

type Random = ReturnType<typeof randomFrom>;

/** A node's tail of the model, and one follower of client `a`, moved by hand. */
class Scene {
  readonly model: Model;
  readonly tail: PartitionTail;
  readonly from: Place;
  readonly types: ReadonlySet<string> | null;
  follower: Follower;
  readonly frames: Frame[] = [];
  #asked: TailEvent[] = [];
  #page: Place | null = null;

  constructor(model: Model, from: Place, types: ReadonlySet<string> | null = null) {
    this.model = model;
    this.types = types;
    this.tail = new PartitionTail(model.checkpoint);
    this.from = from;
    this.read();
    this.follower = this.#subscribe(from);
  }

  read(): void {
    const events = this.model.records
      .filter(({ place }) => place.epoch === 2 && place.offset >= this.tail.next)
      .map(({ event, place, json }) => ({ event, offset: place.offset, json }));
    this.tail.append(events, this.model.nextOffset);
  }

  /** One step of the follower, as its driver would. Pages and verdicts come later, by `answer`. */
  step(bytesMax?: number): "sent" | "page" | "asked" | "waits" {
    if (this.#page !== null) return "waits";
    const step = this.follower.next(bytesMax);
    switch (step.do) {
      case "send":
        this.frames.push(step.frame);
        return "sent";
      case "page":
        this.#page = step.after;
        return "page";
      case "ask":
        for (const event of step.events) event.verdict = "asked";
        this.#asked.push(...step.events);
        return "asked";
      case "wait":
        return "waits";
    }
  }

  /** The database answers what was asked: a page of what it and the tail hold now, and verdicts. */
  answer(limit: number): void {
    const { model } = this;
    const { places } = model.verdicts(this.#asked);
    for (const [index, event] of this.#asked.entries()) {
      const place = places[index] ?? null;
      const rows = place === null ? new Map<string, Place>() : new Map([[event.id, place]]);
      event.verdict = isCopy(event, 2, model.checkpoint, rows) ? "copy" : "first";
    }
    this.#asked = [];
    if (this.#page === null) return;
    const after = this.#page;
    this.#page = null;
    const rest = this.#shown().filter(({ place }) => comparePlaces(place, after) > 0 && this.#isRead(place));
    const shown = rest.slice(0, limit);
    const end = { epoch: 2, offset: this.tail.next - 1n };
    const next =
      shown.length < rest.length ? (shown.at(-1)?.place ?? after) : comparePlaces(end, after) > 0 ? end : after;
    this.follower.takePage({ events: shown.map(({ json }) => json), next });
  }

  /** The socket breaks; the reader comes back with the last cursor it has seen. */
  reconnect(): void {
    this.follower.stop();
    this.#page = null;
    this.follower = this.#subscribe(this.resumeFrom());
  }

  /** The last cursor among the frames: of an event, or of a mark. */
  resumeFrom(): Place {
    const last = this.frames.at(-1);
    if (last === undefined) return this.from;
    if (last.type !== "events") return last.place;
    const json = last.events.at(-1) ?? "";
    return (this.model.records.find((record) => record.json === json) as ModelRecord).place;
  }

  get events(): string[] {
    return this.frames.flatMap((frame) => (frame.type === "events" ? frame.events : []));
  }

  expected(): string[] {
    return this.#shown()
      .filter(({ place }) => comparePlaces(place, this.from) > 0)
      .map(({ json }) => json);
  }

  #shown(): ModelRecord[] {
    return this.model.truth("a").filter(({ event }) => this.types === null || this.types.has(event.type));
  }

  #isRead = (place: Place): boolean => place.epoch === 1 || place.offset < this.tail.next;

  #subscribe(from: Place): Follower {
    return new Follower(orderOf("a"), this.tail, from, this.model.nextOffset, this.types);
  }
}

/** Anything that may happen between two steps of a follower. */
function disturb(random: Random, scene: Scene): void {
  const { model, tail } = scene;
  const happen = random.below(10);
  if (happen === 0) model.append(random.below(6));
  if (happen <= 2) scene.read();
  if (happen === 3) model.checkpoint += BigInt(random.below(Number(model.nextOffset - model.checkpoint) + 1));
  if (happen === 4) tail.evict(model.checkpoint);
  if (happen === 5) scene.answer(1 + random.below(4));
  if (happen === 6 && random.next() < 0.2) {
    model.checkpoint = BigInt(random.below(Number(model.checkpoint) + 1));
    if (model.checkpoint < tail.start) tail.restart(model.checkpoint);
  }
  if (happen === 7 && random.next() < 0.2) scene.reconnect();
  if (happen === 8) {
    const beat = scene.follower.heartbeat();
    if (beat) scene.frames.push(beat);
  }
  if (happen === 9) scene.follower.dropPage();
}

function randomRun(seed: number): void {
  const random = randomFrom(seed);
  const model = new Model(random);
  model.append(random.below(30));
  model.checkpoint = BigInt(random.below(Number(model.nextOffset) + 1));
  const start = random.pick([ORIGIN, { epoch: 1, offset: 5n }, { epoch: 2, offset: model.nextOffset - 1n }]);
  const scene = new Scene(model, start, random.pick([null, new Set(["x"])]));
  for (let i = 0; i < 300; i++) {
    if (random.next() < 0.5) scene.step(random.pick([undefined, 1, 500]));
    else disturb(random, scene);
  }
  scene.read();
  for (let quiet = 0; quiet < 3; ) {
    scene.answer(4);
    quiet = scene.step() === "waits" ? quiet + 1 : 0;
  }
  expect(scene.events).toEqual(scene.expected());
  expect(scene.frames.some(({ type }) => type === "caughtUp")).toBe(true);
  checkMarks(scene);
}

/** A cursor never claims an event that was not sent before it, and turns alternate. */
function checkMarks(scene: Scene): void {
  let sent: Place = scene.from;
  let remaining = scene.expected();
  const placeOf = new Map(scene.model.records.map(({ json, place }) => [json, place]));
  for (const frame of scene.frames) {
    if (frame.type === "events") remaining = remaining.slice(frame.events.length);
    else {
      expect(comparePlaces(frame.place, sent)).toBeGreaterThanOrEqual(0);
      sent = frame.place;
      const unsent = placeOf.get(remaining[0] ?? "");
      if (unsent) expect(comparePlaces(frame.place, unsent)).toBeLessThan(0);
    }
  }
}

test("a follower gets exactly the client's slice, whatever is appended, saved, dropped, cut or read again", () => {
  fc.assert(fc.property(fc.integer(), randomRun), { numRuns: 1_500 });
}, 60_000);

/** A scene without randomness in what happens. */
function scene(events: number, checkpoint: bigint, from: Place): Scene {
  const model = new Model(randomFrom(3));
  model.append(events);
  model.checkpoint = checkpoint;
  return new Scene(model, from);
}

test("a follower from now on of a silent client is told at once that it is caught up", () => {
  const quiet = scene(20, 0n, { epoch: 2, offset: 19n });
  quiet.step();
  expect(quiet.frames).toEqual([{ type: "caughtUp", place: { epoch: 2, offset: 19n } }]);
});

test("heartbeats move the cursor on while other clients' events pass", () => {
  const quiet = scene(0, 0n, { epoch: 2, offset: -1n });
  quiet.step();
  for (let i = 0; i < 50; i++) {
    quiet.model.records.length = 0;
    quiet.model.append(1);
  }
  quiet.model.records.length = 0;
  quiet.read();
  expect(quiet.follower.heartbeat()).toEqual({ type: "caughtUp", place: { epoch: 2, offset: 49n } });
});

test("a follower that does not take its events falls behind when they leave the tail, is told, and loses nothing", () => {
  const slow = scene(40, 0n, { epoch: 2, offset: 39n });
  slow.step();
  slow.model.append(40);
  slow.read();
  slow.model.checkpoint = 80n;
  slow.tail.evict(80n);
  slow.step();
  expect(slow.frames.map(({ type }) => type)).toEqual(["caughtUp", "fellBehind"]);
  while (slow.step() !== "waits" || slow.events.length < slow.expected().length) slow.answer(3);
  expect(slow.events).toEqual(slow.expected());
  expect(slow.frames.at(-1)?.type).toBe("caughtUp");
});

test("a follower that catches up is told with each heartbeat how far it is, also where nothing of its types came", () => {
  const far = scene(40, 40n, ORIGIN);
  expect(far.follower.heartbeat()).toEqual({ type: "fellBehind", place: ORIGIN });
  far.step();
  far.follower.takePage({ events: [], next: { epoch: 2, offset: 17n } });
  expect(far.follower.heartbeat()).toEqual({ type: "fellBehind", place: { epoch: 2, offset: 17n } });
});

test("a page is handed out in frames as small as is wanted, and what is dropped of it is read again", () => {
  const model = new Model(randomFrom(3));
  model.append(60);
  model.checkpoint = model.nextOffset;
  const slow = new Scene(model, ORIGIN);
  slow.step();
  slow.answer(8);
  for (let n = 0; n < 3; n++) expect(slow.step(1)).toBe("sent");
  expect(slow.frames.map((frame) => (frame.type === "events" ? frame.events.length : frame.type))).toEqual([1, 1, 1]);
  slow.follower.dropPage();
  expect(slow.step()).toBe("page");
  while (slow.step() !== "waits" || slow.events.length < slow.expected().length) slow.answer(5);
  expect(slow.events).toEqual(slow.expected());
});

test("an idle follower does not fall behind, however far the tail moves on", () => {
  const idle = scene(0, 0n, { epoch: 2, offset: -1n });
  idle.step();
  idle.model.append(100);
  idle.model.records.splice(
    0,
    idle.model.records.length,
    ...idle.model.records.filter(({ event }) => event.clientId !== "a"),
  );
  idle.read();
  idle.tail.evict(100n);
  expect(idle.step()).toBe("waits");
  expect(idle.frames.map(({ type }) => type)).toEqual(["caughtUp"]);
});
