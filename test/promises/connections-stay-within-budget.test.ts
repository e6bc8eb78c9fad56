/**
 * Never more database connections than configured, in outages and restarts too: a sink one, a relay one, a query node four,
 * ingest none.
 * Attack: a crowd of readers while tables are locked, sessions are ended in storms, the server is killed and frozen, and
 * roles are killed and restarted, with every session of the server counted all the while; an hour of such faults in fast
 * motion, in random order, on a server of 20 connections with several of each role; and others who take all that they can get.
 */
import pg from "pg";
import { beforeAll, describe, expect, test } from "vitest";
import { createProxy, type TcpProxy } from "../../infra/proxy.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { installInto } from "../support/buffer.ts";
import { uniqueTopic } from "../support/kafka.ts";
import { privatePostgres, queryOnce } from "../support/postgres.ts";
import { openPool } from "../support/store.ts";
import { until } from "../support/until.ts";
import { holdTransaction } from "./support/faults.ts";
import { Sampler } from "./support/sampler.ts";
import { type Role, type Spillway, startSpillway } from "./support/spillway.ts";
import { endSessions, freezeFamily, takeAllConnections } from "./support/store-faults.ts";
import { EventMaker, newSeed, produce, seeded } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d"];
const BUDGET: Readonly<Record<string, number>> = { "spillway-sink": 1, "spillway-query": 4 };
/** Readers at once: ten times what a node has connections. */
const READERS = 40;

describe("one of each role, every session counted", () => {
  let postgres: PostgresServer & AsyncDisposable;
  let spillway: Spillway;
  /** Where ingest would connect to if it did. */
  let trap: TcpProxy;
  let sampler: Sampler;
  const seed = newSeed("connections");
  const maker = new EventMaker("probe");

  beforeAll(async () => {
    postgres = await privatePostgres();
    const { hostname, port } = new URL(postgres.url);
    trap = await createProxy({ host: hostname, port: Number(port) });
    spillway = await startSpillway({ databaseUrl: postgres.url });
    const trapped = new URL(postgres.url);
    trapped.port = String(trap.port);
    sampler = new Sampler(postgres.url, { by: "application_name", budget: BUDGET });
    sampler.start();
    await spillway.start("ingest", { DATABASE_URL: trapped.href });
    await spillway.start("query");
    await spillway.start("sink");
    return async () => {
      await sampler.stop();
      await spillway[Symbol.asyncDispose]();
      await trap.close();
      await postgres.remove();
    };
  });

  const write = (requests: number): Promise<void> =>
    produce(spillway.producer, {
      nodes: [spillway.ingest],
      clients: CLIENTS,
      requests,
      seed: seed + sampler.samples,
      name: `at${sampler.samples}-`,
    });
  /** A crowd of readers of saved rows, no two of the same page, each answered some way or other. */
  const crowd = async (): Promise<number[]> => {
    const pages = Array.from({ length: READERS }, (_, n) =>
      spillway.reader.page(spillway.query, {
        clientId: CLIENTS[n % CLIENTS.length] ?? "",
        timeoutMs: 1_500,
        limit: n + 1,
      }),
    );
    return (await Promise.all(pages)).map(({ status }) => status);
  };
  test("a crowd of readers shares a node's four", async () => {
    await write(100);
    await spillway.saved();
    for (let n = 0; n < 10; n++) expect(new Set(await crowd())).toEqual(new Set([200]));
    // The count is real: all four are used, however many pages share a statement, and the sink's one.
    await until("all four are used", async () => {
      await crowd();
      return sampler.most.get("spillway-query") === 4;
    });
    expect(sampler.most.get("spillway-sink")).toBe(1);
  });

  test("locked tables leave no backends behind", async () => {
    await using _lock = await holdTransaction(
      postgres.url,
      "LOCK TABLE spillway.event, spillway.checkpoint IN ACCESS EXCLUSIVE MODE",
    );
    for (let n = 0; n < 3; n++) {
      const [statuses] = await Promise.all([crowd(), write(10)]);
      expect(new Set(statuses)).toEqual(new Set([503]));
    }
    await sampler.counts(20);
  });

  test("sessions that are ended are replaced, not added to", async () => {
    let ended = 0;
    while (ended < 20) {
      const [pids] = await Promise.all([endSessions(postgres.url), crowd(), write(3)]);
      ended += pids.length;
    }
  });

  test("a server that is killed, and one that is frozen, is not stormed on its return", async () => {
    await postgres.kill();
    await Promise.all([crowd(), write(10)]);
    await postgres.start();
    await Promise.all([crowd(), write(10)]);
    await spillway.saved();
    await spillway.reader.patientPage(spillway.query, { clientId: "a", view: "saved" });
    const thaw = freezeFamily(postgres.pid);
    try {
      for (let n = 0; n < 2; n++) await Promise.all([crowd(), write(5)]);
    } finally {
      thaw();
    }
    await sampler.counts(50);
    await spillway.saved();
  });

  test("roles that are killed or restarted give theirs back", async () => {
    for (const role of [spillway.sink, spillway.query]) {
      await role.kill();
      await role.launch();
      await Promise.all([role.app.line("log opened"), crowd(), write(10)]);
      expect(await role.app.stop()).toBe(0);
      await until("its sessions are gone", async () => {
        const left = await spillway.database.query("SELECT FROM pg_stat_activity WHERE application_name = $1", [
          role === spillway.sink ? "spillway-sink" : "spillway-query",
        ]);
        return left.length === 0;
      });
      await role.launch();
    }
    await spillway.query.app.ready();
    await write(20);
    await spillway.saved();
  });

  test("and never was there one more than configured", async () => {
    await spillway.producer.deliver(spillway.ingest, [maker.make("a")]);
    await sampler.stop();
    expect(sampler.samples).toBeGreaterThan(300);
    expect(sampler.excesses).toEqual([]);
    expect(trap.counts.connections).toBe(0);
    // Nobody else of ours connects under another name.
    const known = new Set([...Object.keys(BUDGET), "", "sampler"]);
    expect([...sampler.most.keys()].filter((name) => !known.has(name))).toEqual([]);
    await spillway.saved();
    await spillway.check({ okIds: 300, pages: 300, rows: 300 });
  });
});

