/**
 * Any process may die or freeze at any moment: nothing acknowledged is lost, repeated or reordered, and service returns.
 * Attack: kill -9 of every role, the broker and the database in random order under traffic; restarts in turn; a stop while
 * both servers are dead; a sink that is frozen, replaced, and woken again with a write on its way or in the middle of COPY.
 */
import { describe, test } from "vitest";
import { proxiedPostgres } from "../../infra/proxy.ts";
import { privateKafka } from "../support/kafka.ts";
import { type Database, freshDatabase, privatePostgres, queryOnce } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { check, shortened, tooSeldom } from "./support/checker.ts";
import type { NewEvent } from "./support/content.ts";
import { exemptCopies, type Outage } from "./support/exemption.ts";
import { Follower } from "./support/follower.ts";
import { now } from "./support/history.ts";
import type { Wanted } from "./support/reader.ts";
import { type Role, type Spillway, startSpillway } from "./support/spillway.ts";
import { acknowledges, newSeed, produce, seeded } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d", "e"];

interface Traffic {
  /** Lets so many more events be acknowledged, without waiting for them: what is killed now is killed under traffic. */
  more(events: number): void;
  /** Resolves once so many more are acknowledged. */
  flows(events: number): Promise<void>;
  /** Resolves when everything is settled. */
  stop(): Promise<void>;
}

/** Producers that read what they wrote, as many events as are asked for, and followers that come back. */
function traffic(spillway: Spillway, seed: number): Traffic {
  const done = new AbortController();
  const { history } = spillway;
  let goal = 0;
  const random = seeded(seed);
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const producing = (async () => {
    for (let round = 0; !done.signal.aborted; round++) {
      await until("more to do", () => done.signal.aborted || history.acknowledgements < goal, { limitMs: 120_000 });
      await produce(spillway.producer, {
        nodes: spillway.ingests,
        clients: CLIENTS,
        requests: 9,
        producers: 3,
        seed: seed + round,
        name: `round${round}-`,
        afterEach: async ([event], cursors) => {
          const clientId = event?.clientId ?? "";
          // Whatever it answers is written down; a node may be dead just now.
          const how: Partial<Wanted> =
            random() < 0.5 ? { order: pick(["asc", "desc"]) } : { atLeast: cursors.at(-1) ?? "" };
          await spillway.reader.page(pick(spillway.queries), { clientId, limit: 20, timeoutMs: 1_000, ...how });
        },
      });
    }
  })();
  const followers = CLIENTS.slice(0, 3).map((clientId) => new Follower({ clientId, after: "0" }));
  const following = followers.map(async (follower) => {
    for (;;) {
      await follower.reconnect(spillway.queries, 60_000);
      await until("an end", () => done.signal.aborted || !follower.open, { limitMs: 120_000 });
      if (done.signal.aborted) return;
    }
  });
  for (const one of [producing, ...following]) one.catch(() => undefined);
  const more = (events: number): void => {
    goal = Math.max(goal, history.acknowledgements + events);
  };
  return {
    more,
    flows: async (events) => {
      more(events);
      await acknowledges(history, events);
    },
    stop: async () => {
      done.abort();
      await Promise.all([producing, ...following]);
      for (const follower of followers) {
        await follower.reconnect(spillway.queries);
        await follower.caughtUp(60_000);
        follower.finish(spillway.history);
      }
    },
  };
}

/** Once the node has found its database again, or is dead. */
const knowsItsStore = (node: Role): Promise<unknown> =>
  until(`${node.name} has found its database`, async () => {
    if (node.app.ended !== undefined) return true;
    return !(await (await fetch(`${node.url}/readyz`)).text()).includes("store:");
  });

const shuffled = <T>(all: readonly T[], random: () => number): T[] =>
  all
    .map((one) => ({ one, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ one }) => one);

