import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { querySettings } from "../../apps/query/config.ts";
import { connectionsNeeded, processesThatFit, RESERVED, room } from "../../infra/budget/budget.ts";
import { type Given, planGiven } from "../../infra/budget/given.ts";
import {
  planOf,
  QUERY_CONNECTIONS_MAX,
  QUERY_CONNECTIONS_MIN,
  READY,
  SMALLEST,
  spillwayRoles,
} from "../../infra/budget/roles.ts";
import { limitLines, readyTable, settingLines } from "../../infra/budget/words.ts";

const NO_SPILLWAY: Given = { query: "0", sink: "0", relay: "0" };
const plan = (given: Given) => planGiven(given).plan;
const text = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

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

  test("holds for a database of 20 by the sums that README tells, which the command prints as settings too", () => {
    const rows: readonly [Given, string][] = [
      [{}, "1 query or web, 1 sink, 1 relay | 4, the default | 12 | 12 + 6 = 18"],
      [{ query: "2", sink: "2", "query-connections": "2" }, "2 query or web, 2 sinks, 1 relay | 2 | 14 | 14 + 6 = 20"],
      [{ "query-connections": "2", role: ["app=1x3"] }, "1 query or web, 1 sink, 1 relay | 2 | 8 | 8 + 6 + 6 = 20"],
    ];
    for (const [given, row] of rows) {
      const asked = planGiven({ ...given, limit: ["20"] });
      const [, budget, pool] = settingLines(asked.plan, asked.limits);
      const [, told = "", declared = "", sum = ""] = row.split(" | ");
      expect([budget, pool]).toEqual([
        `  SPILLWAY_DATABASE_CONNECTIONS_MAX=${declared}`,
        `  SPILLWAY_QUERY_CONNECTIONS_MAX=${Number.parseInt(told, 10)} (query and web)`,
      ]);
      expect(sum).toContain(`= ${connectionsNeeded(asked.plan, true) + RESERVED}`);
      expect(text("README.md")).toContain(`| ${row} |`);
    }
    // Not doubled: each process is stopped before the next starts; a pooler stands.
    const stopped = plan({ "query-connections": "2", role: ["app=1x10"] });
    expect(connectionsNeeded(stopped, false) + RESERVED).toBe(20);
    expect(text("README.md")).toContain("| 2 | 4 | 4 + 10 + 6 = 20 |");
    for (const [pool, application] of [
      [4, 10],
      [6, 8],
    ] as const) {
      const pooled = plan({ ...NO_SPILLWAY, standing: [`pgbouncer=1x${pool}`], role: [`app=1x${application / 2}`] });
      expect(connectionsNeeded(pooled, true) + RESERVED).toBe(20);
      expect(text("README.md")).toContain(
        `| any number | 4, the default | ${pool} | ${pool} + ${application} + 6 = 20 |`,
      );
    }
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
