/**
 * Promise: behind a pooler in transaction mode writers emit and relays relay as without one, with no server connection more than it
 * allows and nothing left on them. Attack: a real PgBouncer with one and with five server connections, six writers and two relays
 * over it, a relay killed, the pooler paused, restarted and killed.
 */
import pg from "pg";
import { describe, expect, test } from "vitest";
import { BufferWriters, booked } from "../promises/support/buffer-writers.ts";
import { Sampler } from "../promises/support/sampler.ts";
import { type Role, startSpillway } from "../promises/support/spillway.ts";
import { newSeed } from "../promises/support/workload.ts";
import { installInto } from "../support/buffer.ts";
import { hasPgBouncer, startPgBouncer } from "../support/pgbouncer.ts";
import { privatePostgres, queryOnce } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const CLIENTS = ["a", "b", "c", "d"];
const LIMITS = { limitMs: 90_000 };

/** What somebody has left on each of the pooler's server connections. */
async function leftBehind(url: string, connections: number): Promise<unknown[]> {
  const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: url }));
  try {
    for (const client of clients) await client.connect();
    // Each in a transaction: so no two have the same.
    for (const client of clients) await client.query("BEGIN");
    const found = [];
    for (const client of clients) {
      const { rows } = await client.query<{ pid: number }>(
        // What PgBouncer itself sets for each client is not counted.
        `SELECT pg_backend_pid() AS pid, (SELECT count(*)::int FROM pg_prepared_statements) AS prepared,
           (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
           (SELECT count(*)::int FROM pg_listening_channels()) AS channels,
           (SELECT array_agg(name) FROM pg_settings WHERE source = 'session' AND name NOT IN
             ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')) AS settings`,
      );
      found.push(...rows);
    }
    expect(new Set(found.map(({ pid }) => pid)).size).toBe(connections);
    return found.map(({ pid: _, ...rest }) => rest);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

/** The relay that works now, and the other one. */
const working = (relays: readonly [Role, Role]): Promise<readonly [Role, Role]> =>
  until(
    "one works and one stands by",
    () => {
      const [one, other] = relays.map(({ app }) =>
        (app.lines.findLast((line) => /"relay (works|stands by)/.test(line)) ?? "").includes('"relay works'),
      );
      if (one === other) return null;
      return one ? relays : ([relays[1], relays[0]] as const);
    },
    LIMITS,
  );

describe.skipIf(!hasPgBouncer())("behind PgBouncer", () => {
  test.each([1, 5])(
    "%i server connections serve writers and relays alike",
    async (connections) => {
      await using postgres = await privatePostgres();
      await using pooler = await startPgBouncer({ upstream: postgres.url, poolSize: connections });
      await installInto(pooler.url);
      await using spillway = await startSpillway({});
      const app = { query: <Row>(text: string) => queryOnce<Row>(pooler.url, text) };
      const sampler = new Sampler(postgres.url, { by: "usename", budget: { spillway: connections } });
      sampler.start();
      const relays = [
        await spillway.start("relay", { DATABASE_URL: pooler.url }),
        await spillway.start("relay", { DATABASE_URL: pooler.url }),
      ] as const;
      const writers = await BufferWriters.start(pooler.url, CLIENTS, 6, newSeed("behind a pooler"));
      const flows = async (): Promise<void> => {
        const recorded = "SELECT count(*)::int AS n FROM spillway.event_buffer WHERE recorded IS NOT NULL";
        const count = async () => (await app.query<{ n: number }>(recorded))[0]?.n ?? 0;
        const before = await until("the database answers", async () => ({ n: await count() }), LIMITS);
        await until("more rows are recorded", async () => (await count()) >= before.n + 30, LIMITS);
      };
      await flows();
      const [first, second] = await working(relays);
      await first.kill();
      await second.app.line('"relay works', LIMITS);
      await flows();
      await first.start();
      await pooler.admin("PAUSE");
      await pooler.admin("RESUME");
      await flows();
      // Of a pooler that died, the server's sessions end a moment later.
      await sampler.stop();
      expect(sampler.excesses).toEqual([]);
      expect(sampler.most.get("spillway")).toBe(connections);
      await pooler.restart();
      await flows();
      await pooler.kill();
      await pooler.start();
      await flows();
      await writers.stop();
      await until(
        "nothing waits",
        async () =>
          (await app.query<{ waiting: string }>("SELECT waiting FROM spillway.backlog_total"))[0]?.waiting === "0",
        LIMITS,
      );
      const wanted = await booked(app);
      const records = await (await spillway.log()).records();
      const firsts = CLIENTS.map(
        (client) =>
          [
            client,
            [...new Set(records.flatMap(({ event }) => (event?.clientId === client ? [event.id] : [])))],
          ] as const,
      );
      expect(new Map(firsts)).toEqual(wanted);
      const clean = { prepared: 0, locks: 0, channels: 0, settings: null };
      expect(await leftBehind(pooler.url, connections)).toEqual(Array(connections).fill(clean));
      expect(writers.outcomes.rollbacks).toBeGreaterThan(0);
      expect(writers.outcomes.unknown).toBeGreaterThan(0);
      for (const relay of relays) expect(await relay.app.stop()).toBe(0);
    },
    300_000,
  );
});
