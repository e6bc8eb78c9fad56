/**
 * Sinks share the work: any number of them save one log together, each its fair part on one connection, and sinks that
 * die and come cost nobody an event.
 * Attack: 2, 4 and 8 started together on one backlog, with every session counted; one is killed and another one comes while
 * events arrive.
 */
import pg from "pg";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { clientOf } from "../support/records.ts";
import { until } from "../support/until.ts";
import type { NewEvent } from "./support/content.ts";
import { holdTransaction } from "./support/faults.ts";
import { type Role, type Spillway, startSpillway } from "./support/spillway.ts";
import { readCheckpoints } from "./support/truth.ts";
import { acknowledges, newSeed, produce } from "./support/workload.ts";

const PARTITIONS = 16;
/** One a partition, so that each has the same backlog. */
const CLIENTS = Array.from({ length: PARTITIONS }, (_, partition) => clientOf(partition, PARTITIONS));
const REQUEST_EVENTS = 500;
/**
 * Of one backlog. What the last batches took decides how large the next ones are and how long is rested, so for a second or
 * two one sink may be twice as fast as another, the one or the other: a race lasts about ten seconds or more.
 */
const EVENTS = 64_000;
/** Of each sink, before it is measured: it feels its way, in batches of 200. */
const EVENTS_LEARNED = 1_000;
/** Of a sink's part: while all have less behind them, all have a backlog before them. */
const MEASURED_SHARE = 0.9;
const NAME = "spillway-sink-";

/** Looks at the sinks' sessions again and again; each sink is known by the name that its DATABASE_URL gives it. */
class Sampler {
  readonly most = new Map<string, number>();
  samples = 0;
  readonly #client: pg.Client;
  readonly #done = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #before = new Map<number, string>();

  constructor(url: string) {
    this.#client = new pg.Client({ connectionString: url });
  }

  async start(): Promise<void> {
    await this.#client.connect();
    this.#running = this.#run();
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#done.abort();
    try {
      await this.#running;
    } finally {
      await this.#client.end();
    }
  }

  async #run(): Promise<void> {
    while (!this.#done.signal.aborted) {
      const { rows } = await this.#client.query<{ name: string; pid: number }>(
        "SELECT application_name AS name, pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
      );
      this.samples++;
      const now = new Map(rows.filter(({ name }) => name.startsWith("spillway")).map(({ pid, name }) => [pid, name]));
      const count = new Map<string, number>();
      // A backend that was told to end lives on for a moment beside the one that replaces it: two looks must agree.
      for (const [pid, name] of now) if (this.#before.get(pid) === name) count.set(name, (count.get(name) ?? 0) + 1);
      for (const [name, sessions] of count) this.most.set(name, Math.max(this.most.get(name) ?? 0, sessions));
      this.#before = now;
    }
  }
}

let spillway: Spillway;
let sampler: Sampler;
const seed = newSeed("sinks");
let made = 0;

beforeAll(async () => {
  // Nobody is to lose its place because the machine is busy; who is killed in the end has a shorter session.
  const env = { SPILLWAY_PARTITIONS: String(PARTITIONS), SPILLWAY_SESSION_TIMEOUT_MS: "30000" };
  spillway = await startSpillway({ ingests: 1, env });
  // The first sink makes the tables.
  const [first] = (await launchSinks(1)) as [Role];
  await first.app.ready();
  expect(await first.app.stop()).toBe(0);
  sampler = new Sampler(spillway.database.url);
  await sampler.start();
});

afterAll(async () => {
  await sampler.stop().catch(() => undefined);
  await spillway[Symbol.asyncDispose]();
});

afterEach(async () => {
  // What a failed test left behind must not share the next one's partitions.
  await Promise.all(spillway.sinks.map((sink) => sink.kill()));
  const [found] = await spillway.database.query<{ dead: number }>(
    "SELECT count(*)::int AS dead FROM spillway.dead_letter",
  );
  expect(found).toEqual({ dead: 0 });
});

