/**
 * Promise: the relay's statements take what waits and nothing else, within bounds, and leave no transaction open. Attack: large rows,
 * times before 1970 and in fractions, numbers that jsonb prints at length, rows that were recorded or set aside meanwhile, two relays.
 */
import { beforeAll, beforeEach, expect, test } from "vitest";
import { EventBuffer } from "../../apps/relay/buffer.ts";
import { judge } from "../../apps/relay/judge.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { freshBuffer } from "../support/buffer.ts";
import { type Database, privatePostgres } from "../support/postgres.ts";
import { openPool } from "../support/store.ts";

let postgres: PostgresServer & AsyncDisposable;
let database: Database;
let buffer: EventBuffer;

beforeAll(async () => {
  postgres = await privatePostgres();
  return () => postgres.remove();
});

beforeEach(async () => {
  database = await freshBuffer(postgres.url);
  const pool = openPool(database.url);
  buffer = new EventBuffer(pool);
  return async () => {
    await pool.close();
    await database.drop();
  };
});

const emit = (id: string, more = "", values: readonly unknown[] = []): Promise<unknown> =>
  database.query(`SELECT spillway.emit('A', 't', id => $1${more})`, [id, ...values]);
const ids = async (rowsMax = 100, bytesMax = 1 << 20): Promise<string[]> =>
  (await buffer.page(rowsMax, bytesMax)).map(({ id }) => id);

test("a page ends at its rows and at its bytes, and has its first row whatever that takes", async () => {
  await emit("large", ", data => to_jsonb(repeat('x', 200000))");
  for (const id of ["1", "2", "3", "4"]) await emit(id, ", data => to_jsonb(repeat('x', 9000))");
  expect(await ids()).toEqual(["large", "1", "2", "3", "4"]);
  expect(await ids(2)).toEqual(["large", "1"]);
  expect(await ids(100, 1)).toEqual(["large"]);
  // 200,002 + 2 × 9,002 and 1,024 each.
  expect(await ids(100, 221_077)).toEqual(["large", "1"]);
  expect(await ids(100, 221_078)).toEqual(["large", "1", "2"]);
});

test("a row becomes the event that POST would make of it", async () => {
  await emit("bare");
  await emit("full", ", data => $2, occurred_at => $3", [
    '{"b": 1.0, "a": [1e2, -0.0, 0.1, "é\\u2028"], "2": null, "1": {}}',
    "1969-12-31 23:59:59.9996+00",
  ]);
  await emit("late", ", occurred_at => $2", ["9999-12-31 23:59:59.999999+00"]);
  await emit("early", ", occurred_at => $2", ["0001-01-01 00:00:00+00"]);
  await emit("usual", ", occurred_at => $2", ["2026-01-31 08:00:00.1239+00"]);
  const judged = (await buffer.page(10, 1 << 20)).map((row) => judge(row, 5));
  const [bare, ...others] = judged.map((one) => (one.ok ? one.event : one));
  expect(bare).toMatchObject({ clientId: "A", id: "bare", type: "t", receivedAtMs: 5, data: null });
  expect(others).toMatchObject([
    { id: "full", data: '{"1":{},"2":null,"a":[100,0,0.1,"é\u2028"],"b":1}', occurredAtMs: -1 },
    { id: "late", occurredAtMs: Date.parse("9999-12-31T23:59:59.999Z") },
    { id: "early", occurredAtMs: Date.parse("0001-01-01T00:00:00.000Z") },
    { id: "usual", occurredAtMs: Date.parse("2026-01-31T08:00:00.123Z") },
  ]);
});

