import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  busyConnections,
  connectionsFor,
  connectionsNeeded,
  limitFor,
  RESERVED,
  shortages,
  sinksMax,
  UTILISATION,
  verdictOn,
} from "../../infra/budget/budget.ts";
import { type Given, planGiven } from "../../infra/budget/given.ts";
import { planOf, QUERY_CONNECTIONS_MIN, READY, SMALLEST } from "../../infra/budget/roles.ts";
import { limitLines, needLines, readyTable, settingLines, shortageLines } from "../../infra/budget/words.ts";

const NO_SPILLWAY: Given = { query: "0", sink: "0", relay: "0" };
const plan = (given: Given) => planGiven(given).plan;
const text = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

const MAIN = new URL("../../infra/budget/main.ts", import.meta.url).pathname;
const run = (...flags: readonly string[]) => spawnSync(process.execPath, [MAIN, ...flags], { encoding: "utf8" });

describe("the worked figures", () => {
  test("80 servers × 4 workers × 32 are 10,240; with 12 × 55 = 660 they are 10,900 of 10,922: too thin a margin", () => {
    const servers = plan({ ...NO_SPILLWAY, standing: ["servers=80x4x32"] });
    const jobs = plan({ ...NO_SPILLWAY, standing: ["jobs=12x55"] });
    const both = plan({ ...NO_SPILLWAY, standing: ["servers=80x4x32", "jobs=12x55"] });
    expect([servers, jobs, both].map((one) => connectionsNeeded(one, false))).toEqual([10_240, 660, 10_900]);
    expect(verdictOn(10_900, 0, 10_922)).toBe("thin");
    expect(limitLines(both, 10_922, null)[0]).toBe(
      "On 10,922 connections: the margin is too thin (10,900 leave 22; a twentieth, 547, should stay free).",
    );
    // Deployed, they would be there twice.
    const deployed = plan({ ...NO_SPILLWAY, role: ["servers=80x4x32", "jobs=12x55"] });
    expect(connectionsNeeded(deployed, true)).toBe(21_800);
    expect(verdictOn(21_800, 0, 10_922)).toBe("over");
  });

  test("10,000 requests/s at 5 ms keep 50 busy: 100 upstream at half utilisation, + 20 + 10 = 130", () => {
    const given: Given = { ...NO_SPILLWAY, load: ["requests=10000x5"], standing: ["jobs=20"], reserve: "10" };
    const { loads, reserved, ...rest } = plan(given);
    expect(busyConnections(loads)).toBe(50);
    expect(connectionsFor(loads, UTILISATION)).toBe(100);
    expect(connectionsNeeded({ loads, reserved, ...rest }, true) + reserved).toBe(130);
    expect(needLines(plan(given)).at(-1)).toMatch(/^together +130 +130$/);
  });

  test("40 poolers × 10 upstream are 400, within 500, and not within 400", () => {
    const poolers = plan({ ...NO_SPILLWAY, standing: ["poolers=40x10"] });
    expect(connectionsNeeded(poolers, true)).toBe(400);
    expect(verdictOn(400, RESERVED, 500)).toBe("fits");
    expect(verdictOn(400, RESERVED, 400)).toBe("over");
  });

  test("Spillway's roles, each once: (4 + 1 + 1) × 2 for a rolling deploy + 6 reserved = 18 of 20", () => {
    const spillway = planOf(SMALLEST);
    expect(spillway.roles.map(({ connectionsEach }) => connectionsEach)).toEqual([4, 1, 1]);
    expect(connectionsNeeded(spillway, false)).toBe(6);
    expect(connectionsNeeded(spillway, true) + RESERVED).toBe(18);
    expect(limitLines(spillway, 20, null)).toEqual([
      "On 20 connections: in a rolling deploy it fits (12 and 6 reserved are 18); at rest it fits (6 and 6 reserved are 12).",
    ]);
    expect(verdictOn(12, RESERVED, 17)).toBe("over");
  });
});