describe.concurrent("at once", () => {
  test("every role, the broker and the database, in random order", { timeout: 180_000 }, async ({ expect }) => {
    const seed = newSeed("kill anything");
    await using kafka = await privateKafka();
    await using postgres = await privatePostgres();
    const servers = { brokers: kafka.brokers, databaseUrl: postgres.url };
    await using spillway = await startSpillway({ ...servers, ingests: 2, sinks: 2, queries: 2 });
    const { roles, history } = spillway;
    const running = traffic(spillway, seed);
    await running.flows(30);

    const outages: Outage[] = [];
    for (const victim of shuffled([...roles, postgres, postgres, kafka], seeded(seed))) {
      const from = now();
      running.more(60);
      await victim.kill();
      if (victim !== kafka) await running.flows(20);
      if ("launch" in victim) await victim.launch();
      else await victim.start();
      if (victim === postgres) await Promise.all(spillway.queries.map((node) => knowsItsStore(node)));
      await running.flows(20);
      if (victim === postgres) outages.push({ from, to: now() });
    }
    // Service returns, and nobody died of another's death.
    for (const { app } of roles) await app.ready();
    await running.flows(50);
    expect(roles.map(({ app }) => app.ended)).toEqual(roles.map(() => undefined));

    // One after the other, under the same traffic: each ends well and comes back.
    for (const half of [0, 1]) {
      running.more(200);
      await Promise.all(
        [spillway.ingests, spillway.queries, spillway.sinks].map(async (both) => {
          const role = both[half] as Role;
          expect(await role.app.stop(), role.name).toBe(0);
          await role.start();
        }),
      );
    }
    await running.flows(50);
    await running.stop();
    await spillway.saved();
    const truth = await spillway.truth();
    exemptCopies(history, truth, outages);
    const { violations, counts } = check(history, truth);
    const least = {
      okIds: 300,
      resentIds: 10,
      pages: 100,
      savedShown: 50,
      unsavedShown: 50,
      resumes: 3,
      liveEvents: 100,
    };
    expect([...shortened(violations), ...tooSeldom(counts, least)]).toEqual([]);

    // With nothing left to wait for, a stop does not wait.
    await Promise.all([kafka.kill(), postgres.kill()]);
    const codes = await Promise.all(roles.map(({ app }) => app.stop()));
    expect(codes).toEqual(roles.map(() => 0));
  });

  test("a sink frozen with a write on its way writes nothing when it wakes", { timeout: 120_000 }, async ({
    expect,
  }) => {
    await using store = await auditedStore();
    await using spillway = await startSpillway({ ingests: 1, queries: 1, databaseUrl: store.database.url });
    await store.watch();
    const { proxy, url } = await proxiedPostgres(store.urlOf("early"));
    await using _proxy = proxy;
    const early = await spillway.start("sink", { DATABASE_URL: url });
    await append(spillway, 200);
    await spillway.saved();

    // Its transaction has begun to leave for the database, and is held on the way.
    proxy.mode = "hold";
    await append(spillway, 100);
    await until("a write on its way", () => proxy.counts.held > 0);
    early.app.freeze();
    const before = await store.writes();
    expect(before.map(({ who }) => who)).toContain(store.role("early"));
    await spillway.start("sink", { DATABASE_URL: store.urlOf("late") });
    await spillway.saved();
    const taken = await store.writes();
    expect(new Set(taken.slice(before.length).map(({ who }) => who))).toEqual(new Set([store.role("late")]));
    const rows = await store.dump();

    proxy.mode = "pass";
    early.app.thaw();
    // The fence bit: the late write did arrive, and found the checkpoint elsewhere.
    await early.app.line("checkpoint stands elsewhere");
    await until("the woken sink has its place in the group again", () => assignmentsOf(early) > 1, { limitMs: 60_000 });
    expect(await store.writes()).toEqual(taken);
    expect(await store.dump()).toBe(rows);
    await goesOn(spillway);
  });

  test("a sink frozen in the middle of COPY is ended, and writes nothing when it wakes", { timeout: 120_000 }, async ({
    expect,
  }) => {
    await using store = await auditedStore();
    await using spillway = await startSpillway({ ingests: 1, queries: 1, databaseUrl: store.database.url });
    await store.watch();
    const { proxy, url } = await proxiedPostgres(store.urlOf("early"));
    await using _proxy = proxy;
    const early = await spillway.start("sink", { DATABASE_URL: url });
    await append(spillway, 100);
    await spillway.saved();

    // While its first batch is held, records gather for more. Then the way is so narrow that a COPY takes a while, and closed
    // in the middle of one: the server waits for the rest from a sink that is frozen.
    proxy.mode = "hold";
    await append(spillway, 2_000, 5_000);
    await until("a write on its way", () => proxy.counts.held > 0);
    proxy.rateBytes = 200_000;
    proxy.mode = "pass";
    const copying = (): Promise<boolean> => store.isCopying("early");
    await until("the sink is copying", copying);
    proxy.mode = "hold";
    early.app.freeze();
    expect(await copying()).toBe(true);
    const before = await store.writes();

    const late = await spillway.start("sink", { DATABASE_URL: store.urlOf("late") });
    await late.app.line("store did not take a batch");
    expect(await copying()).toBe(true);
    await late.app.line("backends of a frozen sink ended");
    await spillway.saved();
    const taken = await store.writes();
    expect(new Set(taken.slice(before.length).map(({ who }) => who))).toEqual(new Set([store.role("late")]));
    const rows = await store.dump();

    proxy.rateBytes = 0;
    proxy.mode = "pass";
    early.app.thaw();
    await until("the woken sink has its place in the group again", () => assignmentsOf(early) > 1, { limitMs: 60_000 });
    expect(await store.writes()).toEqual(taken);
    expect(await store.dump()).toBe(rows);
    await goesOn(spillway);
  });
});

