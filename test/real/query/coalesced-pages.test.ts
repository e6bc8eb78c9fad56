/** Page questions that go together in one statement, against a real PostgreSQL: each is answered as if it were alone. */
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { timeText } from "#lib/event.ts";
import type { Pool } from "#lib/postgres/pool.ts";
import type { TailEvent } from "../../../apps/query/client-tail.ts";
import type { Selection } from "../../../apps/query/merge.ts";
import { ClientOrder, ORIGIN, type Place } from "../../../apps/query/places.ts";
import { type Asked, Rows, type Saved } from "../../../apps/query/rows.ts";
import { proxiedPostgres } from "../../../infra/proxy.ts";
import { randomFrom } from "../../apps/query/model.ts";
import { holdTransaction } from "../../promises/support/faults.ts";
import { newSeed } from "../../promises/support/workload.ts";
import { freshStore, openPool, type Store } from "../../support/store.ts";
import { until } from "../../support/until.ts";

const EPOCH = 2;
const PARTITIONS = 4;
/** What a literal of an array, of JSON or of SQL might stumble over. */
const CLIENTS = ["a", "b c", 'q"{},\\', "NULL", "é😀", "'; --", "\u0001\t\n", "h"];
const TYPES = ["x", 'y"\\,{}', "NULL"];
const EVENTS = 300;

const orderOf = (clientId: string): ClientOrder =>
  new ClientOrder(clientId, {
    epoch: EPOCH,
    partitions: new Map([
      [1, 2],
      [EPOCH, PARTITIONS],
    ]),
  });
const idOf = (n: number): string => `id-${n}-"\\{},'NULL\u0002`;

let store: Store;
beforeAll(async () => {
  store = await freshStore(0);
});
afterAll(() => store[Symbol.asyncDispose]());

async function insert(rows: readonly { clientId: string; epoch: number; offset: number; data: string | null }[]) {
  await store.database.query(
    `INSERT INTO spillway.event SELECT c, e, o, i, t, w, w, d::json FROM unnest($1::text[], $2::smallint[], $3::bigint[],
       $4::text[], $5::text[], $6::timestamptz[], $7::text[]) AS given (c, e, o, i, t, w, d)`,
    [
      rows.map(({ clientId }) => clientId),
      rows.map(({ epoch }) => epoch),
      rows.map(({ offset }) => offset),
      rows.map(({ epoch, offset }) => idOf(epoch * 1_000 + offset)),
      rows.map(({ offset }) => TYPES[offset % TYPES.length]),
      rows.map(({ offset }) => timeText(1_700_000_000_000 + 997 * offset)),
      rows.map(({ data }) => data),
    ],
  );
}

const PLAIN: Selection = {
  after: ORIGIN,
  before: null,
  types: null,
  sinceMs: null,
  untilMs: null,
  order: "asc",
  limit: 100,
};
const ALL: Asked = { events: [], tailStart: 0n, rowsAfter: [] };

/** What `Rows` asks of a pool for its pages, with the sizes of its statements. */
function counted(pool: Pool): { readonly pool: Pool; readonly sizes: number[] } {
  const sizes: number[] = [];
  const rows: Pool["rows"] = (text, values, timeoutMs) => {
    sizes.push((values[0] as unknown[]).length);
    return pool.rows(text, values, timeoutMs);
  };
  return { pool: { rows } as Pool, sizes };
}

type Question = Parameters<Rows["page"]>;

