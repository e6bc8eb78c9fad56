/** Roles and the connection budget that is declared: none is stopped by a database that is away, each by one that is too small. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { SMALLEST, spillwayRoles } from "../../infra/budget/roles.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { sharedBrokers, uniqueTopic } from "../support/kafka.ts";
import { privatePostgres } from "../support/postgres.ts";
import { type App, startApp } from "../support/process.ts";

/** Of 20 connections three are for superusers. */
const ALLOWED = 17;
const WAITS = {
  query: "database not reached yet",
  web: "database not reached yet",
  sink: "store not opened yet",
  relay: "event buffer did not answer",
} as const;
type Kind = keyof typeof WAITS;
const KINDS = Object.keys(WAITS) as Kind[];

let postgres: PostgresServer & AsyncDisposable;
beforeAll(async () => {
  postgres = await privatePostgres({ max_connections: "20" });
});
afterAll(() => postgres.remove());

const start = (kind: Kind, declared: number, topic: string): Promise<App> =>
  startApp(`apps/${kind}/main.ts`, {
    KAFKA_BROKERS: sharedBrokers(),
    DATABASE_URL: postgres.url,
    SPILLWAY_TOPIC: topic,
    SPILLWAY_PARTITIONS: "2",
    SPILLWAY_DATABASE_CONNECTIONS_MAX: String(declared),
  });

test("a database away at start stops no role; one that cannot give the budget stops each when it is first reached", async () => {
  const topic = uniqueTopic();
  await postgres.stop();
  const apps = await Promise.all(KINDS.map((kind) => start(kind, ALLOWED + 1, topic)));
  await using stack = new AsyncDisposableStack();
  for (const app of apps) stack.use(app);
  await Promise.all(apps.map((app, nth) => app.line(WAITS[KINDS[nth] as Kind])));
  expect(apps.map(({ ended }) => ended)).toEqual(apps.map(() => undefined));
  await postgres.start();
  const { host, pathname } = new URL(postgres.url);
  for (const app of apps) {
    expect(await app.exit()).toBe(1);
    expect(app.lines.join("\n")).toContain(
      `18 connections are declared, and the database ${host}${pathname} gives at most 17 (max_connections 20, less 3 reserved). ` +
        "Make pools and processes fit (npm run budget -- --limit 20 --reserve 6) and declare what it says, or raise that limit.",
    );
  }
});

test("a budget that holds is reckoned by each role, with the share that npm run budget gives it", async () => {
  const topic = uniqueTopic();
  await using stack = new AsyncDisposableStack();
  const apps = await Promise.all(KINDS.map((kind) => start(kind, ALLOWED, topic)));
  for (const app of apps) stack.use(app);
  const shares = await Promise.all(
    apps.map(async (app) => JSON.parse(await app.line("connections reckoned")) as { share: number; allowed: number }),
  );
  const given = new Map(spillwayRoles(SMALLEST).map(({ name, connectionsEach }) => [name, connectionsEach]));
  expect(shares.map(({ share, allowed }) => [share, allowed])).toEqual(
    KINDS.map((kind) => [given.get(kind === "web" ? "query" : kind), ALLOWED]),
  );
});

test("a query node that could exceed the budget alone is refused", async () => {
  await using app = await start("query", 3, uniqueTopic());
  expect(await app.exit()).toBe(1);
  expect(app.lines.join("\n")).toContain(
    "3 connections are declared for all processes together, and this one alone may open 4.",
  );
});
