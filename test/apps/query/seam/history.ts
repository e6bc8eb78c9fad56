/** One random history: what happens in each of its rounds follows from that round's number, so that fewer rounds are one too. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { PageQuery } from "../../../../apps/query/read.ts";
import { randomFrom } from "../model.ts";
import { judge, type Tally } from "./judge.ts";
import { anyQuery, meanwhile, move } from "./moves.ts";
import { type Ask, Node, type Read } from "./node.ts";
import { CLIENTS, PARTITIONS, World } from "./world.ts";

/** What an event may have; 34 of them do not fit in a page. */
const FAT = "x".repeat(250_000);
const FAT_EVENTS = 80;
const SMALL_MEMORY_BYTES = 20_000;
const WALK_PAGES_MAX = 3_000;
/** Of 100 ms each: longer than the most patient reader waits. */
const TURNS_MAX = 1_000;
/** A crowd is more than a page with filters looks at. */
const CROWD_EVENTS = 12_000;
const LARGE_WALK_PAGES = 30;

export class History {
  readonly world: World;
  readonly #tally: Tally;
  /** Many events, or large ones: what takes long is done less often. */
  readonly #large: boolean;
  readonly #ask: Ask | null;
  #node: Node;

  /** @param ask a real database, which is spared the largest histories; null: the world's */
  constructor(seed: number, tally: Tally, ask: Ask | null = null) {
    const world = new World(randomFrom(seed));
    const { random } = world;
    this.world = world;
    this.#tally = tally;
    this.#ask = ask;
    const kind = ask === null ? random.next() : 1;
    this.#large = kind < 0.02;
    if (kind < 0.01) {
      const ids = Array.from({ length: 8_000 + random.below(CROWD_EVENTS) }, (_, n) => `crowd-${n}`);
      world.appendIds(random.pick(CLIENTS), ids);
    } else if (this.#large) {
      world.ballast = () => (world.random.next() < 0.9 ? FAT : "");
      world.appendIds(
        random.pick(CLIENTS),
        Array.from({ length: FAT_EVENTS }, (_, n) => `fat-${n}`),
      );
    }
    for (let partition = 0; partition < PARTITIONS; partition++) world.append(partition, random.below(30));
    if (random.next() < 0.5) world.save(0, world.part(0).end / 2n);
    this.#node = this.#born();
  }

  /** @throws with all that happened, when a page is wrong */
  async play(rounds: readonly number[]): Promise<void> {
    try {
      for (const round of rounds) await this.#round(round);
    } catch (error) {
      const told = this.world.told.slice(-60).join("\n");
      throw new Error(`${(error as Error).message}\nwhat happened:\n${told}`, { cause: error });
    } finally {
      this.#node.kill();
      // What weak references point to is kept until the turn ends, and nothing else here ends it.
      await nextTurn();
    }
  }

  async #round(seed: number): Promise<void> {
    const { world } = this;
    world.random = randomFrom(seed);
    const dice = world.random.next();
    if (dice < 0.03) {
      this.#node.kill();
      this.#node = this.#born();
    }
    for (let moves = world.random.below(4); moves > 0; moves--) move(world, this.#node);
    if (dice < 0.15) await this.#walk();
    else if (dice < 0.3) await this.#crowd();
    else await this.#page(this.#any());
  }

  #born(): Node {
    const { world } = this;
    world.tell("a node starts");
    // The control topic's word may be old.
    const old = world.random.next() < 0.3;
    const known = world.parts.map(({ start }, partition) => (old ? start : (world.now.checkpoints[partition] ?? null)));
    // A tail of large events on a small disk would be written and read again all the time.
    const dice = this.#large ? 1 : world.random.next();
    const bytesMax = dice < 0.5 ? SMALL_MEMORY_BYTES : 1 << 30;
    const node = new Node(world, { bytesMax, withDisk: dice < 0.4, known, ask: this.#ask });
    node.meanwhile = () => meanwhile(world, node);
    return node;
  }

  #any(): [string, PageQuery] {
    const clientId = this.world.random.pick(CLIENTS);
    return [clientId, anyQuery(this.world, clientId)];
  }

  async #page([clientId, query]: [string, PageQuery]): Promise<Read> {
    const { world } = this;
    const node = this.#node;
    const read = await answered(world, node, node.read(clientId, query));
    judge(world, read, this.#tally);
    return read;
  }

  /** Some at once, of which some ask the same. */
  async #crowd(): Promise<void> {
    const { world } = this;
    const same = this.#any();
    const ask = async (): Promise<void> => {
      const [asked, hops] = [world.random.next() < 0.5 ? same : this.#any(), world.random.below(20)];
      for (let hop = 0; hop < hops; hop++) await Promise.resolve();
      if (world.random.next() < 0.5) move(world, this.#node);
      await this.#page(asked);
    };
    await Promise.all(Array.from({ length: 2 + world.random.below(4) }, ask));
  }

  /** Page after page to the end; since each is right from where the last one ended, so are all of them together. */
  async #walk(): Promise<void> {
    const { world } = this;
    const [clientId, any] = this.#any();
    let query: PageQuery = { ...any, atLeast: null, timeoutMs: 25_000 };
    let last: Read | null = null;
    for (let pages = 0; pages < WALK_PAGES_MAX; pages++) {
      last = await this.#page([clientId, query]);
      const { page } = last;
      if (page !== null && !page.hasMore) {
        this.#tally.walks++;
        return;
      }
      if (this.#large && pages >= LARGE_WALK_PAGES) return;
      if (page !== null) query = { ...query, [query.order === "asc" ? "after" : "before"]: page.next };
      else this.#node.mend();
      if (world.random.next() < 0.3) move(world, this.#node);
    }
    throw new Error(`a walk does not end: ${last?.problem?.message ?? "always a page more"}`);
  }
}

/** Goes on until this read has its answer: others, the log and time move meanwhile. */
async function answered(world: World, node: Node, read: Promise<Read>): Promise<Read> {
  let done = false;
  const end = (): void => {
    done = true;
  };
  read.then(end, end);
  const isDone = (): boolean => done;
  for (let turn = 0; !isDone(); turn++) {
    while (node.asking) await nextTurn();
    for (let hop = 0; hop < 12 && !isDone(); hop++) await Promise.resolve();
    if (turn % 8 === 7) move(world, node);
    else if (turn % 2 === 1) node.answerFetch(turn > 20);
    // Whoever waits for time alone shall not wait for long.
    if (turn > 40) node.clock.advance(100);
    if (turn > TURNS_MAX) throw new Error("a read has no answer, long after its deadline");
  }
  return read;
}
