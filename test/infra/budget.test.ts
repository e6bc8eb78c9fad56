import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { querySettings } from "../../apps/query/config.ts";
import {
  busyConnections,
  connectionsFor,
  connectionsNeeded,
  limitFor,
  processesThatFit,
  RESERVED,
  room,
  shortages,
  sinksMax,
  UTILISATION,
  verdictOn,
} from "../../infra/budget/budget.ts";
import { type Given, planGiven } from "../../infra/budget/given.ts";
import {
  planOf,
  QUERY_CONNECTIONS_MAX,
  QUERY_CONNECTIONS_MIN,
  READY,
  SMALLEST,
  spillwayRoles,
} from "../../infra/budget/roles.ts";
import { limitLines, needLines, readyTable, shortageLines } from "../../infra/budget/words.ts";

const NO_SPILLWAY: Given = { query: "0", sink: "0", relay: "0" };
const plan = (given: Given) => planGiven(given).plan;
const text = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

const run = (...flags: readonly string[]) =>
  spawnSync(process.execPath, [new URL("../../infra/budget/main.ts", import.meta.url).pathname, ...flags], {
    encoding: "utf8",
  });

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
      "query: the load keeps 17.5 connections busy, and needs 35 where one is busy 0.5 of the time; there are 9 for it: take 12 processes of 4.",
    ]);
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
      "  Change one of these:",
      "  - deploy one role after another: query 2 at a time, sink 1 at a time, relay 1 at a time",
      "  - query: 3 connections each instead of 4 (SPILLWAY_QUERY_CONNECTIONS_MAX)",
      "  - query: 2 instead of 3 processes",
      "  - put PgBouncer (transaction mode) before the database, its processes with at most 24 upstream connections together; --load tells how many the work needs",
      "  - raise max_connections to 34 where you may: each connection is a process of the database",
    ]);
  });

  test("is proposed no change that would not do, down to the least pool that a node works with", () => {
    for (let limit = 8; limit < 40; limit += 1) {
      const told = ways({ query: "3" }, limit).join("\n");
      const pool = /query: (\d+) connections each/.exec(told)?.[1];
      const processes = /query: (\d+) instead/.exec(told)?.[1];
      if (pool !== undefined) {
        expect(Number(pool)).toBeGreaterThanOrEqual(QUERY_CONNECTIONS_MIN);
        expect(ways({ query: "3", "query-connections": pool }, limit)).toHaveLength(1);
      }
      if (processes !== undefined) expect(ways({ query: processes }, limit)).toHaveLength(1);
    }
    expect(ways({ query: "3" }, 20).join("\n")).not.toContain("connections each");
  });

  test("at rest is not proposed another way to deploy", () => {
    expect(ways({ query: "5" }, 20).join("\n")).not.toContain("one role after another");
    expect(ways({ query: "3" }, 20).join("\n")).toContain("query by stopping one first");
  });

  test("for want of any room at all is proposed a larger limit alone", () => {
    expect(ways({}, 5)).toEqual([
      "On 5 connections: in a rolling deploy it does not fit (12 and 6 reserved are 18, 13 too many); at rest it does not fit (6 and 6 reserved are 12, 7 too many).",
      "  Change one of these:",
      "  - raise max_connections to 18 where you may: each connection is a process of the database",
    ]);
  });

  test("even by a pooler is told so", () => {
    const told = ways({ query: "3", load: ["query=500x35"] }, 20).join("\n");
    expect(told).toContain("at most 14 upstream connections together; the work needs 35, so make statements fewer");
  });
});

describe("the command line", () => {
  test("without a flag prints the table, with one a verdict, and refuses nonsense with what it accepts", () => {
    expect(run()).toMatchObject({ status: 0, stdout: expect.stringContaining(readyTable()) });
    const [fits] = limitLines(planOf(SMALLEST), 20, null);
    expect(run("--limit", "20")).toMatchObject({ status: 0, stdout: expect.stringMatching(/together +12 +18\n/) });
    expect(run("--limit", "20").stdout).toContain(fits);
    expect(run("--nonsense")).toMatchObject({ status: 1, stderr: expect.stringContaining("--query-connections") });
    expect(run("--limit", "many")).toMatchObject({ status: 1, stderr: expect.stringContaining('--limit "many"') });
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
      [{ utilisation: "0" }, '--utilisation "0": give a share'],
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

describe("the ready table", () => {
  test("fits each of its limits in a rolling deploy, sinks and all", () => {
    for (const { limit, sizes } of READY) {
      expect(limitLines(planOf(sizes), limit, null)).toHaveLength(1);
      expect(connectionsNeeded(planOf(sizes), true)).toBeLessThanOrEqual(room(limit, RESERVED));
      const [query] = spillwayRoles(sizes);
      if (query !== undefined)
        expect(processesThatFit(planOf(sizes), query, limit)).toBeGreaterThanOrEqual(sizes.query);
    }
  });

  test("in docs/budget is the one that npm run budget prints: else put that there", () => {
    expect(text("docs/budget/README.md")).toContain(`<!-- table -->\n${readyTable()}\n<!-- /table -->`);
  });

  test("reckons with the connections that the roles have", () => {
    expect(querySettings.SPILLWAY_QUERY_CONNECTIONS_MAX).toMatchObject({
      default: SMALLEST.queryConnections,
      minimum: QUERY_CONNECTIONS_MIN,
      maximum: QUERY_CONNECTIONS_MAX,
    });
    for (const { name, connectionsEach } of spillwayRoles(SMALLEST))
      expect(text("README.md")).toMatch(new RegExp(`^\\| ${name} \\| .* \\| ${connectionsEach}(,[^|]*)? \\|$`, "m"));
    for (const file of ["apps/sink/sink.ts", "apps/relay/role.ts"])
      expect(text(file)).toMatch(/^const CONNECTIONS_MAX = 1;$/m);
  });
});
