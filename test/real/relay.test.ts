/**
 * Promise: a relay that cannot work says why and goes on by itself, one that dies is replaced, and a row that can be no event harms
 * no other. Attack: no event buffer yet, a role with the least rights, a server without a free connection, kill -9, rows that the
 * trigger never saw, a log that refuses a size, a log that is full.
 */
import { Kafka, logLevel } from "kafkajs";
import { expect, test } from "vitest";
import { type Role, type Spillway, startSpillway } from "../promises/support/spillway.ts";
import { takeAllConnections } from "../promises/support/store-faults.ts";
import { freshBuffer, installInto } from "../support/buffer.ts";
import { sharedBrokers } from "../support/kafka.ts";
import { type Database, freshDatabase, privatePostgres, queryOnce } from "../support/postgres.ts";
import { until } from "../support/until.ts";

const readiness = async ({ url }: Role): Promise<{ ready: boolean; missing: string[]; degraded: string[] }> =>
  (await (await fetch(`${url}/readyz`)).json()) as { ready: boolean; missing: string[]; degraded: string[] };

/** Resolves once /readyz tells of it. */
const tells = (relay: Role, what: string): Promise<string> =>
  until(`/readyz tells: ${what}`, async () => {
    const { missing, degraded } = await readiness(relay);
    const found = [...missing, ...degraded].find((one) => one.includes(what));
    if (found === undefined) throw new Error(JSON.stringify([missing, degraded]));
    return found;
  });

type App = Pick<Database, "query">;

const emit = (app: App, clientId: string, ids: readonly string[], data = "{}"): Promise<unknown> =>
  app.query("SELECT spillway.emit_many($1)", [
    JSON.stringify(ids.map((id) => ({ clientId, type: "t", id, data: JSON.parse(data) as unknown }))),
  ]);

/** Resolves once nothing waits. */
const drained = (app: App, limitMs?: number): Promise<unknown> =>
  until(
    "nothing waits",
    async () => {
      const [total] = await app.query<{ waiting: string }>("SELECT waiting FROM spillway.backlog_total");
      return total?.waiting === "0";
    },
    { ...(limitMs && { limitMs }) },
  );

/** Ids of a client in the order of the log, copies too. */
async function onLog(spillway: Spillway, clientId: string): Promise<string[]> {
  const records = await (await spillway.log()).records();
  return records.flatMap(({ event }) => (event?.clientId === clientId ? [event.id] : []));
}

const setAside = (app: App): Promise<{ id: string; set_aside: string; why: string }[]> =>
  app.query(
    "SELECT id, set_aside, set_aside_why AS why FROM spillway.event_buffer WHERE set_aside IS NOT NULL ORDER BY position",
  );