/** Sinks whose sessions bear their names; launched at once, ready or not is the caller's to wait for. */
async function launchSinks(count: number, env: Readonly<Record<string, string>> = {}): Promise<Role[]> {
  const sinks: Role[] = [];
  for (let n = 0; n < count; n++) {
    const url = new URL(spillway.database.url);
    url.searchParams.set("application_name", `${NAME}${spillway.sinks.length + 1}`);
    sinks.push(await spillway.add("sink", { DATABASE_URL: url.href, ...env }));
  }
  await Promise.all(sinks.map((sink) => sink.launch()));
  return sinks;
}

/** As many events in every partition. */
async function backlog(events: number): Promise<void> {
  const queue = Array.from({ length: events }, (_, n): NewEvent => {
    const clientId = CLIENTS[n % PARTITIONS] ?? "";
    return { clientId, id: `e${made++}`, type: "t", occurredAt: "2026-01-01T00:00:00.000Z", data: { n, of: clientId } };
  });
  const requests = Array.from({ length: queue.length / REQUEST_EVENTS }, (_, n) =>
    queue.slice(n * REQUEST_EVENTS, (n + 1) * REQUEST_EVENTS),
  );
  const send = async (): Promise<void> => {
    for (let events = requests.pop(); events; events = requests.pop())
      await spillway.producer.deliver(spillway.ingest, events);
  };
  await Promise.all([send(), send()]);
}

/** What a living sink has now, by its own words. */
function partitionsOf({ app }: Role): number[] {
  const last = app.lines.findLast((line) => /partitions (assigned|revoked)/.test(line)) ?? "";
  const { msg, partitions = "" } = last === "" ? {} : (JSON.parse(last) as { msg?: string; partitions?: string });
  return msg === "partitions assigned" && partitions !== "" ? partitions.split(",").map(Number) : [];
}

/** Resolves once every partition has its one owner, and every sink its equal part, give or take one. */
const shared = (sinks: readonly Role[], limitMs = 60_000): Promise<unknown> =>
  until(
    "every partition has an owner",
    () => {
      const parts = sinks.map(partitionsOf);
      if (parts.some((part) => part.length === 0)) throw new Error(JSON.stringify(parts));
      const [least, most] = [Math.min, Math.max].map((of) => of(...parts.map(({ length }) => length)));
      const owned = parts.flat().sort((a, b) => a - b);
      if (owned.join() !== Array.from(CLIENTS.keys()).join()) throw new Error(JSON.stringify(parts));
      return (most ?? 0) - (least ?? 0) <= 1;
    },
    { limitMs },
  );

async function sumOf(sink: Role, metric: string): Promise<number> {
  const text = await (await fetch(`${sink.url}/metrics`)).text();
  const values = [...text.matchAll(new RegExp(`^${metric}(?:\\{[^}]*\\})? (\\S+)$`, "gm"))];
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}

/** Everything that is behind the sinks' checkpoints, by sink. */
async function done(sinks: readonly Role[], before: ReadonlyMap<number, bigint>): Promise<number[]> {
  const checkpoints = await readCheckpoints(spillway.database);
  return sinks.map((sink) =>
    partitionsOf(sink).reduce((sum, one) => sum + Number((checkpoints.get(one) ?? 0n) - (before.get(one) ?? 0n)), 0),
  );
}

/** Makes a row cost the database about 0.5 ms of a processor: the sinks compete for it, and for many batches. */
async function slowDatabase(): Promise<AsyncDisposable> {
  const { database } = spillway;
  await database.query(`CREATE OR REPLACE FUNCTION public.labour() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN FOR i IN 1..25000 LOOP END LOOP; RETURN NEW; END $$`);
  await database.query(
    "CREATE TRIGGER labour BEFORE INSERT ON spillway.event FOR EACH ROW EXECUTE FUNCTION public.labour()",
  );
  return { [Symbol.asyncDispose]: async () => void (await database.query("DROP TRIGGER labour ON spillway.event")) };
}