describe("a nasty hour in fast motion", () => {
  const CONNECTIONS_MAX = 20;
  const QUERY_CONNECTIONS = 3;
  /** Of one process. */
  const EACH = { "spillway-query": QUERY_CONNECTIONS, "spillway-sink": 1, "spillway-relay": 1 } as const;
  /** Two query nodes, a web node (a query node to the database), two sinks, two relays: 13 of the 17 that are not reserved. */
  const HOUR = { "spillway-query": 3 * QUERY_CONNECTIONS, "spillway-sink": 2, "spillway-relay": 2 } as const;
  const ROUNDS = 2;

  test("no role ever exceeds its share, whatever comes in whatever order", { timeout: 300_000 }, async () => {
    await using postgres = await privatePostgres({ max_connections: String(CONNECTIONS_MAX) });
    await installInto(postgres.url);
    const sampler = new Sampler(postgres.url, { by: "application_name", budget: HOUR });
    await using spillway = await startSpillway({
      databaseUrl: postgres.url,
      env: {
        SPILLWAY_QUERY_CONNECTIONS_MAX: String(QUERY_CONNECTIONS),
        SPILLWAY_DATABASE_CONNECTIONS_MAX: "13",
      },
    });
    const seed = newSeed("hour");
    const random = seeded(seed);
    sampler.start();
    await using _counted = { [Symbol.asyncDispose]: () => sampler.stop() };
    await spillway.start("ingest");
    const nodes = [await spillway.start("query"), await spillway.start("query"), await spillway.start("web")];
    const sinks = [await spillway.start("sink"), await spillway.start("sink")];
    // To a log of their own: what they publish nobody has sent.
    const relayed = { SPILLWAY_TOPIC: uniqueTopic() };
    const relays = [await spillway.start("relay", relayed), await spillway.start("relay", relayed)];
    const application = openPool(postgres.url, 1, "application");
    await using _application = { [Symbol.asyncDispose]: () => application.close() };
    let emitted = 0;
    const emit = async (): Promise<void> => {
      try {
        await application.query("SELECT spillway.emit('a', 'moved')", [], 1_500);
        emitted++;
      } catch {
        // Its database is away: as much as that it knows by itself.
      }
    };
    let round = 0;
    const load = async (): Promise<void> => {
      const pages = Array.from({ length: READERS }, (_, n) =>
        spillway.reader.page(nodes[n % nodes.length] as Role, {
          clientId: CLIENTS[n % CLIENTS.length] ?? "",
          timeoutMs: 1_500,
          limit: n + 1,
        }),
      );
      const writing = {
        nodes: [spillway.ingest],
        clients: CLIENTS,
        requests: 5,
        seed: seed + ++round,
        name: `hour${round}-`,
      };
      await Promise.all([...pages, produce(spillway.producer, writing), emit()]);
    };
    const backlog = async (): Promise<{ waiting: string; set_aside: string; recorded: string }> => {
      const [found] = await spillway.database.query<{ waiting: string; set_aside: string; recorded: string }>(
        `SELECT waiting, set_aside,
           (SELECT count(*) FROM spillway.event_buffer WHERE recorded IS NOT NULL) AS recorded FROM spillway.backlog_total`,
      );
      if (found === undefined) throw new Error("the event buffer tells nothing");
      return found;
    };
    const gone = (role: Role, name: keyof typeof EACH): Promise<unknown> =>
      until(`the sessions of ${role.name} are gone`, async () => {
        const left = await spillway.database.query("SELECT FROM pg_stat_activity WHERE application_name = $1", [name]);
        return left.length <= HOUR[name] - EACH[name];
      });
    const replaced = async (
      role: Role,
      name: keyof typeof EACH,
      end: (role: Role) => Promise<unknown>,
    ): Promise<void> => {
      await Promise.all([end(role), load()]);
      await gone(role, name);
      await role.launch();
      await load();
    };
    const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
    const faults: Readonly<Record<string, () => Promise<void>>> = {
      "the server is killed": async () => {
        await postgres.kill();
        await load();
        await postgres.start();
      },
      "the server is restarted": () => postgres.restart(),
      "the server is frozen": async () => {
        const thaw = freezeFamily(postgres.pid);
        try {
          await load();
        } finally {
          thaw();
        }
      },
      "sessions are ended": async () => {
        for (let n = 0; n < 10; n++) await Promise.all([endSessions(postgres.url), load()]);
      },
      "others take every connection": async () => {
        await using _all = await takeAllConnections(postgres.url);
        await load();
      },
      "tables are locked": async () => {
        const lock = "LOCK TABLE spillway.event, spillway.checkpoint, spillway.event_buffer IN ACCESS EXCLUSIVE MODE";
        // Who waits for all of them may be the one that PostgreSQL sends away, where somebody has one of them and wants another.
        await using _lock = await until("the tables are locked", () => holdTransaction(postgres.url, lock));
        await load();
      },
      "a sink is killed": () => replaced(pick(sinks), "spillway-sink", (role) => role.kill()),
      "a sink is stopped": () => replaced(pick(sinks), "spillway-sink", (role) => role.app.stop()),
      "a relay is killed": () => replaced(pick(relays), "spillway-relay", (role) => role.kill()),
      "a relay is stopped": () => replaced(pick(relays), "spillway-relay", (role) => role.app.stop()),
      "a node is killed": () => replaced(pick(nodes), "spillway-query", (role) => role.kill()),
      "a node is stopped": () => replaced(pick(nodes), "spillway-query", (role) => role.app.stop()),
      "a node and a relay are frozen": async () => {
        const apps = [pick(nodes).app, pick(relays).app];
        for (const app of apps) app.freeze();
        await sampler.counts(50);
        for (const app of apps) app.thaw();
      },
    };
    const order: string[] = [];
    for (let n = 0; n < ROUNDS; n++) order.push(...Object.keys(faults).sort(() => random() - 0.5));
    for (const fault of order) {
      await load();
      await faults[fault]?.();
      expect([fault, sampler.excesses]).toEqual([fault, []]);
    }
    await load();
    await spillway.saved(90_000);
    for (const node of nodes) await spillway.reader.patientPage(node, { clientId: "a", view: "saved" });
    await until("nothing waits in the event buffer", async () => (await backlog()).waiting === "0", {
      limitMs: 90_000,
    });
    console.log(
      `hour: ${emitted} emitted, ${sampler.samples} samples, at most ${JSON.stringify(Object.fromEntries(sampler.most))}`,
    );
    expect(sampler.samples).toBeGreaterThan(1_000);
    // The count is real.
    expect(sampler.most.get("spillway-sink")).toBe(2);
    expect(sampler.most.get("spillway-query")).toBeGreaterThan(QUERY_CONNECTIONS);
    expect(sampler.most.get("spillway-relay")).toBe(2);
    const { recorded, set_aside } = await backlog();
    expect([Number(recorded) >= emitted, set_aside]).toEqual([true, "0"]);
    expect(emitted).toBeGreaterThan(ROUNDS * 10);
    await spillway.check({ okIds: 500, rows: 500 });
  });
});

