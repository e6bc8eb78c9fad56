/**
 * With Postgres away, ingest accepts and unsaved and live views serve; later everything is saved unattended.
 * Attack: the server killed, frozen, silent behind its network, its tables locked, its sessions ended in storms, its
 * connections used up, and its checkpoint set back, one after the other under one running Spillway.
 */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { proxiedPostgres, type TcpProxy } from "../../infra/proxy.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { privatePostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { check, shortened, tooSeldom } from "./support/checker.ts";
import { exemptCopies, type Outage } from "./support/exemption.ts";
import { holdTransaction } from "./support/faults.ts";
import { Follower } from "./support/follower.ts";
import { now } from "./support/history.ts";
import { type Spillway, startSpillway } from "./support/spillway.ts";
import { endSessions, freezeFamily, setBack, takeAllConnections } from "./support/store-faults.ts";
import { EventMaker, newSeed, produce } from "./support/workload.ts";

const CONNECTIONS_MAX = 20;
const CLIENTS = ["a", "b", "c", "d", "e"];
/** What a client asks for while it writes; and one that nobody writes to after the first save. */
const RESTING = "resting";

describe("one Spillway, one fault after the other", () => {
  let postgres: PostgresServer & AsyncDisposable;
  let proxy: TcpProxy;
  let spillway: Spillway;
  let follower: Follower;
  let sinkPid: number;
  const seed = newSeed("dead postgres");
  const maker = new EventMaker("probe");
  const outages: Outage[] = [];
  let round = 0;

  beforeAll(async () => {
    postgres = await privatePostgres({ max_connections: String(CONNECTIONS_MAX) });
    const behind = await proxiedPostgres(postgres.url);
    proxy = behind.proxy;
    // No process dies here: a machine that is merely busy must not cost the sink its membership.
    const env = { SPILLWAY_SESSION_TIMEOUT_MS: "45000" };
    const options = { databaseUrl: postgres.url, rolesDatabaseUrl: behind.url, env };
    spillway = await startSpillway({ ...options, ingests: 1, sinks: 1, queries: 2 });
    sinkPid = spillway.sink.app.pid;
    for (let n = 0; n < 10; n++) await spillway.producer.deliver(spillway.ingest, [maker.make(RESTING)]);
    follower = new Follower({ clientId: "a", after: "0" });
    await follower.connect(spillway.query);
    return async () => {
      await spillway[Symbol.asyncDispose]();
      await proxy.close();
      await postgres.remove();
    };
  });

  const write = (requests: number): Promise<void> =>
    produce(spillway.producer, {
      nodes: [spillway.ingest],
      clients: CLIENTS,
      requests,
      seed: seed + ++round,
      name: `round${round}-`,
    });
  const assignments = (): number =>
    spillway.sink.app.lines.filter((line) => line.includes("partitions assigned")).length;

  let assignmentsBefore = 0;
  beforeEach(async () => {
    await spillway.saved();
    assignmentsBefore = assignments();
    expect(assignmentsBefore).toBe(1);
  });
  afterEach(async () => {
    // Unattended: nobody restarted anything.
    await write(20);
    await spillway.saved();
    expect(spillway.sink.app.ended).toBeUndefined();
    expect(spillway.sink.app.pid).toBe(sinkPid);
    expect(assignments()).toBe(assignmentsBefore);
    const [dead] = await spillway.database.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.dead_letter");
    expect(dead?.n).toBe(0);
    for (const node of spillway.queries)
      await spillway.reader.patientPage(node, { clientId: RESTING, view: "saved" }, { limitMs: 30_000 });
  });

  /** What must serve without the database, on every node: an event just acknowledged is in unsaved and live views. */
  async function servesWithoutDatabase(): Promise<void> {
    const from = now();
    await write(30);
    const event = maker.make("a");
    const { cursors } = await spillway.producer.deliver(spillway.ingest, [event]);
    for (const node of spillway.queries) {
      const unsaved = await spillway.reader.patientPage(node, { clientId: "a", view: "unsaved", limit: 1_000 });
      expect(unsaved.texts.join("\n"), node.name).toContain(event.id);
      // A merged page that begins where the tail does needs no rows either.
      const next = maker.make("a");
      await spillway.producer.deliver(spillway.ingest, [next]);
      const merged = await spillway.reader.patientPage(node, { clientId: "a", after: cursors[0] ?? "" });
      expect(merged.texts.join("\n"), node.name).toContain(next.id);
    }
    await follower.shows([event.id]);
    const fresh = new Follower({ clientId: "a", after: cursors[0] ?? "" });
    await fresh.connect(spillway.queries[1] ?? spillway.query);
    await fresh.caughtUp();
    fresh.cut();
    outages.push({ from, to: now() });
  }

  /** What needs saved rows says so, with the remedy, and never answers less. */
  async function refusesWhatItCannotKnow(): Promise<void> {
    for (const node of spillway.queries)
      for (const view of ["merged", "saved"] as const) {
        const shown = await until(`a refusal from ${node.name}`, async () => {
          const page = await spillway.reader.page(node, { clientId: RESTING, view, timeoutMs: 1_000 });
          // An answer that was right a moment ago, before the fault reached this node.
          if (page.status === 200) expect(page.texts.length).toBe(10);
          return page.status === 503 && page;
        });
        expect((JSON.parse(shown.body) as { code: string }).code).toBe("store-unreachable");
      }
  }

  /** The sink has felt it. */
  const felt = (): Promise<unknown> =>
    until("the sink is told that its store is away", async () => {
      const answer = await fetch(`${spillway.sink.url}/readyz`);
      return answer.status === 503 && (await answer.text()).includes("store:");
    });

  test("the server is killed and comes back", async () => {
    await postgres.kill();
    await Promise.all([write(20), felt()]);
    await Promise.all([servesWithoutDatabase(), refusesWhatItCannotKnow()]);
    await postgres.start();
  });

  test("the server is frozen", async () => {
    const thaw = freezeFamily(postgres.pid);
    try {
      await Promise.all([servesWithoutDatabase(), refusesWhatItCannotKnow()]);
    } finally {
      thaw();
    }
  });

  test("the network to it swallows everything", async () => {
    proxy.mode = "swallow";
    await Promise.all([servesWithoutDatabase(), refusesWhatItCannotKnow()]);
    proxy.mode = "pass";
  });

  test("nobody answers at its address", async () => {
    proxy.mode = "refuse";
    await Promise.all([write(20), felt()]);
    await Promise.all([servesWithoutDatabase(), refusesWhatItCannotKnow()]);
    proxy.mode = "pass";
  });

  const locked = async (): Promise<boolean> => {
    const held = await spillway.database.query(
      "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'spillway.event'::regclass",
    );
    return held.length === 1;
  };

  test("its tables are locked", async () => {
    const statement = "LOCK TABLE spillway.event, spillway.checkpoint IN ACCESS EXCLUSIVE MODE";
    await using _lock = await holdTransaction(postgres.url, statement);
    await Promise.all([write(20), felt()]);
    await Promise.all([servesWithoutDatabase(), refusesWhatItCannotKnow()]);
    // The one who locks is no frozen sink: nobody ended it.
    expect(await locked()).toBe(true);
  });

  test("the events' table alone is locked", async () => {
    await using _lock = await holdTransaction(postgres.url, "LOCK TABLE spillway.event IN ACCESS EXCLUSIVE MODE");
    await Promise.all([write(20), felt()]);
    await Promise.all([servesWithoutDatabase(), refusesWhatItCannotKnow()]);
    expect(await locked()).toBe(true);
  });

  test("its sessions are ended again and again", async () => {
    const pids = new Set<number>();
    const done = new AbortController();
    const storm = (async () => {
      while (!done.signal.aborted) {
        for (const pid of await endSessions(postgres.url)) pids.add(pid);
      }
    })();
    await write(100);
    await until("thirty sessions ended", () => pids.size >= 30, { limitMs: 60_000 });
    await write(30);
    done.abort();
    await storm;
  });

  test("its connections are used up", async () => {
    await using _crowd = await takeAllConnections(postgres.url);
    await Promise.all([write(20), felt()]);
    await Promise.all([servesWithoutDatabase(), refusesWhatItCannotKnow()]);
  });

  test("its checkpoint goes back", async () => {
    await write(60);
    await spillway.saved();
    const [before] = await spillway.database.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.event");
    const writing = write(100);
    expect(await setBack(postgres.url, [...CLIENTS, RESTING], 4)).toBeGreaterThan(50);
    await writing;
    for (const node of spillway.queries) {
      const shown = await spillway.reader.walk(node, { clientId: RESTING });
      expect(shown.texts.length, node.name).toBe(10);
    }
    await spillway.sink.app.line("checkpoint stands elsewhere");
    await spillway.saved();
    const [after] = await spillway.database.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.event");
    expect(after?.n).toBeGreaterThan(before?.n ?? 0);
  });

  test("and in the end nothing is lost, repeated or out of order", async () => {
    follower.finish(spillway.history);
    const truth = await spillway.truth();
    exemptCopies(spillway.history, truth, outages);
    const { violations, counts } = check(spillway.history, truth);
    const least = { okIds: 1_500, rows: 1_500, liveEvents: 200, savedShown: 100, unsavedShown: 100 };
    expect([...shortened(violations), ...tooSeldom(counts, least)]).toEqual([]);
  });
});