test("a relay waits for the event buffer and for its rights, says what to do, and works with the least of them", async () => {
  await using app = await freshDatabase();
  await using spillway = await startSpillway({});
  const role = `relay_${app.url.slice(-8)}`;
  await app.query(`CREATE ROLE ${role} LOGIN`);
  try {
    const url = new URL(app.url);
    url.username = role;
    const relay = await spillway.add("relay", { DATABASE_URL: url.href, SPILLWAY_BUFFER_KEEP_MS: "0" });
    await relay.launch();
    expect(await tells(relay, "event buffer: ")).toMatch(/npm run relay -- install \(since \d{4}-/);
    await installInto(app.url);
    await tells(relay, "npm run relay -- install --relay-role NAME");
    await installInto(app.url, { relay: [role], writers: [] });
    await relay.app.ready();
    await emit(app, "a", ["1", "2", "3"]);
    await drained(app);
    expect(await onLog(spillway, "a")).toEqual(["1", "2", "3"]);
    await until("recorded rows are removed", async () => {
      const [left] = await app.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.event_buffer");
      return left?.n === 0;
    });
    expect(relay.app.lines.filter((line) => line.includes("not tended"))).toEqual([]);
    expect(await relay.app.stop()).toBe(0);
  } finally {
    await app.query(`DROP OWNED BY ${role}`);
    await app.query(`DROP ROLE ${role}`);
  }
});

test("a relay whose database has no free connection, or restarts, waits and goes on by itself", async () => {
  await using postgres = await privatePostgres({ max_connections: "10" });
  const app: App = { query: (text, values) => queryOnce(postgres.url, text, values) };
  await installInto(postgres.url);
  await using spillway = await startSpillway({});
  const relay = await spillway.start("relay", { DATABASE_URL: postgres.url });
  {
    await using _crowd = await takeAllConnections(postgres.url);
    expect(await tells(relay, "event buffer: ")).toContain("overload: ");
  }
  await emit(app, "a", ["1"]);
  await drained(app);
  await postgres.restart();
  await emit(app, "a", ["2"]);
  await drained(app);
  await relay.app.ready();
  expect(await onLog(spillway, "a")).toEqual(["1", "2"]);
});

test("of two relays the one that is killed, and then the one that is stopped, is replaced", async () => {
  await using app = await freshBuffer();
  await using spillway = await startSpillway({});
  const [first, second] = [
    await spillway.start("relay", { DATABASE_URL: app.url }),
    await spillway.start("relay", { DATABASE_URL: app.url }),
  ];
  await first.app.line('"relay works');
  await second.app.line('"relay stands by');
  await emit(app, "a", ["1"]);
  await drained(app);
  await first.kill();
  await emit(app, "a", ["2"]);
  await drained(app);
  await first.start();
  await first.app.line('"relay stands by');
  expect(await second.app.stop()).toBe(0);
  await emit(app, "a", ["3"]);
  await drained(app);
  expect(await onLog(spillway, "a")).toEqual(["1", "2", "3"]);
});

test("rows that can be no event, or that the log refuses for their size, are set aside, told, and block nothing", async () => {
  await using app = await freshBuffer();
  await using spillway = await startSpillway({});
  const relay = await spillway.start("relay", { DATABASE_URL: app.url });
  // Past the trigger, as a restore of a dump brings them.
  await app.query(`ALTER TABLE spillway.event_buffer DISABLE TRIGGER event_buffer_insert;
    INSERT INTO spillway.event_buffer (position, client_id, id, type, occurred_at, data, data_bytes, written_at) VALUES
      (-3, 'a', 'inexact', 't', now(), '[9007199254740993]', 18, now()), (-2, 'a', 'good', 't', now(), NULL, 0, now()),
      (-1, 'a', 'empty', '', now(), NULL, 0, now());
    ALTER TABLE spillway.event_buffer ENABLE ALWAYS TRIGGER event_buffer_insert`);
  await emit(app, "a", ["1"]);
  await drained(app);
  expect(await onLog(spillway, "a")).toEqual(["good", "1"]);
  expect(await setAside(app)).toMatchObject([
    { id: "inexact", set_aside: "inexact-number", why: expect.stringContaining("9007199254740993") as string },
    { id: "empty", set_aside: "invalid-event", why: expect.stringContaining("type is empty") as string },
  ]);
  await relay.app.line('"row set aside"');
  const kafka = new Kafka({ brokers: [sharedBrokers()], logLevel: logLevel.NOTHING }).admin();
  await kafka.connect();
  await kafka.alterConfigs({
    validateOnly: false,
    resources: [{ type: 2, name: spillway.topic, configEntries: [{ name: "max.message.bytes", value: "3000" }] }],
  });
  await kafka.disconnect();
  await emit(app, "b", ["small"]);
  await emit(app, "a", ["2", "3", "4", "5", "6", "7", "8", "9"], JSON.stringify("x".repeat(600)));
  await emit(app, "a", ["large"], JSON.stringify("x".repeat(5_000)));
  await emit(app, "a", ["10"]);
  await drained(app);
  const firsts = [...new Set(await onLog(spillway, "a"))];
  expect(firsts).toEqual(["good", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
  expect((await setAside(app)).slice(2)).toMatchObject([
    { id: "large", set_aside: "invalid-event", why: expect.stringContaining("the log refused it") as string },
  ]);
  expect((await readiness(relay)).ready).toBe(true);
});

test("while the log is full rows wait, and the relay says so; once there is room, they come", async () => {
  await using app = await freshBuffer();
  await using spillway = await startSpillway({ env: { SPILLWAY_LOG_BYTES_MAX: "1000000" } });
  const relay = await spillway.start("relay", { DATABASE_URL: app.url });
  const wanted: string[] = [];
  const write = async (): Promise<void> => {
    const some = Array.from({ length: 100 }, (_, n) => `${wanted.length + n}`);
    wanted.push(...some);
    await emit(app, "a", some, JSON.stringify("x".repeat(2_000)));
  };
  await until("the log is full", async () => {
    await write();
    return (await readiness(relay)).degraded.some((one) => one.includes("new events: refused"));
  });
  for (let n = 0; n < 3; n++) await write();
  const [total] = await app.query<{ waiting: string }>("SELECT waiting FROM spillway.backlog_total");
  expect(Number(total?.waiting)).toBeGreaterThanOrEqual(300);
  expect((await readiness(relay)).ready).toBe(true);
  // With the default margin nothing saved would be deleted: room comes of a higher limit, as of a larger disk.
  await relay.kill();
  const roomy = await spillway.start("relay", { DATABASE_URL: app.url, SPILLWAY_LOG_BYTES_MAX: "1000000000" });
  await drained(app);
  expect([...new Set(await onLog(spillway, "a"))]).toEqual(wanted);
  expect((await readiness(roomy)).degraded).toEqual([]);
});