describe("others take every connection that they can get", () => {
  test("and reads keep the share that is reserved for them, which neither they nor the sink can take", async () => {
    await using postgres = await privatePostgres({ max_connections: "20", reserved_connections: "4" });
    const as = (role: string): string => Object.assign(new URL(postgres.url), { username: role }).href;
    for (const text of [
      "CREATE ROLE saver LOGIN",
      "GRANT ALL ON DATABASE spillway TO saver",
      "CREATE ROLE reader LOGIN IN ROLE pg_use_reserved_connections",
      "CREATE ROLE other LOGIN",
    ])
      await queryOnce(postgres.url, text);
    await using spillway = await startSpillway({ databaseUrl: postgres.url });
    await spillway.start("ingest");
    const sink = await spillway.start("sink", { DATABASE_URL: as("saver") });
    await queryOnce(postgres.url, "GRANT USAGE ON SCHEMA spillway TO reader");
    await queryOnce(postgres.url, "GRANT SELECT ON ALL TABLES IN SCHEMA spillway TO reader");
    const node = await spillway.start("query", { DATABASE_URL: as("reader"), SPILLWAY_DATABASE_CONNECTIONS_MAX: "17" });
    const write = (name: string): Promise<void> =>
      produce(spillway.producer, {
        nodes: [spillway.ingest],
        clients: CLIENTS,
        requests: 20,
        seed: newSeed(name),
        name,
      });
    await write("before");
    await spillway.saved();
    const others: pg.Client[] = [];
    const fill = async (): Promise<void> => {
      for (;;) {
        const client = new pg.Client({ connectionString: as("other"), application_name: "other" });
        client.on("error", () => undefined);
        await client.connect();
        others.push(client);
      }
    };
    // Again and again, with Spillway's own ended for them, until the sink has none.
    await until("the sink finds none left", async () => {
      await endSessions(postgres.url);
      await expect(fill()).rejects.toThrow(/remaining connection slots are reserved/);
      return sink.app.lines.some((line) => line.includes("remaining connection slots are reserved"));
    });
    await endSessions(postgres.url);
    const saved = { clientId: "a", view: "saved" } as const;
    await spillway.reader.patientPage(node, saved);
    for (let n = 0; n < 20; n++) {
      const pages = Array.from({ length: READERS }, (_, nth) =>
        spillway.reader.page(node, { ...saved, limit: nth + 1 }),
      );
      expect(new Set((await Promise.all(pages)).map(({ status }) => status))).toEqual(new Set([200]));
    }
    await write("during");
    await Promise.all(others.map((client) => client.end()));
    await spillway.saved(60_000);
    await spillway.check({ okIds: 50, rows: 50, pages: 500 });
  });
});