describe("the arithmetic", () => {
  test("query-milliseconds of several kinds of statements add up, and rounding adds no connection", () => {
    const loads = [
      { name: "read", perSecond: 500, ms: 35 },
      { name: "write", perSecond: 100, ms: 5 },
    ];
    expect(busyConnections(loads)).toBe(18);
    expect(connectionsFor(loads, 0.5)).toBe(36);
    // In doubles 1.1 * 3 is 3.3000000000000003.
    expect(connectionsFor([{ name: "a", perSecond: 1.1, ms: 3 }], 0.0033)).toBe(1);
    expect(connectionsFor([], 0.5)).toBe(0);
  });

  test("a deploy doubles pools that are deployed, and neither those that stand nor the work", () => {
    const mixed = plan({ ...NO_SPILLWAY, role: ["app=3x5"], standing: ["pooler=1x10"], load: ["jobs=1000x2"] });
    expect(connectionsNeeded(mixed, false)).toBe(15 + 10 + 4);
    expect(connectionsNeeded(mixed, true)).toBe(30 + 10 + 4);
  });

  test("the limit that is proposed is the least that fits, for any sum", () => {
    for (let connections = 1; connections < 12_000; connections += 7) {
      const limit = limitFor(connections, RESERVED);
      expect(verdictOn(connections, RESERVED, limit)).toBe("fits");
      expect(verdictOn(connections, RESERVED, limit - 1)).not.toBe("fits");
    }
  });

  test("a node's load must find room in its pools, without the connection for look-ups", () => {
    const three = plan({ query: "3", load: ["query=500x35"] });
    expect(shortages(three)).toMatchObject([{ busy: 17.5, needed: 35, has: 9, processes: 12 }]);
    expect(shortages(plan({ query: "12", load: ["query=500x35"] }))).toEqual([]);
    expect(shortageLines(three)).toEqual([
      "query: the pools do not carry the load. It keeps 17.5 connections busy, and needs 35 where one is busy 0.5 of the time; it has 9 for that: take 12 processes of 4.",
    ]);
    expect(shortageLines(plan({ query: "0", load: ["query=10x5"] }))[0]).toContain(
      "it has 0 for that: take 1 process of 4.",
    );
    // It goes through the pools, and takes nothing beside them.
    expect(connectionsNeeded(three, false)).toBe(14);
  });

  test("sinks are at most a quarter of the connections, and the database's cores", () => {
    expect([sinksMax(20, null), sinksMax(20, 2), sinksMax(2, null)]).toEqual([5, 2, 1]);
    expect(limitLines(plan({ sink: "3" }), 120, 2).at(-1)).toContain("3 sinks are too many: at most 2");
  });
});