const assignmentsOf = ({ app }: Role): number =>
  app.lines.filter((line) => line.includes("partitions assigned")).length;

let made = 0;

/** Events of all clients, in arrays of less than 4 MiB. */
async function append(spillway: Spillway, count: number, textLength = 20): Promise<void> {
  for (let left = count; left > 0; left -= 500) {
    const events = Array.from({ length: Math.min(left, 500) }, (): NewEvent => {
      const n = made++;
      const clientId = CLIENTS[n % CLIENTS.length] ?? "";
      const occurredAt = new Date(1_700_000_000_000 + n).toISOString();
      return { clientId, id: `e${n}`, type: "t", occurredAt, data: "x".repeat(textLength) };
    });
    await spillway.producer.deliver(spillway.ingest, events);
  }
}

/** Both sinks have partitions again, and what they do is right. */
async function goesOn(spillway: Spillway): Promise<void> {
  await append(spillway, 200);
  await spillway.saved();
  const follower = new Follower({ clientId: "a", after: "0" });
  await follower.connect(spillway.query);
  await follower.caughtUp();
  follower.finish(spillway.history);
  await spillway.check({ okIds: 300, rows: 300, liveEvents: 50 });
}

interface Write {
  readonly who: string;
  readonly partition: number;
  readonly before: string;
  readonly after: string;
}

interface AuditedStore extends AsyncDisposable {
  readonly database: Database;
  /** The name of the role in the database; neither is a superuser, and `late` has the rights of `early`, as one role would. */
  role(which: "early" | "late"): string;
  urlOf(which: "early" | "late"): string;
  /** Once the tables are there: lets the roles use them, and writes down who moves which checkpoint. */
  watch(): Promise<void>;
  /** Every committed move of a checkpoint, in order. */
  writes(): Promise<Write[]>;
  /** All rows and checkpoints, as one text. */
  dump(): Promise<string>;
  /** Whether a backend of this role is in the middle of COPY, waiting for its client. */
  isCopying(which: "early" | "late"): Promise<boolean>;
}

async function auditedStore(): Promise<AuditedStore> {
  const database = await freshDatabase();
  const suffix = new URL(database.url).pathname.slice(1);
  const role = (which: "early" | "late"): string => `${which}_${suffix}`;
  const [early, late] = [role("early"), role("late")];
  await database.query(`CREATE ROLE ${early} LOGIN; CREATE ROLE ${late} LOGIN IN ROLE ${early}`);
  return {
    database,
    role,
    urlOf: (which) => {
      const url = new URL(database.url);
      url.username = role(which);
      return url.href;
    },
    watch: async () => {
      await until("the tables are there", async () => {
        const [found] = await database.query<{ there: boolean }>(
          "SELECT to_regclass('spillway.dead_letter') IS NOT NULL AS there",
        );
        return found?.there;
      });
      await database.query(`
        GRANT USAGE ON SCHEMA spillway TO ${early};
        GRANT ALL ON ALL TABLES IN SCHEMA spillway TO ${early};
        CREATE TABLE public.audit (n bigserial, who text, partition int, before bigint, after bigint);
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
          INSERT INTO public.audit (who, partition, before, after)
          VALUES (session_user, NEW.partition, OLD.next_offset, NEW.next_offset);
          RETURN NULL;
        END $$;
        CREATE TRIGGER note AFTER UPDATE ON spillway.checkpoint FOR EACH ROW EXECUTE FUNCTION public.note()`);
    },
    writes: () =>
      database.query<Write>("SELECT who, partition, before::text, after::text FROM public.audit ORDER BY n"),
    dump: async () => {
      const [found] = await database.query<{ text: string }>(`
        SELECT (SELECT string_agg(e::text, E'\\n' ORDER BY client_id, "offset") FROM spillway.event e) ||
               (SELECT string_agg(c::text, E'\\n' ORDER BY partition) FROM spillway.checkpoint c) AS text`);
      return found?.text ?? "";
    },
    isCopying: async (which) => {
      const found = await database.query(
        `SELECT FROM pg_stat_activity
          WHERE usename = $1 AND state = 'active' AND query LIKE 'COPY%' AND wait_event = 'ClientRead'`,
        [role(which)],
      );
      return found.length > 0;
    },
    [Symbol.asyncDispose]: async () => {
      const server = new URL(database.url);
      server.pathname = "/postgres";
      await database.drop();
      await queryOnce(server.href, `DROP ROLE ${late}, ${early}`);
    },
  };
}