describe("rows of two epochs, with checkpoints in between", () => {
  const seed = newSeed("coalesced pages");
  const random = randomFrom(seed);
  const maybe = <T>(chance: number, make: () => T): T | null => (random.next() < chance ? make() : null);
  const place = (): Place => ({ epoch: 1 + random.below(2), offset: BigInt(random.below(EVENTS + 10)) - 1n });

  beforeAll(async () => {
    const rows = [1, EPOCH].flatMap((epoch) =>
      Array.from({ length: EVENTS }, (_, offset) => ({
        clientId: random.pick(CLIENTS),
        epoch,
        offset,
        // Now and then one that fills a page in company by itself.
        data: maybe(0.9, () => JSON.stringify("x".repeat(random.below(random.next() < 0.02 ? 200_000 : 300)))),
      })),
    );
    await insert(rows);
    for (let partition = 0; partition < PARTITIONS - 1; partition++)
      await store.database.query("INSERT INTO spillway.checkpoint VALUES ($1, $2, $3)", [
        EPOCH,
        partition,
        100 * (partition + 1),
      ]);
  });

  function question(): Question {
    const selection: Selection = {
      after: maybe(0.5, place) ?? ORIGIN,
      before: maybe(0.4, place),
      types: maybe(0.2, () => new Set([random.pick(TYPES), random.pick(TYPES)])),
      sinceMs: maybe(0.1, () => 1_700_000_000_000 + random.below(300_000)),
      untilMs: maybe(0.1, () => random.pick([1_700_000_200_000, -1e15, 1e15])),
      order: random.pick(["asc", "desc"]),
      limit: random.pick([1, 3, 20, 100, 1_000]),
    };
    const ids = Array.from({ length: random.pick([0, 0, 3, 50]) }, () => ({ id: idOf(random.below(2_600)) }));
    const rowsAfter = maybe(0.8, () => (random.next() < 0.1 ? [5n, 150n, 250n] : []));
    return [
      orderOf(random.pick(CLIENTS)),
      selection,
      { events: ids as unknown as TailEvent[], tailStart: 0n, rowsAfter },
      60_000,
    ];
  }

  test("thousands of random questions at once get what each gets alone, over three connections", async () => {
    const [three, one] = [openPool(store.database.url, 3), openPool(store.database.url, 1)];
    const [together, alone] = [counted(three), counted(one)];
    const [crowd, single] = [new Rows(together.pool, 3, systemClock), new Rows(alone.pool, 1, systemClock)];
    const questions = Array.from({ length: 3_000 }, question);
    const answers: Saved[] = [];
    // A hundred at a time, as so many readers would, the next of each when its last is answered.
    const next = questions.entries();
    const reader = async (): Promise<void> => {
      for (const [nth, asked] of next) answers[nth] = await crowd.page(...asked);
    };
    await Promise.all(Array.from({ length: 100 }, reader));
    for (const [nth, asked] of questions.entries()) {
      const wanted = await single.page(...asked);
      const got = answers[nth] as Saved;
      // Where equal questions were one, places of the others' identities are there too.
      const places = new Map([...got.places].filter(([id]) => asked[2].events.some((event) => event.id === id)));
      // Not by `toEqual` of the pages, which would print megabytes.
      const same = isDeepStrictEqual({ ...got, places }, wanted);
      expect([seed, nth, same ? null : asked]).toEqual([seed, nth, null]);
    }
    expect(Math.max(...alone.sizes)).toBe(1);
    expect(together.sizes.length).toBeLessThan(questions.length / 2);
    expect(three.size.total).toBeLessThanOrEqual(3);
    await Promise.all([three.close(), one.close()]);
  });

  test("a page that is too large for company comes whole", async () => {
    await insert(
      Array.from({ length: 101 }, (_, offset) => ({
        clientId: "large",
        epoch: 1,
        offset: 10_000 + offset,
        data: JSON.stringify("é".repeat(100_000)),
      })),
    );
    const pool = openPool(store.database.url);
    const together = counted(pool);
    const rows = new Rows(together.pool, 1, systemClock);
    const [large, ...others] = await Promise.all(
      ["large", ...CLIENTS].map((clientId) => rows.page(orderOf(clientId), PLAIN, ALL, 60_000)),
    );
    // Those before the last have 8 MiB less what the last one adds.
    expect(large?.rows.events).toHaveLength(42);
    expect(large?.rows.cutAt).toEqual({ epoch: 1, offset: 10_041n });
    expect(others.every((one) => one.rows.events.length > 0)).toBe(true);
    // Once in company, and then alone; the other clients may have large pages too.
    expect(together.sizes.slice(0, 2)).toEqual([CLIENTS.length + 1, 1]);
    await pool.close();
  });
});