/** Rows saved by each from when all had learned what a row costs until the fastest had nearly done: all that time all had a backlog. */
async function race(sinks: readonly Role[], before: ReadonlyMap<number, bigint>): Promise<number[]> {
  const eventsEach = EVENTS / sinks.length;
  let [first, last]: number[][] = [];
  await until(
    "the fastest has saved nearly all of its part",
    async () => {
      const now = await done(sinks, before);
      if (Math.min(...now) >= EVENTS_LEARNED) first ??= now;
      if (Math.max(...now) > MEASURED_SHARE * eventsEach) return true;
      last = now;
      return false;
    },
    { limitMs: 90_000 },
  );
  return sinks.map((_, n) => (last?.[n] ?? 0) - (first?.[n] ?? 0));
}

test.each([2, 4, 8])("%i sinks started together save a backlog at the same pace", async (count) => {
  await backlog(EVENTS);
  await using _slow = await slowDatabase();
  const before = await readCheckpoints(spillway.database);
  let sinks: Role[] = [];
  {
    // No row gets in before all are there.
    await using _lock = await holdTransaction(spillway.database.url, "LOCK TABLE spillway.event IN SHARE MODE");
    sinks = await launchSinks(count);
    await shared(sinks);
    expect(await done(sinks, before)).toEqual(sinks.map(() => 0));
  }
  const rows = await race(sinks, before);
  await spillway.saved(90_000);
  const sum = rows.reduce((total, one) => total + one, 0);
  const jain = sum ** 2 / (count * rows.reduce((total, one) => total + one ** 2, 0));
  console.log(`${count} sinks: rows ${rows.join(", ")}, Jain's index ${jain.toFixed(3)}`);
  expect(sum).toBeGreaterThan(0.4 * EVENTS);
  expect(jain).toBeGreaterThanOrEqual(0.9);
  // Of eight, one that starves hardly shows in the index.
  expect(Math.min(...rows)).toBeGreaterThan((0.4 * sum) / count);
  // Each saved its own part and nothing else.
  expect(await Promise.all(sinks.map((sink) => sumOf(sink, "spillway_sink_saved_rows_total")))).toEqual(
    sinks.map(() => EVENTS / count),
  );
  expect(await Promise.all(sinks.map(({ app }) => app.stop()))).toEqual(sinks.map(() => 0));
});

test("a sink that is killed and one that comes, under traffic, cost nothing", async () => {
  const session = { SPILLWAY_SESSION_TIMEOUT_MS: "6000" };
  const sinks = await launchSinks(4, session);
  await shared(sinks);
  const over = Promise.withResolvers<void>();
  const traffic = produce(spillway.producer, {
    nodes: [spillway.ingest],
    clients: CLIENTS,
    requests: 200,
    during: over.promise,
    eventsMax: 20,
    pauseMs: 5,
    seed,
  });
  traffic.catch(() => undefined);
  const [victim, ...left] = sinks as [Role, ...Role[]];
  await acknowledges(spillway.history, 500);
  await until("the victim saves", async () => (await sumOf(victim, "spillway_sink_saved_rows_total")) > 0);
  await victim.kill();
  const [newcomer] = (await launchSinks(1, session)) as [Role];
  const living = [...left, newcomer];
  await shared(living);
  await until("the newcomer saves", async () => (await sumOf(newcomer, "spillway_sink_saved_rows_total")) > 100);
  await acknowledges(spillway.history, 500);
  over.resolve();
  await traffic;
  await spillway.saved();
  expect(living.map(({ app }) => app.ended)).toEqual(living.map(() => undefined));
  const failed = living.flatMap(({ name, app }) =>
    app.lines.filter((line) => line.includes("store did not take a batch")).map((line) => `${name}: ${line}`),
  );
  expect(failed).toEqual([]);
  for (const sink of living) expect(await sumOf(sink, "spillway_sink_store_errors_total"), sink.name).toBe(0);
});

test("and never had a sink a second connection, nor was an event lost, repeated or out of order", async () => {
  await sampler.stop();
  expect(sampler.samples).toBeGreaterThan(300);
  // Of the first one nothing was looked at.
  const names = spillway.sinks.slice(1).map((_, n) => `${NAME}${n + 2}`);
  expect(Object.fromEntries(sampler.most)).toEqual(Object.fromEntries(names.map((name) => [name, 1])));
  const okIds = 3 * EVENTS + 1_000;
  await spillway.check({ okIds, rows: okIds, copies: 5 });
});
