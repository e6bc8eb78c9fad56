/** Followers and pages whose database goes back or is busy, on a real log and database. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { proxiedPostgres } from "../../../infra/proxy.ts";
import { holdTransaction } from "../../promises/support/faults.ts";
import { Follower } from "../../promises/support/follower.ts";
import type { App } from "../../support/process.ts";
import { until } from "../../support/until.ts";
import { Given, type PageAnswer, type Placed, page } from "./given.ts";

let given: Given;
let node: App;
beforeAll(async () => {
  given = await Given.create();
  node = await given.node({ SPILLWAY_HEARTBEAT_MS: "200" });
  await node.ready();
});
afterAll(async () => {
  await node.kill();
  await given[Symbol.asyncDispose]();
});

/** A metric of the node; 0 before it is first counted. */
async function metric(name: string): Promise<number> {
  const numbers = await (await fetch(`${node.url}/metrics`)).text();
  return Number(new RegExp(`^spillway_${name} (\\S+)$`, "m").exec(numbers)?.[1] ?? 0);
}

const saveAll = (placed: readonly Placed[]): Promise<void> => {
  const { partition, offset } = placed.at(-1) as Placed;
  return given.save(partition, offset + 1n);
};
const letGo = (): Promise<unknown> =>
  until("the node has let go of what is saved", async () => (await metric("query_tail_records")) === 0);

const follow = async (clientId: string): Promise<Follower> => {
  const follower = new Follower({ clientId, after: "0" });
  await follower.connect({ name: "the node", url: node.url });
  return follower;
};
const idsOf = (follower: Follower): string[] => follower.events.map(({ id }) => id);

test("an id that is sent again after the checkpoint went back is not shown again", async () => {
  const clientId = "rewound";
  const follower = await follow(clientId);
  const placed = await given.append(...["x0", "x1", "x2"].map((id) => given.event(clientId, { id })));
  const [{ event, partition }] = placed as [Placed];
  await follower.shows(["x2"]);
  await saveAll(placed);
  await letGo();
  await given.rewind(partition, 0n);
  // The node has not seen it: the look-up for this copy is the first to show the checkpoint.
  await given.append(event, given.event(clientId, { id: "x3" }));
  await follower.shows(["x3"]);
  expect(idsOf(follower)).toEqual(["x0", "x1", "x2", "x3"]);
  expect(await metric("query_unchecked_events_total")).toBe(0);
  follower.cut();
  await saveAll(given.placed.filter((one) => one.partition === partition));
});

test("a follower who comes behind a checkpoint that went back is caught up once the tail is there again", async () => {
  const [first] = (await given.append(given.event("resting"))) as [Placed];
  // Nobody follows them, so their coming again is no news to anybody.
  const others = await given.append(...Array.from({ length: 20 }, () => given.event("resting neighbour 2")));
  expect(others[0]?.partition).toBe(first.partition);
  await saveAll(others);
  await letGo();
  await given.rewind(first.partition, first.offset + 1n);
  const follower = await follow("resting");
  await follower.caughtUp();
  expect(idsOf(follower)).toEqual([first.event.id]);
  follower.cut();
  await saveAll(others);
});

test("a node that comes below the log's start while the database is away says so, and goes on when that is back", async () => {
  await using trimmed = await Given.create();
  const { proxy, url } = await proxiedPostgres(trimmed.database.url);
  await using _proxy = proxy;
  {
    await using first = await trimmed.node({ DATABASE_URL: url });
    await first.ready();
  }
  const placed = await trimmed.append(...Array.from({ length: 10 }, () => trimmed.event("trimmed")));
  const [{ partition, offset }] = placed as [Placed];
  await trimmed.save(partition, offset + 8n);
  await trimmed.trim(partition, offset + 8n, offset + 5n);
  proxy.mode = "refuse";
  await using late = await trimmed.node({ DATABASE_URL: url });
  await until("it says what it cannot know", async () => {
    const { missing } = (await (await fetch(`${late.url}/readyz`)).json()) as { missing: string[] };
    const what = "begins at offset 8, and without the database nobody knows whether what lay from 5 on was saved";
    return missing.some((one) => one.includes(`${trimmed.topic}/${partition} ${what}`));
  });
  proxy.mode = "pass";
  await late.ready();
  expect((await page(late, { clientId: "trimmed" })).events.map(({ id }) => id)).toEqual(
    placed.map(({ event }) => event.id),
  );
});

test("an id that is sent again is not shown again while pages use all of their connections", async () => {
  const clientId = "busy";
  const placed = await given.append(...Array.from({ length: 20 }, () => given.event(clientId)));
  await saveAll(placed);
  const follower = await follow(clientId);
  await follower.caughtUp();
  await letGo();
  const pages: Promise<PageAnswer>[] = [];
  {
    await using _held = await slowData();
    // One after the other: those that come while a connection is free have it to themselves.
    for (const busy of [1, 2, 3]) {
      pages.push(page(node, { clientId, timeoutMs: "25000" }));
      await until(`pages wait for their rows on ${busy} of the 3 connections that they may have`, async () => {
        const waiting = await given.database.query(
          "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'",
        );
        return waiting.length === busy;
      });
    }
    for (let n = 0; n < 5; n++) pages.push(page(node, { clientId, timeoutMs: "25000" }));
    await given.append(...placed.map(({ event }) => event));
    await given.append(given.event(clientId, { id: "new" }));
    await follower.shows(["new"]);
    expect(idsOf(follower)).toEqual([...placed.map(({ event }) => event.id), "new"]);
    follower.cut();
    // Pages of what is unsaved wait for their look-up as the others for their rows, and say so rather than show a copy.
    for (const timeoutMs of ["700", "5000"]) {
      const unsaved = await page(node, { clientId, after: placed.at(-1)?.cursor ?? "", timeoutMs });
      expect([timeoutMs, unsaved.status, unsaved.code]).toEqual([timeoutMs, 503, "store-unreachable"]);
    }
  }
  expect((await Promise.all(pages)).map(({ status }) => status)).toContain(200);
  expect(await metric("query_unchecked_events_total")).toBe(0);
});

/** Whoever reads the events' data waits until this is disposed of; look-ups of identities read none. For the last test: the view stays. */
async function slowData(): Promise<AsyncDisposable> {
  for (const statement of [
    `CREATE FUNCTION spillway.slow(data json) RETURNS json LANGUAGE plpgsql STABLE AS
       $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN data; END $$`,
    "ALTER TABLE spillway.event RENAME TO event_at_once",
    `CREATE VIEW spillway.event AS SELECT client_id, log_epoch, "offset", id, type, occurred_at, received_at,
       spillway.slow(data) AS data FROM spillway.event_at_once`,
  ])
    await given.database.query(statement);
  return holdTransaction(given.database.url, "SELECT pg_advisory_xact_lock(1)");
}