test("checkpoint and rows of every question are of one moment, while rows are saved all the time", async () => {
  await using moving = await freshStore(0);
  const clients = ["a", "b", "c", "d", "e", "f"];
  const pool = openPool(moving.database.url, 3);
  const rows = new Rows(pool, 3, systemClock);
  const epochs = { epoch: 1, partitions: new Map([[1, 1]]) };
  await moving.database.query("INSERT INTO spillway.checkpoint VALUES (1, 0, 0)");
  const done = new AbortController();
  const seen = new Set<bigint>();
  const save = async (): Promise<void> => {
    // Until readers have met many states, or a page holds no more.
    for (let offset = 0; offset < 120 || (seen.size <= 30 && offset < 1_000); offset++)
      await moving.pool.query(
        `WITH moved AS (UPDATE spillway.checkpoint SET next_offset = $1::bigint + 1)
         INSERT INTO spillway.event SELECT c, 1, $1, 'id-' || $1, 't', now(), now(), '1' FROM unnest($2::text[]) AS c`,
        [offset, clients],
        10_000,
      );
    done.abort();
  };
  const read = async (clientId: string): Promise<void> => {
    while (!done.signal.aborted) {
      const saved = await rows.page(new ClientOrder(clientId, epochs), { ...PLAIN, limit: 1_000 }, ALL, 60_000);
      expect(BigInt(saved.rows.events.length)).toBe(saved.nextOffset);
      seen.add(saved.nextOffset ?? -1n);
    }
  };
  await Promise.all([save(), ...[...clients, ...clients].map(read)]);
  expect(seen.size).toBeGreaterThan(30);
  await pool.close();
});

test("a thousand pages at once, of a database that is away, go in a few statements over their connections", async () => {
  const { proxy, url } = await proxiedPostgres(store.database.url);
  await using _proxy = proxy;
  const pool = openPool(url, 3);
  const { pool: asked, sizes } = counted(pool);
  const rows = new Rows(asked, 3, systemClock);
  proxy.mode = "hold";
  const pages = Array.from({ length: 1_000 }, (_, n) => rows.page(orderOf(`client ${n}`), PLAIN, ALL, 60_000));
  await until("the first statements are under way", () => proxy.counts.open > 0);
  proxy.mode = "pass";
  expect(await Promise.all(pages)).toHaveLength(1_000);
  expect(sizes.length).toBeLessThan(80);
  expect(proxy.counts.connections).toBeLessThanOrEqual(3);
  await pool.close();
});

test("a crowd that asks for one page reads it once, and shares what is printed", async () => {
  const pool = openPool(store.database.url);
  const { pool: asked, sizes } = counted(pool);
  const rows = new Rows(asked, 1, systemClock);
  const hot = (): Promise<Saved> => rows.page(orderOf("a"), PLAIN, ALL, 60_000);
  const first = hot();
  await until("it is under way", () => sizes.length === 1);
  const crowd = await Promise.all(Array.from({ length: 1_000 }, hot));
  expect(sizes).toEqual([1, 1]);
  expect(new Set(crowd).size).toBe(1);
  expect(crowd[0]).not.toBe(await first);
  expect(crowd[0]).toEqual(await first);
  await pool.close();
});

