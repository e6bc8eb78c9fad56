/** What may happen at any moment, and what a reader may ask. All of it is drawn from the world's seed. */
import { ORIGIN, type Place } from "../../../../apps/query/places.ts";
import type { PageQuery } from "../../../../apps/query/read.ts";
import type { Node } from "./node.ts";
import { CLIENTS, EPOCH, PARTITIONS, partitionOf, type Random, TIMES, TYPES, type World } from "./world.ts";

type Move = (world: World, node: Node) => void;

const upTo = (random: Random, from: bigint, to: bigint): bigint => from + BigInt(random.below(Number(to - from) + 1));
const anyPartition = ({ random }: World): number => random.below(PARTITIONS);

function save(world: World, most: number): void {
  const partition = anyPartition(world);
  const left = Math.min(world.unsaved(partition), most);
  if (left > 0) world.save(partition, world.saved(partition) + 1n + BigInt(world.random.below(left)));
}

/** A producer sends again what it has sent, all of it or the last. */
function sendAgain(world: World): void {
  const { random } = world;
  const clientId = random.pick(CLIENTS);
  const sent = [...(world.now.rows.get(clientId) ?? []), ...(world.log.get(clientId) ?? [])];
  const most = 1 + random.below(30);
  const ids = sent.slice(random.below(2) * -most).map(({ event }) => event.id);
  world.appendIds(clientId, ids.slice(0, most));
}

function erase(world: World): void {
  const { random } = world;
  const clientId = random.pick(CLIENTS);
  const rows = world.now.rows.get(clientId) ?? [];
  if (rows.length === 0) return;
  const [one, dice] = [random.pick(rows), random.next()];
  if (dice < 0.5) world.erase(clientId, (record) => record === one);
  else if (dice < 0.8) world.erase(clientId, ({ event }) => event.occurredAtMs === one.event.occurredAtMs);
  // Old ones, or all.
  else world.erase(clientId, (record) => dice < 0.9 || rows.indexOf(record) <= rows.indexOf(one));
}

function goBack(world: World): void {
  const partition = anyPartition(world);
  const checkpoint = world.now.checkpoints[partition] ?? null;
  if (checkpoint === null) return;
  world.goBack(partition, upTo(world.random, world.part(partition).start, checkpoint));
}

const FAULTS: readonly (() => Error)[] = [
  () => Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }),
  () => new Error("Query read timeout"),
  () => new Error("timeout exceeded when trying to connect"),
  () => Object.assign(new Error("canceling statement due to statement timeout"), { code: "57014" }),
];

/** With how often each happens. */
const MOVES: readonly (readonly [number, Move])[] = [
  [14, (world) => world.append(anyPartition(world), 1 + world.random.below(12))],
  [2, sendAgain],
  [14, (_, node) => node.answerFetch()],
  [6, (world) => save(world, 3)],
  [6, (world) => save(world, 1_000_000)],
  [10, (_, node) => node.refresh()],
  [6, ({ random }, node) => node.clock.advance(random.pick([10, 300, 1_100]))],
  [2, erase],
  [2, goBack],
  [1, (world) => world.restore(world.random.below(world.moments.length))],
  [1, (world) => trim(world)],
  [0.5, (world, node) => fault(world, node)],
  [0.2, (world, node) => logFault(world, node)],
];
const ALL = MOVES.reduce((sum, [often]) => sum + often, 0);

function trim(world: World): void {
  const partition = anyPartition(world);
  world.trim(partition, upTo(world.random, world.part(partition).start, world.saved(partition)));
}

function fault(world: World, node: Node): void {
  node.storeFault = world.random.pick(FAULTS)();
  world.tell(`database: ${node.storeFault.message}`);
}

function logFault(world: World, node: Node): void {
  node.logFault = true;
  world.tell("log: no leader");
}

/** One thing happens. Faults are over after a while. */
export function move(world: World, node: Node): void {
  if (node.storeFault && world.random.next() < 0.1) {
    node.storeFault = null;
    world.tell("database is back");
  }
  if (world.random.next() < 0.3) node.logFault = false;
  let dice = world.random.next() * ALL;
  const chosen = MOVES.find(([often]) => {
    dice -= often;
    return dice < 0;
  });
  chosen?.[1](world, node);
}

/** What happens between a question and its answer: mostly nothing. */
export function meanwhile(world: World, node: Node): void {
  if (world.random.next() < 0.6) return;
  for (let moves = 1 + world.random.below(3); moves > 0; moves--) move(world, node);
}

function anyPlace({ random, parts }: World, partition: number, beyond: number): Place {
  if (random.next() < 0.15) return { epoch: 1, offset: BigInt(random.below(32)) - 1n };
  return { epoch: EPOCH, offset: BigInt(random.below(Number(parts[partition]?.end) + 1 + beyond)) - 1n };
}

/** Near the checkpoint, where halves meet. */
function nearSeam(world: World, partition: number): Place {
  const { random } = world;
  const near = Number(world.saved(partition)) - 3 + random.below(6);
  return { epoch: EPOCH, offset: BigInt(Math.max(-1, Math.min(near, Number(world.part(partition).end) - 1))) };
}

/** A page of any shape. */
export function anyQuery(world: World, clientId: string): PageQuery {
  const { random } = world;
  const partition = partitionOf(clientId);
  const maybe = <T>(chance: number, make: () => T): T | null => (random.next() < chance ? make() : null);
  const place = (beyond: number): Place =>
    random.next() < 0.3 ? nearSeam(world, partition) : anyPlace(world, partition, beyond);
  return {
    // Beyond the end it is refused.
    after: maybe(0.6, () => place(0)) ?? ORIGIN,
    before: maybe(0.4, () => place(3)),
    types: maybe(0.25, () => new Set(random.pick([[random.pick(TYPES)], [...TYPES], ["none"]]))),
    sinceMs: maybe(0.15, () => random.below(TIMES)),
    untilMs: maybe(0.15, () => random.below(TIMES)),
    order: random.pick(["asc", "desc"]),
    limit: random.next() < 0.8 ? 1 + random.below(20) : 1_000,
    view: random.pick(["merged", "merged", "merged", "merged", "saved", "unsaved"]),
    consistency: random.pick(["latest", "latest", "latest", "latest", "known"]),
    atLeast: maybe(0.1, () => anyPlace(world, partition, random.next() < 0.1 ? 3 : 0)),
    timeoutMs: random.pick([25_000, 25_000, 5_000, 400]),
  };
}
