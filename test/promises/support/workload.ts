/** What producers and readers do in most tests: several at once, some clients hot, some requests sent twice. Seeded. */
import { setTimeout as rest } from "node:timers/promises";
import { until } from "../../support/until.ts";
import type { NewEvent } from "./content.ts";
import type { History } from "./history.ts";
import type { Node, Producer } from "./producer.ts";

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Printed by whoever draws it, so that a failing run can be told again. */
export function newSeed(test: string): number {
  const seed = Math.floor(Math.random() * 2 ** 31);
  console.log(`${test}: seed ${seed}`);
  return seed;
}

const TYPES = ["order-placed", "order-paid", "order-sent"] as const;

/** Makes events with ids of its own: no two makers with different names make the same. */
export class EventMaker {
  readonly #name: string;
  #made = 0;

  constructor(name: string) {
    this.#name = name;
  }

  make(clientId: string): NewEvent {
    const n = this.#made++;
    const type = TYPES[n % TYPES.length] ?? TYPES[0];
    const occurredAt = new Date(Date.UTC(2026, 0, 1) + n * 1_001).toISOString();
    return {
      clientId,
      id: `${this.#name}-${n}`,
      type,
      occurredAt,
      data: { n, by: this.#name, é: [n / 8, null, "ü\n"] },
    };
  }
}

export interface Load {
  readonly nodes: readonly Node[];
  readonly clients: readonly string[];
  /** Requests altogether; with `during`, at least. */
  readonly requests: number;
  /** Goes on until this has settled too. */
  readonly during?: Promise<unknown>;
  /** Each producer rests so long between two requests: what is under test shall work, not be drowned. Default 0. */
  readonly pauseMs?: number;
  /** Producers at once; each sends its next request when the last one is acknowledged. */
  readonly producers?: number;
  /** Most events of one request. */
  readonly eventsMax?: number;
  readonly seed: number;
  readonly name?: string;
  /** Share of requests that are sent a second time although acknowledged. Default 0.05. */
  readonly resends?: number;
  /** Share of requests that are sent as lines. Default 0.2. */
  readonly streams?: number;
  /** Called by a producer after each acknowledged request; what it awaits, the producer waits for. */
  readonly afterEach?: (events: readonly NewEvent[], cursors: readonly string[]) => Promise<unknown>;
}

/**
 * Sends all of it, each request again with the same ids until it is acknowledged, also while everything dies around it.
 * A request holds events of one client, as an object, an array or lines.
 */
export async function produce(producer: Producer, load: Load): Promise<void> {
  const { nodes, clients, producers = 4, eventsMax = 4, resends = 0.05, streams = 0.2, name = "p" } = load;
  let left = load.requests;
  let goesOn = load.during !== undefined;
  const stop = (): void => {
    goesOn = false;
  };
  load.during?.then(stop, stop);
  const work = async (worker: number): Promise<void> => {
    const random = seeded(load.seed + worker);
    const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
    // In turn from a random one: a node that is down does not hold the producer up.
    const turn = (): Node[] => {
      const from = Math.floor(random() * nodes.length);
      return [...nodes.slice(from), ...nodes.slice(0, from)];
    };
    const maker = new EventMaker(`${name}${worker}`);
    while (left-- > 0 || goesOn) {
      const clientId = pick(clients);
      const events = Array.from({ length: 1 + Math.floor(random() * eventsMax) }, () => maker.make(clientId));
      const form = random() < streams ? "lines" : "json";
      const { cursors } = await producer.deliver(turn(), events, undefined, form);
      if (random() < resends) await producer.deliver(turn(), events);
      await load.afterEach?.(events, cursors);
      if (load.pauseMs) await rest(load.pauseMs);
    }
  };
  await Promise.all(Array.from({ length: producers }, (_, worker) => work(worker)));
}

/** Resolves once `more` attempts beyond those at the call were acknowledged: traffic flows at this moment. */
export async function acknowledges(history: History, more: number, limitMs = 60_000): Promise<void> {
  const before = history.acknowledgements;
  await until(`${more} more acknowledgements`, () => history.acknowledgements >= before + more, { limitMs });
}
