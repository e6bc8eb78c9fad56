/** Servers that are there and do not answer, as frozen ones: what roles say of it, and how often. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { proxiedPostgres, type TcpProxy } from "../../infra/proxy.ts";
import { type ProxiedKafka, proxiedKafka } from "../promises/support/faults.ts";
import { type Database, freshDatabase } from "../support/postgres.ts";
import { type App, startApp } from "../support/process.ts";
import { until } from "../support/until.ts";

let kafka: ProxiedKafka;
let database: Database;
let postgres: { proxy: TcpProxy; url: string };
let web: App;
let sink: App;
beforeAll(async () => {
  kafka = await proxiedKafka();
  database = await freshDatabase();
  postgres = await proxiedPostgres(database.url);
  const env = { KAFKA_BROKERS: kafka.kafka.brokers, DATABASE_URL: postgres.url, SPILLWAY_PARTITIONS: "2" };
  [web, sink] = await Promise.all([startApp("apps/web/main.ts", env), startApp("apps/sink/main.ts", env)]);
  await Promise.all([web.ready(), sink.ready()]);
  expect((await append(1)).status).toBe(201);
  await until("it is saved", async () => (await lag()) === 0);
}, 120_000);
afterAll(async () => {
  await Promise.all([web.kill(), sink.kill()]);
  await postgres.proxy.close();
  await kafka[Symbol.asyncDispose]();
  await database.drop();
});

const append = (count: number): Promise<Response> =>
  fetch(`${web.url}/api/v1/events`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(Array.from({ length: count }, () => ({ clientId: "1", type: "t" }))),
  });

interface Told {
  readonly ready: boolean;
  readonly missing: readonly string[];
  readonly degraded: readonly string[];
}
const told = async (app: App): Promise<Told> => (await (await fetch(`${app.url}/readyz`)).json()) as Told;

/** What the sink's metric says, of all its partitions. */
async function lag(): Promise<number> {
  const lines = (await (await fetch(`${sink.url}/metrics`)).text()).split("\n");
  const values = lines.filter((line) => line.startsWith("spillway_sink_lag_records{"));
  expect(values).toHaveLength(2);
  return values.reduce((sum, line) => sum + Number(line.split(" ")[1]), 0);
}

/** The warnings of a process since it had written so many lines. */
const warnings = (app: App, from: number): string[] =>
  app.lines
    .slice(from)
    .map((line) => JSON.parse(line) as { level: string; msg: string })
    .filter(({ level }) => level === "warn" || level === "error")
    .map(({ msg }) => msg);

test("a database that is frozen is told of by the sink, with its address, before any statement is given up; and the lag grows", async () => {
  postgres.proxy.mode = "hold";
  expect((await append(370)).status).toBe(201);
  const address = `127.0.0.1:${postgres.proxy.port}/`;
  const { missing } = await until("the sink says so", async () => {
    const state = await told(sink);
    return state.ready ? null : state;
  });
  expect(missing).toEqual([expect.stringMatching(new RegExp(`^store: ${address}\\S+: no answer \\(since `))]);
  expect((await told(sink)).missing).toEqual(missing);
  expect(await lag()).toBe(370);
  const { degraded } = await until("the query node says so", async () => {
    const state = await told(web);
    return state.degraded.length > 0 ? state : null;
  });
  expect(degraded).toEqual([expect.stringMatching(new RegExp(`^query: store: ${address}\\S+ does not answer`))]);
  postgres.proxy.mode = "pass";
  await sink.ready();
  await until("all is saved", async () => (await lag()) === 0);
});

describe("a log that", () => {
  test("is frozen makes every role unready within a poll and some seconds, with its address, since one and the same moment", async () => {
    const from = { web: web.lines.length, sink: sink.lines.length };
    kafka.proxy.mode = "hold";
    for (const [app, roles] of [
      [web, ["ingest: ", "query: "]],
      [sink, [""]],
    ] as const) {
      const state = await until(`${roles.join()} say so`, async () => {
        const seen = await told(app);
        return seen.missing.length === roles.length ? seen : null;
      });
      const since = state.missing.map((line, nth) => {
        // By our own patience: the client library's requests last 15 s.
        const said = `^${roles[nth]}log: no answer from ${kafka.kafka.brokers} \\(.*: no answer for \\d+ ms\\) \\(since (.*)\\)$`;
        expect(line).toMatch(new RegExp(said));
        return new RegExp(said).exec(line)?.[1];
      });
      expect(new Set(since).size).toBe(1);
      expect((await told(app)).missing.map((line) => /since (.*)\)$/.exec(line)?.[1])).toEqual(since);
    }
    kafka.proxy.mode = "pass";
    await Promise.all([web.ready(), sink.ready()]);
    for (const [app, begin] of [
      [web, from.web],
      [sink, from.sink],
    ] as const) {
      await until("it is back", () => warnings(app, begin).includes("log is back"));
      expect(warnings(app, begin)).toEqual(["log lost", "log is back"]);
    }
  });

  test("cannot be reached is one warning when it is lost, and one when it is back, that counts what was refused", async () => {
    const from = { web: web.lines.length, sink: sink.lines.length };
    kafka.proxy.mode = "refuse";
    const refused = [await append(2), await append(3)];
    expect(refused.map(({ status }) => status)).toEqual([503, 503]);
    kafka.proxy.mode = "pass";
    await Promise.all([web.ready(), sink.ready()]);
    for (const [app, begin] of [
      [web, from.web],
      [sink, from.sink],
    ] as const) {
      await until("it is back", () => warnings(app, begin).includes("log is back"));
      expect(warnings(app, begin)).toEqual(["log lost", "log is back"]);
    }
    expect(web.lines.slice(from.web).find((line) => line.includes("log lost"))).toContain(kafka.kafka.brokers);
    expect(web.lines.slice(from.web).find((line) => line.includes("log is back"))).toContain('"refusedEvents":5');
  });
});