test("what was published is recorded and what was set aside is not, whoever says so twice", async () => {
  for (const id of ["1", "2", "3"]) await emit(id);
  const rows = await buffer.page(10, 1 << 20);
  const [first, second, third] = rows;
  if (!first || !second || !third) throw new Error("three rows were written");
  await buffer.record([first]);
  await buffer.setAside([
    { row: first, code: "too-deep", why: "late" },
    { row: second, code: "too-deep", why: "it is" },
  ]);
  const states = () =>
    database.query(
      "SELECT id, recorded IS NOT NULL AS recorded, set_aside, set_aside_why AS why FROM spillway.event_buffer ORDER BY id",
    );
  expect(await states()).toEqual([
    { id: "1", recorded: true, set_aside: null, why: null },
    { id: "2", recorded: false, set_aside: "too-deep", why: "it is" },
    { id: "3", recorded: false, set_aside: null, why: null },
  ]);
  expect(await ids()).toEqual(["3"]);
  expect(await buffer.backlog()).toMatchObject({ waiting: 1, setAside: 1 });
  // Another relay's append of a row that this one set aside has arrived after all.
  await buffer.record([second, third]);
  expect(await buffer.backlog()).toEqual({ waiting: 0, oldestMs: 0, setAside: 0 });
});

test("a row that appears late, below others that are recorded, is taken", async () => {
  await emit("1");
  const [seen] = await buffer.page(10, 1 << 20);
  await database.query("SELECT setval('spillway.event_buffer_position', 100)");
  await emit("2");
  await buffer.record(await buffer.page(10, 1 << 20));
  // As a long transaction's: drawn before the others', committed after.
  await database.query("SELECT setval('spillway.event_buffer_position', 50)");
  await emit("late");
  const [late] = await buffer.page(10, 1 << 20);
  expect([seen?.id, late?.id, late?.position]).toEqual(["1", "late", "51"]);
});

test("recorded rows are removed in steps once they are old, and what waits never is", async () => {
  for (const id of ["1", "2", "3", "4", "5"]) await emit(id);
  const rows = await buffer.page(10, 1 << 20);
  await buffer.record(rows.filter(({ id }) => id !== "3"));
  expect(await buffer.removeRecorded("0", 10, 3_600_000)).toMatchObject({ rows: 0, more: false });
  expect(await buffer.removeRecorded("0", 2, 0)).toEqual({ rows: 2, last: rows[1]?.position, more: true });
  expect(await buffer.removeRecorded(rows[1]?.position ?? "", 3, 0)).toEqual({
    rows: 2,
    last: rows[4]?.position,
    more: false,
  });
  expect(await ids()).toEqual(["3"]);
});

test("rows that a long transaction brought late do not keep the older ones behind them from being removed", async () => {
  for (const id of ["late", "1", "2", "3", "4"]) await emit(id);
  const rows = await buffer.page(10, 1 << 20);
  await buffer.record(rows.slice(1));
  await database.query("UPDATE spillway.event_buffer SET recorded = now() - interval '2 h' WHERE recorded IS NOT NULL");
  await buffer.record(rows.slice(0, 1));
  const first = await buffer.removeRecorded("0", 2, 3_600_000);
  expect(first).toEqual({ rows: 1, last: rows[1]?.position, more: true });
  expect(await buffer.removeRecorded(first.last, 2, 3_600_000)).toMatchObject({ rows: 2, more: true });
  expect(await buffer.removeRecorded("0", 2, 3_600_000)).toMatchObject({ rows: 1 });
  expect(await buffer.removeRecorded("0", 2, 3_600_000)).toMatchObject({ rows: 0, more: false });
  expect(await database.query("SELECT id FROM spillway.event_buffer")).toEqual([{ id: "late" }]);
});

test("a lease by a clock that was ahead, as of the server before a fail-over, keeps no relay from working", async () => {
  expect(await buffer.lease("one", 7_000)).toBe(true);
  await database.query("UPDATE spillway.event_buffer_relay SET until = until + interval '1 h'");
  expect(await buffer.lease("two", 7_000)).toBe(true);
  expect(await buffer.lease("one", 7_000)).toBe(false);
});

test("of two relays one works, for as long as it says so, and the other one then or when it gives way", async () => {
  expect(await buffer.lease("one", 60_000)).toBe(true);
  expect(await buffer.lease("two", 60_000)).toBe(false);
  expect(await buffer.lease("one", 60_000)).toBe(true);
  await buffer.release("two");
  expect(await buffer.lease("two", 60_000)).toBe(false);
  await buffer.release("one");
  expect(await buffer.lease("two", 0)).toBe(true);
  expect(await buffer.lease("one", 60_000)).toBe(true);
  expect(await buffer.lease("two", 60_000)).toBe(false);
});