describe("what does not fit", () => {
  const ways = (given: Given, limit: number): string[] => limitLines(plan(given), limit, null);

  test("is told with every change that is enough by itself", () => {
    expect(ways({ query: "3" }, 30)).toEqual([
      "On 30 connections: in a rolling deploy it does not fit (28 and 6 reserved are 34, 4 too many); at rest it fits (14 and 6 reserved are 20).",
      "  Change one of these, and run it again for what to set:",
      "  - deploy one role after another (query 2 at a time, sink 1 at a time, relay 1 at a time): SPILLWAY_DATABASE_CONNECTIONS_MAX=22",
      "  - query: 3 connections each instead of 4 (SPILLWAY_QUERY_CONNECTIONS_MAX)",
      "  - query: 2 instead of 3 processes",
      "  - put PgBouncer (transaction mode) before the database, for all of the above, with at most 24 connections to it over all PgBouncer processes; --load tells how many the work needs",
      "  - raise the limit to 34 where you may (max_connections: each connection is a process of the database)",
    ]);
  });

  test("is proposed no change that would not do, down to the least pool that a node works with", () => {
    for (let limit = 8; limit < 40; limit += 1) {
      const told = ways({ query: "3" }, limit).join("\n");
      const pool = /query: (\d+) connections each instead/.exec(told)?.[1];
      const processes = /query: (\d+) instead/.exec(told)?.[1];
      if (pool !== undefined) {
        expect(Number(pool)).toBeGreaterThanOrEqual(QUERY_CONNECTIONS_MIN);
        expect(ways({ query: "3", "query-connections": pool }, limit)).toHaveLength(1);
      }
      if (processes !== undefined) expect(ways({ query: processes }, limit)).toHaveLength(1);
    }
    expect(ways({ query: "3" }, 20).join("\n")).not.toContain("connections each instead");
  });

  test("at rest is not proposed another way to deploy", () => {
    expect(ways({ query: "8" }, 20).join("\n")).not.toContain("one role after another");
    expect(ways({ query: "3" }, 20).join("\n")).toContain(
      "query and sink and relay by stopping one first, if your host can",
    );
  });

  test("is proposed smaller pools and one role after another together, where neither is enough: the largest that do", () => {
    const given: Given = { query: "3", sink: "2", relay: "0" };
    expect(ways(given, 20).slice(2, 5)).toEqual([
      "  - deploy one role after another (query and sink by stopping one first, if your host can): SPILLWAY_DATABASE_CONNECTIONS_MAX=14",
      "  - query: 3 connections each (SPILLWAY_QUERY_CONNECTIONS_MAX), and deploy one role after another (query 1 at a time, sink 2 at a time): SPILLWAY_DATABASE_CONNECTIONS_MAX=14",
      "  - query: 1 instead of 3 processes",
    ]);
    for (let limit = 8; limit < 40; limit += 1) {
      const told = ways(given, limit).find((way) => way.includes(", and deploy"));
      const [, pool, query, sink, declared] =
        /: (\d+) connections each.*query (\d+) at.*sink (\d+) at.*=(\d+)$/.exec(told ?? "")?.map(Number) ?? [];
      if (pool === undefined || query === undefined || sink === undefined) continue;
      expect(declared).toBe(3 * pool + 2 + Math.max(query * pool, sink));
      expect(declared).toBeLessThanOrEqual(limit - RESERVED);
      const larger = ways({ ...given, "query-connections": String(pool + 1) }, limit).join("\n");
      expect(larger).not.toMatch(/- deploy .*query \d+ at a time, sink/);
    }
  });

  test("for want of any room at all is proposed a larger limit alone", () => {
    expect(ways({}, 5)).toEqual([
      "On 5 connections: in a rolling deploy it does not fit (12 and 6 reserved are 18, 13 too many); at rest it does not fit (6 and 6 reserved are 12, 7 too many).",
      "  Change one of these, and run it again for what to set:",
      "  - raise the limit to 18 where you may (max_connections: each connection is a process of the database)",
    ]);
  });

  test("under a limit that PostgreSQL does not take is not proposed one", () => {
    const told = (query: string): string => ways({ query }, 400).join("\n");
    // 31,127 × 8 + 4 and a twentieth.
    expect(told("31127")).toContain("raise the limit to 262,127");
    expect(told("31130")).not.toContain("raise the limit");
    expect(told("31130")).toContain("PgBouncer");
  });

  test("even by a pooler is told so", () => {
    const told = ways({ query: "3", load: ["query=500x35"] }, 20).join("\n");
    expect(told).toContain(
      "at most 14 connections to it over all PgBouncer processes; the work needs 35, so make statements fewer",
    );
  });
});

describe("what fits", () => {
  const settings = (given: Given): string[] => settingLines(plan(given), planGiven(given).limits);

  test("is told as the settings of Spillway's processes, without those of others and without what is reserved", () => {
    expect(settings({ limit: ["20"], "query-connections": "2", role: ["app=1x3"] })).toEqual([
      "Set, in each process of Spillway that uses this database:",
      "  SPILLWAY_DATABASE_CONNECTIONS_MAX=8",
      "  SPILLWAY_QUERY_CONNECTIONS_MAX=2 (query and web)",
    ]);
    expect(settings({ limit: ["20"], query: "0", sink: "0" })).toEqual([
      "Set, in each process of Spillway that uses this database:",
      "  SPILLWAY_DATABASE_CONNECTIONS_MAX=2",
    ]);
    expect(settings({ limit: ["500"], ...NO_SPILLWAY, standing: ["poolers=40x10"] })).toEqual([]);
  });

  test("is never more than a limit leaves beside what is reserved", () => {
    for (const { limit, sizes } of READY) {
      const declared = Number(/=(\d+)/.exec(settingLines(planOf(sizes), [limit]).join("\n"))?.[1]);
      expect(declared).toBe(connectionsNeeded(planOf(sizes), true));
      expect(declared).toBeLessThanOrEqual(limit - RESERVED);
    }
  });

  test("under none of the limits is told no settings", () => {
    expect(settings({ limit: ["20", "30"], query: "3" })).toEqual([]);
    expect(settings({ limit: ["30", "34", "40"], query: "3" }).slice(0, 2)).toEqual([
      "Set, on 34, 40 connections, in each process of Spillway that uses this database:",
      "  SPILLWAY_DATABASE_CONNECTIONS_MAX=28",
    ]);
  });
});

