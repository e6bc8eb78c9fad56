/**
 * Never more database connections than configured, in outages and restarts too: a sink one, a query node four, ingest none.
 * Attack: a crowd of readers while tables are locked, sessions are ended in storms, the server is killed and frozen, and
 * roles are killed and restarted, with every session of the server counted all the while.
 */
import pg from "pg";
import { beforeAll, describe, expect, test } from "vitest";
import { createProxy, type TcpProxy } from "../../infra/proxy.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { privatePostgres } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { holdTransaction } from "./support/faults.ts";
import { type Spillway, startSpillway } from "./support/spillway.ts";
import { endSessions, freezeFamily } from "./support/store-faults.ts";
import { EventMaker, newSeed, produce } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d"];
const BUDGET: Readonly<Record<string, number>> = { "spillway-sink": 1, "spillway-query": 4 };
/** Readers at once: ten times what a node has connections. */
const READERS = 40;

/** Counts sessions by application again and again, on a session of its own, reconnecting where the server dies. */
class Sampler {
  readonly most = new Map<string, number>();
  readonly excesses: string[] = [];
  samples = 0;
  readonly #url: string;
  readonly #done = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #before = new Map<string, Set<number>>();

  constructor(url: string) {
    this.#url = url;
  }

  start(): void {
    this.#running = this.#run();
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#done.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (; !this.#ended(); ) {
      const client = new pg.Client({ connectionString: this.#url, application_name: "sampler" });
      client.on("error", () => undefined);
      try {
        await client.connect();
        for (; !this.#ended(); ) await this.#sample(client);
      } catch {
        // The server is dead or starts: nothing is to be counted.
        this.#before = new Map();
        await until("a server that answers, or the end", () => this.#ended() || answers(this.#url));
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  }

  #ended(): boolean {
    return this.#done.signal.aborted;
  }

  async #sample(client: pg.Client): Promise<void> {
    const { rows } = await client.query<{ name: string; pid: number }>(
      `SELECT application_name AS name, pid FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    );
    this.samples++;
    const now = new Map<string, Set<number>>();
    for (const { name, pid } of rows) now.set(name, (now.get(name) ?? new Set()).add(pid));
    for (const [name, pids] of now) {
      // A backend that was told to end lives on for a moment beside the one that replaces it: two looks must agree.
      const lasting = [...pids].filter((pid) => this.#before.get(name)?.has(pid)).length;
      this.most.set(name, Math.max(this.most.get(name) ?? 0, lasting));
      if (lasting > (BUDGET[name] ?? Number.POSITIVE_INFINITY)) this.excesses.push(`${name}: ${lasting}`);
    }
    this.#before = now;
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  await client.end();
  return true;
}

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
    sampler = new Sampler(postgres.url);
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
  const samples = (more: number): Promise<unknown> => {
    const target = sampler.samples + more;
    return until(`${more} samples`, () => sampler.samples >= target);
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
    await samples(20);
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
    await samples(50);
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
