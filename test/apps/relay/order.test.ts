import { expect, test } from "vitest";
import type { Event } from "#lib/event.ts";
import { createMetrics } from "#lib/metrics.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import type { Aside, Row } from "../../../apps/relay/buffer.ts";
import { Relay } from "../../../apps/relay/relay.ts";
import { seeded } from "../../promises/support/workload.ts";
import { type FakeClock, fakeClock } from "../../support/fake-clock.ts";
import { silentLog } from "../../support/records.ts";

const CLIENTS = ["a", "b", "c", "d"];
const ROWS_MAX = 120;
/** What one send carries, so that a page takes several. */
const SEND_EVENTS = 3;
/** The log refuses these. */
const TOO_LARGE = "too large";

interface Kept {
  readonly row: Row;
  readonly visibleAtMs: number;
  state: "waits" | "recorded" | "aside";
}

/** Database and log as the relays see them: they may be slow, fail, take what they seem to have refused, and lose answers. */
class World {
  readonly clock: FakeClock = fakeClock();
  readonly rows: Kept[] = [];
  readonly appended: Pick<Event, "clientId" | "id">[] = [];
  readonly #random: () => number;
  #lease = { holder: "", untilMs: Number.NEGATIVE_INFINITY };
  faults = true;

  constructor(seed: number) {
    this.#random = seeded(seed);
    this.#write();
  }

  /** Transactions of one to four rows; one client's become visible in the order of their positions, others' in any. */
  #write(): void {
    const lastMs = new Map<string, number>();
    let writtenMs = this.clock.elapsed();
    for (let position = 1; this.rows.length < ROWS_MAX; position++) {
      const clientId = this.#one(CLIENTS);
      writtenMs += this.#random() < 0.3 ? this.#random() * 2_000 : 0;
      // Rolled back: a position that no row ever has.
      if (this.#random() < 0.1) continue;
      const openMs = this.#random() < 0.2 ? this.#random() * 30_000 : 0;
      const visibleAtMs = Math.max(lastMs.get(clientId) ?? 0, writtenMs + openMs);
      lastMs.set(clientId, visibleAtMs);
      const chance = this.#random();
      const type = chance < 0.04 ? TOO_LARGE : "t";
      const data = chance > 0.96 ? "9007199254740993" : '{"a": 1}';
      const row: Row = { position: String(position), clientId, id: `e${position}`, type, occurredAtMs: 0, data };
      this.rows.push({ row, visibleAtMs, state: "waits" });
    }
  }