describe("the command line", () => {
  test("without a flag prints the table, with one a verdict, and refuses nonsense with what it accepts", () => {
    expect(run()).toMatchObject({ status: 0, stdout: expect.stringContaining(readyTable()) });
    const [fits] = limitLines(planOf(SMALLEST), 20, null);
    expect(run("--limit", "20")).toMatchObject({ status: 0, stdout: expect.stringMatching(/together +12 +18\n/) });
    expect(run("--limit", "20").stdout).toContain(`${fits}\n${settingLines(planOf(SMALLEST), [20]).join("\n")}`);
    expect(run("--nonsense")).toMatchObject({ status: 1, stderr: expect.stringContaining("--query-connections") });
    expect(run("--limit", "many")).toMatchObject({ status: 1, stderr: expect.stringContaining('--limit "many"') });
  });

  test("exits with 1 where a named limit does not bear it with a margin, or pools do not carry their load", () => {
    const statuses = [
      ["--limit", "17"],
      ["--limit", "20", "--limit", "17"],
      ["--limit", "122", "--role", "app=52x1"],
      ["--limit", "120", "--load", "query=1000x10"],
      ["--query", "3"],
    ].map((flags) => run(...flags).status);
    expect(statuses).toEqual([1, 1, 1, 1, 0]);
    expect(run("--limit", "120", "--load", "query=1000x10").stdout).not.toContain("Set,");
  });

  test("says what to type where npm has kept the flags to itself", () => {
    const env = { ...process.env, npm_config_limit: "20" };
    const told = spawnSync(process.execPath, [MAIN, "20"], { encoding: "utf8", env });
    expect(told).toMatchObject({ status: 1, stderr: expect.stringContaining("npm run budget -- --limit …") });
  });

  test("prints what docs/budget shows of it", () => {
    const printed = run("--limit", "30", "--query", "3").stdout.trimEnd().split("\n");
    expect(text("docs/budget/README.md")).toContain(printed.map((line) => `    ${line}`.trimEnd()).join("\n"));
  });

  test("refuses what it cannot reckon with, by flag and value", () => {
    const refused: readonly [Given, string][] = [
      [{ role: ["web=3x0"] }, '--role "web=3x0": give NAME=PROCESSESxCONNECTIONS'],
      [{ standing: ["web"] }, '--standing "web": give NAME='],
      [{ role: ["query=3x4"] }, 'two roles named "query"'],
      [{ load: ["a=fast"] }, '--load "a=fast": give NAME=RATExMS'],
      [{ load: ["sink=10x5"] }, '--load "sink=10x5": a sink has one connection'],
      [{ utilisation: "0" }, '--utilisation "0": give a share of time, from 0.01 to 1'],
      [{ utilisation: "1e-300" }, '--utilisation "1e-300": give a share'],
      [{ utilisation: "0x1" }, '--utilisation "0x1": give a share'],
      [{ utilisation: "1.01" }, '--utilisation "1.01": give a share'],
      [{ "query-connections": "1" }, '--query-connections "1": give a whole number from 2 to 100'],
      [{ limit: ["-5"] }, '--limit "-5": give a whole number from 1'],
      [{ cores: "0" }, '--cores "0": give a whole number from 1'],
    ];
    for (const [given, words] of refused) expect(() => planGiven(given)).toThrow(words);
  });

  test("without a limit judges by the four of the table", () => {
    expect(planGiven({}).limits).toEqual([20, 120, 400, 500]);
  });
});