test("unsaved events are looked up once, until rows come back", async () => {
  await using own = await freshStore(1);
  const lookedUp: string[] = [];
  const pool = openPool(own.database.url);
  const ask: Pool["rows"] = (text, values, timeoutMs) => {
    lookedUp.push((values[9] as string[]).join());
    return pool.rows(text, values, timeoutMs);
  };
  const rows = new Rows({ rows: ask } as Pool, 1, systemClock);
  const order = new ClientOrder("a", { epoch: 1, partitions: new Map([[1, 1]]) });
  const events = ["new", "old"].map((id) => ({ id, previous: -1n }) as TailEvent);
  const places = async (): Promise<string[]> => [
    ...(await rows.page(order, PLAIN, { events, tailStart: 0n, rowsAfter: null }, 60_000)).places.keys(),
  ];
  const save = (id: string, offset: number): Promise<unknown> =>
    own.database.query("INSERT INTO spillway.event VALUES ('a', 1, $2, $1, 't', now(), now(), '1')", [id, offset]);
  await save("old", 1);
  await own.database.query("UPDATE spillway.checkpoint SET next_offset = 10");
  expect([await places(), await places()]).toEqual([["old"], ["old"]]);
  expect(lookedUp.splice(0)).toEqual(['{"new","old"}', '{"old"}']);
  // An older backup: its checkpoint is lower, and a row is there again that its owner had erased.
  await save("new", 2);
  await own.database.query("UPDATE spillway.checkpoint SET next_offset = 9");
  expect(await places()).toEqual(["new", "old"]);
  expect(lookedUp).toEqual(['{"old"}', '{"new","old"}']);
  await pool.close();
});

describe("one of many that the database does not bear", () => {
  let own: Store;
  beforeAll(async () => {
    own = await freshStore(1);
    for (const statement of [
      `INSERT INTO spillway.event SELECT c, 1, n, c || n, 't', now(), now(), '1' FROM unnest('{slow,a,b,c}'::text[]) AS c,
         generate_series(1, 5) AS n`,
      "UPDATE spillway.checkpoint SET next_offset = 10",
      `CREATE FUNCTION spillway.slow(c text, data json) RETURNS json LANGUAGE plpgsql STABLE AS
         $$ BEGIN IF c = 'slow' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN data; END $$`,
      "ALTER TABLE spillway.event RENAME TO event_at_once",
      `CREATE VIEW spillway.event AS SELECT client_id, log_epoch, "offset", id, type, occurred_at, received_at,
         spillway.slow(client_id, data) AS data FROM spillway.event_at_once`,
    ])
      await own.database.query(statement);
  });
  afterAll(() => own[Symbol.asyncDispose]());
  const ask = (rows: Rows, clientId: string, timeoutMs = 60_000): Promise<Saved> =>
    rows.page(new ClientOrder(clientId, { epoch: 1, partitions: new Map([[1, 1]]) }), PLAIN, ALL, timeoutMs);

  test("fails alone where the role's own limit ends its statement", async () => {
    await using _held = await holdTransaction(own.database.url, "SELECT pg_advisory_xact_lock(1)");
    const limited = new URL(own.database.url);
    limited.searchParams.set("options", "-c statement_timeout=500");
    const pool = openPool(limited.href, 2);
    const { pool: asked, sizes } = counted(pool);
    const rows = new Rows(asked, 2, systemClock);
    const answers = await Promise.allSettled(["a", "slow", "b", "c"].map((clientId) => ask(rows, clientId)));
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled", "fulfilled"]);
    expect(answers[1]).toMatchObject({ reason: { code: "57014" } });
    expect(sizes).toEqual([4, 1, 1, 1, 1]);
    await pool.close();
  });

  test("keeps nobody beyond his own deadline, and holds up no others that come later", async () => {
    await using _held = await holdTransaction(own.database.url, "SELECT pg_advisory_xact_lock(1)");
    const pool = openPool(own.database.url, 2);
    const rows = new Rows(pool, 2, systemClock);
    const slow = ask(rows, "slow", 3_000).catch((error: unknown) => error);
    await expect(ask(rows, "a", 300)).rejects.toThrow("Query read timeout");
    expect((await ask(rows, "b")).rows.events).toHaveLength(5);
    expect(((await slow) as Error).message).toMatch("Query read timeout");
    expect((await ask(rows, "a")).rows.events).toHaveLength(5);
    await pool.close();
  });
});
