/** One transaction against a real PostgreSQL: what it did not do entirely, it did not do at all. */
import fc from "fast-check";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { recordHash } from "#lib/continuity.ts";
import type { Event } from "#lib/event.ts";
import { timeText } from "#lib/event.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import type { Pool, Transaction, TransactionLimits } from "#lib/postgres/pool.ts";
import { classify } from "#lib/postgres/sqlstate.ts";
import { StoreRefusesAll } from "../../../apps/sink/bisect.ts";
import { write } from "../../../apps/sink/write.ts";
import { anyEvent, clientOf, rawRecord, recordOf, someEvent } from "../../support/records.ts";
import { batchOf, EPOCH, freshStore, openPool, type Store } from "../../support/store.ts";

const PARTITIONS = 2;
const clients = [clientOf(0, PARTITIONS), clientOf(1, PARTITIONS)] as const;
const event = (partition: 0 | 1, id: string, more: Partial<Event> = {}): Event =>
  someEvent({ clientId: clients[partition], id, ...more });
/** One record an id, at ascending offsets. */
const records = (partition: 0 | 1, ids: readonly string[], from = 0) =>
  ids.map((id, n) => recordOf(event(partition, id), BigInt(from + n)));

let store: Store;
beforeEach(async () => {
  store = await freshStore(PARTITIONS);
  onTestFinished(() => store[Symbol.asyncDispose]());
});

test("rows, dead letters and checkpoints of several partitions appear together", async () => {
  const poison = rawRecord(2n, "k", Buffer.from([0, 255, 1]));
  const batch = await batchOf(PARTITIONS, { 0: [...records(0, ["a", "b"]), poison], 1: records(1, ["c"]) });
  expect(await store.write(batch)).toMatchObject({
    kind: "written",
    rows: 3,
    copies: 0,
    dead: [{ reason: "undecodable" }],
  });
  expect(await store.rows()).toEqual(expect.arrayContaining(["0 a", "0 c", "1 b"]));
  expect(await store.checkpoints()).toEqual(["0:3", "1:1"]);
  const [dead] = await store.database.query<{ key: Buffer; value: Buffer; at: string }>(
    "SELECT key, value, record_time AS at FROM spillway.dead_letter",
  );
  expect(dead).toEqual({ key: poison.key, value: poison.value, at: new Date(poison.timestampMs) });
  const checkpoint = (await readCheckpoints(store.pool, EPOCH, [0])).get(0);
  expect(checkpoint).toEqual({ nextOffset: 3n, last: { offset: 2n, hash: recordHash(poison) } });
});

test("a detail that quotes what PostgreSQL cannot keep does not stop the partition", async () => {
  const poison = recordOf(event(0, "a\0\ud800"), 0n);
  const batch = await batchOf(PARTITIONS, { 0: [poison, rawRecord(1n, null, null)] });
  expect(await store.write(batch)).toMatchObject({ kind: "written", rows: 0 });
  expect(await store.dead()).toEqual(["0 unstorable-text", "1 undecodable"]);
});

test("a record of a time that PostgreSQL does not know does not stop the partition", async () => {
  const nanoseconds = { ...rawRecord(0n, "k", "no event"), timestampMs: 1_700_000_000_000_000_000 };
  const batch = await batchOf(PARTITIONS, { 0: [nanoseconds, { ...rawRecord(1n, "k", "no event"), timestampMs: -1 }] });
  expect(await store.write(batch)).toMatchObject({ kind: "written", rows: 0 });
  expect(await store.dead()).toEqual(["0 undecodable", "1 undecodable"]);
});

test("a checkpoint that stands elsewhere fences the whole batch, and nothing is written", async () => {
  await store.write(await batchOf(PARTITIONS, { 1: records(1, ["x"]) }));
  const late = await batchOf(PARTITIONS, { 0: records(0, ["a"]), 1: records(1, ["y"]) }, 0n);
  expect(await store.write(late)).toEqual({ kind: "fenced", partitions: [1] });
  expect(await store.rows()).toEqual(["0 x"]);
  expect(await store.checkpoints()).toEqual(["0:0", "1:1"]);
});

