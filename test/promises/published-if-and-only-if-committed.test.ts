/**
 * An emitted row becomes one event exactly if its transaction commits, and a client's events are in the order of its commits.
 * Attack: writers of several clients at once, with rollbacks, savepoints, long transactions, direct INSERT and COPY, against two
 * relays; kill -9 of relays, broker and database, a relay frozen and woken after another took over, Kafka away.
 */
import { expect, test } from "vitest";
import { proxiedPostgres, type TcpProxy } from "../../infra/proxy.ts";
import { installInto } from "../support/buffer.ts";
import { type Database, privatePostgres, queryOnce } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { BufferWriters, booked } from "./support/buffer-writers.ts";
import { proxiedKafka } from "./support/faults.ts";
import { type Role, type Spillway, startSpillway } from "./support/spillway.ts";
import { newSeed, seeded } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d", "e", "f", "g", "h"];
const LIMITS = { limitMs: 90_000 };

const recorded = async (app: Pick<Database, "query">): Promise<number> =>
  (await app.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.event_buffer WHERE recorded IS NOT NULL"))[0]
    ?.n ?? 0;

/** Resolves once so many more rows are on the log. */
async function flows(app: Pick<Database, "query">, more: number): Promise<void> {
  const before = await until("the database answers", async () => ({ n: await recorded(app) }), LIMITS);
  await until(`${more} more rows are recorded`, async () => (await recorded(app)) >= before.n + more, LIMITS);
}

/** The relay that works now, and the other one. */
async function working(relays: readonly [Role, Role]): Promise<readonly [Role, Role]> {
  const [one, other] = relays;
  const standsBy = ({ app }: Role): boolean =>
    (app.lines.findLast((line) => /"relay (works|stands by)/.test(line)) ?? "").includes("stands by");
  return until(
    "one works and one stands by",
    () => {
      if (standsBy(one) === standsBy(other)) return null;
      return standsBy(one) ? ([other, one] as const) : ([one, other] as const);
    },
    LIMITS,
  );
}

/** What a reader is shown of each client, from the beginning. */
async function shown(spillway: Spillway): Promise<Map<string, string[]>> {
  const all = new Map<string, string[]>();
  for (const clientId of CLIENTS) {
    const { pages } = await spillway.reader.walk(spillway.query, { clientId, limit: 1_000 });
    all.set(
      clientId,
      pages.flatMap(({ events }) => events.map(({ id }) => id)),
    );
  }
  return all;
}

test("exactly the committed rows become events, once each, in the order of commits, whatever dies", async () => {
  const seed = newSeed("published");
  const random = seeded(seed);
  await using kafka = await proxiedKafka();
  await using postgres = await privatePostgres({ max_connections: "40" });
  await installInto(postgres.url);
  await using spillway = await startSpillway({ brokers: kafka.kafka.brokers, sinks: 1, queries: 1 });
  const app = { query: <Row>(text: string) => queryOnce<Row>(postgres.url, text) };
  const ways = [await proxiedPostgres(postgres.url), await proxiedPostgres(postgres.url)] as const;
  const relays = [
    await spillway.start("relay", { DATABASE_URL: ways[0].url }),
    await spillway.start("relay", { DATABASE_URL: ways[1].url }),
  ] as const;
  const wayOf = (relay: Role): TcpProxy => ways[relay === relays[0] ? 0 : 1].proxy;
  const writers = await BufferWriters.start(postgres.url, CLIENTS, 6, seed);
  const faults: Readonly<Record<string, () => Promise<void>>> = {
    "the relay that works is killed": async () => {
      const [victim] = await working(relays);
      await victim.kill();
      await flows(app, 50);
      await victim.start();
    },
    "the relay that works is frozen, replaced, and woken": async () => {
      const [victim] = await working(relays);
      victim.app.freeze();
      await flows(app, 50);
      victim.app.thaw();
    },
    "the relay that works is cut off from the database while its append is under way, and replaced": async () => {
      const [victim] = await working(relays);
      kafka.proxy.mode = "hold";
      await writers.commits(20);
      wayOf(victim).mode = "refuse";
      await writers.commits(20);
      kafka.proxy.mode = "pass";
      await flows(app, 50);
      wayOf(victim).mode = "pass";
    },
    "the broker is killed": async () => {
      await kafka.kafka.kill();
      await writers.commits(50);
      await kafka.kafka.start();
    },
    "answers of the log are lost": async () => {
      kafka.proxy.mode = "swallowReplies";
      await writers.commits(50);
      kafka.proxy.mode = "pass";
    },
    "the database is killed": async () => {
      await postgres.kill();
      await postgres.start();
    },
    "answers of the database are lost": async () => {
      for (const { proxy } of ways) proxy.mode = "swallowReplies";
      await writers.commits(50);
      for (const { proxy } of ways) proxy.mode = "pass";
    },
  };
  await flows(app, 50);
  const order = [...Object.keys(faults), ...Object.keys(faults)].sort(() => random() - 0.5);
  for (const name of order) {
    console.log(name);
    await faults[name]?.();
    await flows(app, 50);
  }
  await writers.stop();
  await until(
    "nothing waits",
    async () =>
      (await app.query<{ waiting: string }>("SELECT waiting FROM spillway.backlog_total"))[0]?.waiting === "0",
    LIMITS,
  );
  await spillway.saved(90_000);
  const wanted = await booked(app);
  const events = await shown(spillway);
  console.log({ ...writers.outcomes, events: [...events.values()].flat().length, tried: writers.tried.size });
  expect(events).toEqual(wanted);
  for (const { proxy } of ways) await proxy.close();
  const aside = await app.query("SELECT position FROM spillway.event_buffer WHERE set_aside IS NOT NULL");
  expect(aside).toEqual([]);
  // Enough happened for that to mean something.
  expect(writers.outcomes.commits).toBeGreaterThan(500);
  expect(writers.outcomes.rollbacks).toBeGreaterThan(50);
  expect(writers.outcomes.savepointRollbacks).toBeGreaterThan(50);
  expect(writers.outcomes.unknown).toBeGreaterThan(0);
  expect(writers.tried.size).toBeGreaterThan([...events.values()].flat().length);
}, 600_000);