  #one<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T;
  }

  #chance(share: number): boolean {
    return this.faults && this.#random() < share;
  }

  async #takes(): Promise<void> {
    await this.clock.sleep(Math.round(this.#random() * (this.#chance(0.03) ? 20_000 : 20)));
  }

  /** A statement: done or not, answered or not. */
  async #statement<T>(work: () => T): Promise<T> {
    await this.#takes();
    if (this.#chance(0.05)) throw Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
    const result = work();
    await this.#takes();
    if (this.#chance(0.05)) throw new Error("Connection terminated unexpectedly");
    return result;
  }

  readonly #find = ({ position }: Row): Kept => this.rows.find(({ row }) => row.position === position) as Kept;

  readonly buffer = {
    lease: (holder: string, forMs: number): Promise<boolean> =>
      this.#statement(() => {
        const now = this.clock.elapsed();
        if (this.#lease.holder !== holder && this.#lease.untilMs >= now) return false;
        this.#lease = { holder, untilMs: now + forMs };
        return true;
      }),
    release: (holder: string): Promise<void> =>
      this.#statement(() => {
        if (this.#lease.holder === holder) this.#lease.untilMs = Number.NEGATIVE_INFINITY;
      }),
    page: (rowsMax: number): Promise<Row[]> =>
      this.#statement(() =>
        this.rows
          .filter(({ state, visibleAtMs }) => state === "waits" && visibleAtMs <= this.clock.elapsed())
          .slice(0, Math.min(rowsMax, 20))
          .map(({ row }) => row),
      ),
    record: (rows: readonly Row[]): Promise<void> =>
      this.#statement(() => {
        for (const row of rows) this.#find(row).state = "recorded";
      }),
    setAside: (rows: readonly Aside[]): Promise<void> =>
      this.#statement(() => {
        for (const { row } of rows) if (this.#find(row).state === "waits") this.#find(row).state = "aside";
      }),
  };

  /** As the publisher does: one send after the other; what failed may arrive all the same, long after. */
  async publish(events: readonly Event[]): Promise<void> {
    for (let at = 0; at < events.length; at += SEND_EVENTS) {
      const send = events.slice(at, at + SEND_EVENTS);
      await this.#takes();
      if (send.some(({ type }) => type === TOO_LARGE)) {
        const cause = Object.assign(new Error("too large"), { type: "MESSAGE_TOO_LARGE" });
        throw new NotAcknowledged("refused", at > 0 ? "unknown" : "no", "too large", { cause });
      }
      if (this.#chance(0.1)) {
        if (this.#random() < 0.5)
          this.clock.after(Math.round(this.#random() * 60_000), () => void this.appended.push(...send));
        throw new NotAcknowledged("log-unreachable", "unknown", "no answer");
      }
      this.appended.push(...send);
      await this.#takes();
      if (this.#chance(0.05)) throw new NotAcknowledged("log-unreachable", "unknown", "the answer was lost");
    }
  }

  /** Whether every row that was committed is where it is to stay. */
  get done(): boolean {
    return this.rows.every(({ state }) => state !== "waits");
  }
}

const alarm = { set: (): void => undefined };

/** A relay that works until it is killed: then whatever it asked for has no effect on it any more. */
function startRelay(world: World): { kill: () => void } {
  const life = { over: false };
  const isDead = (): boolean => life.over;
  const gone = new Promise<never>(() => undefined);
  const alive =
    <A extends unknown[], T>(call: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      if (isDead()) return gone;
      const settled = await call(...args).then(
        (value) => () => value,
        (error: unknown) => () => {
          throw error;
        },
      );
      return isDead() ? gone : settled();
    };
  const { lease, release, page, record, setAside } = world.buffer;
  const relay = new Relay({
    buffer: {
      lease: alive(lease),
      release: alive(release),
      page: alive(page),
      record: alive(record),
      setAside: alive(setAside),
    },
    publish: alive((events) => world.publish(events)),
    tend: () => Promise.resolve(),
    storeAlarm: alarm,
    logAlarm: alarm,
    clock: world.clock,
    log: silentLog,
    metrics: createMetrics("relay"),
  });
  void relay.run(new AbortController().signal);
  return {
    kill: () => {
      life.over = true;
    },
  };
}

/** The first copies, by client. */
function firsts(world: World): Map<string, string[]> {
  const seen = new Set<string>();
  const byClient = new Map<string, string[]>(CLIENTS.map((clientId) => [clientId, []]));
  for (const { clientId, id } of world.appended) {
    if (seen.has(id)) continue;
    seen.add(id);
    byClient.get(clientId)?.push(id);
  }
  return byClient;
}

async function play(seed: number): Promise<void> {
  const world = new World(seed);
  const random = seeded(seed + 1);
  let relays = [startRelay(world), startRelay(world)];
  for (let step = 0; step < 40; step++) {
    await world.clock.advance(Math.round(random() * 4_000));
    if (random() < 0.2) {
      relays[0]?.kill();
      relays = [...relays.slice(1), startRelay(world)];
    }
  }
  world.faults = false;
  for (let step = 0; step < 60 && !world.done; step++) await world.clock.advance(5_000);
  const wanted = (clientId: string): string[] =>
    world.rows.filter(({ row, state }) => row.clientId === clientId && state === "recorded").map(({ row }) => row.id);
  for (const { row, state } of world.rows)
    expect(state, `seed ${seed}: row ${row.position}`).toBe(
      row.type === TOO_LARGE || row.data !== '{"a": 1}' ? "aside" : "recorded",
    );
  for (const [clientId, ids] of firsts(world))
    expect(ids, `seed ${seed}: client ${clientId}`).toEqual(wanted(clientId));
  for (const relay of relays) relay.kill();
}

test("two relays, slow, killed and cut off at any point, bring every row to the log once, each client's in order", async () => {
  for (let seed = 0; seed < 100; seed++) await play(seed);
});