describe("copies", () => {
  test("make COPY refuse the batch, and are left out by staging: the first one is kept, with its bytes", async () => {
    await store.write(await batchOf(PARTITIONS, { 0: records(0, ["a"]) }));
    const batch = await batchOf(PARTITIONS, {
      0: [
        recordOf(event(0, "a", { data: '"second"' }), 1n),
        recordOf(event(0, "b", { data: '"first"' }), 2n),
        recordOf(event(0, "c"), 3n),
        recordOf(event(0, "b", { data: '"second"' }), 4n),
      ],
      1: records(1, ["a"]),
    });
    const refused = await store.write(batch).catch((error: unknown) => error);
    expect(classify(refused)).toBe("duplicate");
    expect(await store.checkpoints()).toEqual(["0:1", "1:0"]);
    expect(await store.write(batch, "stage")).toMatchObject({ kind: "written", rows: 3, copies: 2, dead: [] });
    expect(await store.rows()).toEqual(expect.arrayContaining(["0 a", "0 a", "2 b", "3 c"]));
    expect(await store.checkpoints()).toEqual(["0:5", "1:1"]);
    const kept = await store.database.query(`SELECT data::text AS d FROM spillway.event WHERE id = 'b'`);
    expect(kept).toEqual([{ d: '"first"' }]);
  });

  test("a replay of what is saved changes nothing", async () => {
    const batch = await batchOf(PARTITIONS, { 0: records(0, ["a", "b"]) });
    await store.write(batch);
    const before = await store.database.query("SELECT *, xmin::text FROM spillway.event ORDER BY id");
    await store.database.query("UPDATE spillway.checkpoint SET next_offset = 0");
    expect(await store.write(batch, "stage")).toMatchObject({ rows: 0, copies: 2 });
    expect(await store.database.query("SELECT *, xmin::text FROM spillway.event ORDER BY id")).toEqual(before);
    expect(await store.checkpoints()).toEqual(["0:2", "1:0"]);
  });

  test("are left out though the table has columns of the user's own that must not be null", async () => {
    await store.write(await batchOf(PARTITIONS, { 0: records(0, ["a"]) }));
    await store.database.query(
      `ALTER TABLE spillway.event ADD COLUMN seen boolean NOT NULL DEFAULT false,
         ADD COLUMN nth bigint GENERATED ALWAYS AS IDENTITY,
         ADD COLUMN size int NOT NULL GENERATED ALWAYS AS (octet_length(id)) STORED`,
    );
    const batch = await batchOf(PARTITIONS, { 0: [recordOf(event(0, "a"), 1n), recordOf(event(0, "b"), 2n)] });
    expect(await store.write(batch, "stage")).toMatchObject({ rows: 1, copies: 1, dead: [] });
    expect(await store.rows()).toEqual(["0 a", "2 b"]);
  });

  test("are left out without a look at a table of the user's own that has the same name", async () => {
    await store.database.query("CREATE TABLE public.spillway_staged AS TABLE spillway.event WITH NO DATA");
    await store.database.query(`INSERT INTO public.spillway_staged (id) VALUES ('mine')`);
    const [{ name } = { name: "" }] = await store.database.query<{ name: string }>("SELECT current_database() AS name");
    await store.database.query(`ALTER DATABASE ${name} SET search_path = public, pg_temp`);
    const pool = openPool(store.database.url);
    onTestFinished(() => pool.close());
    const batch = await batchOf(PARTITIONS, { 0: [...records(0, ["a"]), recordOf(event(0, "a"), 1n)] });
    expect(await write(pool, EPOCH, batch, "stage", systemClock)).toMatchObject({ rows: 1, copies: 1 });
    expect(await store.database.query("SELECT id FROM public.spillway_staged")).toEqual([{ id: "mine" }]);
  });

  test("another event at the same position is none: it is refused, never swallowed", async () => {
    await store.write(await batchOf(PARTITIONS, { 0: records(0, ["a"]) }));
    await store.database.query("UPDATE spillway.checkpoint SET next_offset = 0");
    const other = await batchOf(PARTITIONS, { 0: records(0, ["another"]) });
    for (const way of ["copy", "stage", "bisect"] as const)
      expect(await store.write(other, way).catch((error: unknown) => (error as { code: string }).code)).toBe("23505");
    expect(await store.rows()).toEqual(["0 a"]);
    expect(await store.checkpoints()).toEqual(["0:0", "1:0"]);
  });
});

describe("rows that the table refuses", () => {
  const ids = Array.from({ length: 40 }, (_, n) => `e${n}`);
  const bad = ["e0", "e7", "e8", "e31", "e39"];
  const forbid = (condition: string) =>
    store.database.query(`ALTER TABLE spillway.event ADD CONSTRAINT mine CHECK (${condition})`);

  test("are found and set aside, exactly those; copies stay copies", async () => {
    await forbid(`id NOT IN (${bad.map((id) => `'${id}'`).join()})`);
    const some = [...records(0, ids), recordOf(event(0, "e1", { data: "2" }), 40n)];
    const batch = await batchOf(PARTITIONS, { 0: some, 1: records(1, ["fine"]) });
    expect(classify(await store.write(batch).catch((error: unknown) => error))).toBe("data");
    const written = await store.write(batch, "bisect");
    expect(written).toMatchObject({ kind: "written", rows: 36, copies: 1 });
    expect(await store.dead()).toEqual(bad.map((id) => `${id.slice(1)} refused-23514`));
    expect((await store.rows()).map((row) => row.split(" ")[1]).sort()).toEqual(
      [...ids.filter((id) => !bad.includes(id)), "fine"].sort(),
    );
    expect(await store.checkpoints()).toEqual(["0:41", "1:1"]);
    const [first] = await store.database.query(`SELECT data::text AS d FROM spillway.event WHERE id = 'e1'`);
    expect(first).toEqual({ d: '{"a":1}' });
  });

  test("cost no statement each, however many they are", async () => {
    await forbid("right(id, 1) NOT IN ('1', '3', '5', '7', '9')");
    const batch = await batchOf(PARTITIONS, {
      0: records(
        0,
        Array.from({ length: 2_000 }, (_, n) => `e${n}`),
      ),
    });
    let statements = 0;
    const counted = (transaction: Transaction): Transaction => ({
      ...transaction,
      query: (...asked) => {
        statements++;
        return transaction.query(...asked);
      },
    });
    const pool = {
      transaction: <T>(limits: TransactionLimits, work: (transaction: Transaction) => Promise<T>) =>
        store.pool.transaction(limits, (transaction) => work(counted(transaction))),
    } as Pool;
    const written = await write(pool, EPOCH, batch, "bisect", systemClock);
    expect(written).toMatchObject({ kind: "written", rows: 1_000, copies: 0 });
    expect(new Set(await store.dead())).toEqual(
      new Set(Array.from({ length: 1_000 }, (_, n) => `${2 * n + 1} refused-23514`)),
    );
    expect(statements).toBeLessThan(20);
  });

  test("by an error of a trigger are data too, if the trigger says so", async () => {
    await store.database.query(`CREATE FUNCTION spillway.no() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.id = 'e7' THEN RAISE 'not this one' USING ERRCODE = '22023'; END IF; RETURN NEW; END $$`);
    await store.database.query(
      "CREATE TRIGGER no BEFORE INSERT ON spillway.event FOR EACH ROW EXECUTE FUNCTION spillway.no()",
    );
    const batch = await batchOf(PARTITIONS, { 0: records(0, ids) });
    expect(await store.write(batch, "bisect")).toMatchObject({
      rows: 39,
      dead: [{ reason: "refused-22023", detail: "not this one" }],
    });
    expect(await store.dead()).toEqual(["7 refused-22023"]);
  });

  test("when the transaction commits, by a rule that is deferred, are found too", async () => {
    await store.database.query("CREATE TABLE public.customer (id text PRIMARY KEY)");
    await store.database.query("INSERT INTO public.customer VALUES ($1)", [clients[0]]);
    await store.database.query(
      "ALTER TABLE spillway.event ADD FOREIGN KEY (client_id) REFERENCES public.customer (id) DEFERRABLE INITIALLY DEFERRED",
    );
    const batch = await batchOf(PARTITIONS, { 0: records(0, ids), 1: records(1, ["nobody's"]) });
    expect(classify(await store.write(batch).catch((error: unknown) => error))).toBe("data");
    expect(await store.write(batch, "bisect")).toMatchObject({ rows: 40, dead: [{ reason: "refused-23503" }] });
    expect(await store.checkpoints()).toEqual(["0:40", "1:1"]);
  });

  test("when they are all, and many, are the table's fault: nothing is set aside", async () => {
    await forbid("false");
    const batch = await batchOf(PARTITIONS, { 0: records(0, ids) });
    const error = await store.write(batch, "bisect").catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(StoreRefusesAll);
    expect(classify(error)).toBe("bug");
    expect([await store.dead(), await store.checkpoints()]).toEqual([[], ["0:0", "1:0"]]);
  });

  test("when they are all, but few, are set aside", async () => {
    await forbid("false");
    const batch = await batchOf(PARTITIONS, { 0: records(0, ["a", "b", "c"]) });
    expect(await store.write(batch, "bisect")).toMatchObject({ rows: 0, copies: 0 });
    expect(await store.dead()).toEqual(["0 refused-23514", "1 refused-23514", "2 refused-23514"]);
  });
});

test("whatever an event holds is stored and comes back as it was, byte for byte", async () => {
  let offset = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(anyEvent, { minLength: 1, maxLength: 20, selector: ({ id }) => id }),
      async (some) => {
        const given = some.map((one) => ({ ...one, clientId: clients[0] + one.clientId, id: `${offset} ${one.id}` }));
        const placed = given.map((one, n) => ({ ...one, clientId: inFirst(one.clientId), n }));
        const batch = await batchOf(PARTITIONS, { 0: placed.map((one) => recordOf(one, BigInt(offset + one.n))) });
        expect(await store.write(batch)).toMatchObject({ kind: "written", rows: some.length, dead: [] });
        const rows = await store.database.query(
          `SELECT client_id AS "clientId", id, type, data::text AS data,
                to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "occurredAt",
                to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "receivedAt"
           FROM spillway.event WHERE "offset" >= $1 ORDER BY "offset"`,
          [offset],
        );
        expect(rows).toEqual(
          placed.map(({ clientId, id, type, data, occurredAtMs, receivedAtMs }) => ({
            clientId,
            id,
            type,
            data,
            occurredAt: timeText(occurredAtMs),
            receivedAt: timeText(receivedAtMs),
          })),
        );
        offset += some.length;
      },
    ),
    { numRuns: 40 },
  );
});

/** The same client with so many spaces behind that it lies in partition 0. */
function inFirst(clientId: string): string {
  return clientOf(0, PARTITIONS, clientId);
}
