import { describe, expect, test } from "vitest";
import { remedy, statusLines } from "../../infra/buffer/words.ts";

const NOTHING = { missing: [], total: { waiting: "0", oldest: null, aside: "0" }, clients: [], blockers: [] };
const blocker = {
  pid: 7,
  gid: null,
  age: "00:05:00",
  state: "idle in transaction",
  application: "console",
  waiting: "3",
};

describe("the event buffer in words", () => {
  test("says whether it is there, up to date, and what waits", () => {
    expect(statusLines("db/app", null)).toEqual([
      "db/app: there is no event buffer; npm run relay -- install makes it.",
    ]);
    expect(statusLines("db/app", NOTHING)).toEqual(["db/app: 0 waiting; 0 set aside."]);
    const total = { waiting: "2", oldest: "00:00:09", aside: "1" };
    expect(
      statusLines("db/app", {
        ...NOTHING,
        missing: ["0009_new.sql"],
        total,
        clients: [{ client: "a\u001b[2J", ...total }],
      }),
    ).toEqual([
      "db/app: 2 waiting, the oldest for 00:00:09; 1 set aside.",
      "Not up to date: npm run relay -- install adds 0009_new.sql.",
      '  client "a\\u{1b}[2J": 2 waiting, for 00:00:09; 1 set aside',
    ]);
  });

  test("names who keeps writers waiting, and what would end it", () => {
    const lines = (more: object) => statusLines("db", { ...NOTHING, blockers: [{ ...blocker, ...more }] })[1];
    expect(lines({})).toBe(
      "  3 waiting behind process 7 (console, idle in transaction), its transaction open for 00:05:00; " +
        "SELECT pg_terminate_backend(7) would end it",
    );
    expect(lines({ application: "", state: null, age: null })).toContain(
      "process 7 (no application_name, state not shown to this role), its transaction open for a time not shown to this role",
    );
    expect(lines({ pid: null, gid: "left" })).toContain("the prepared transaction left, its transaction open");
  });

  test("adds what to do to an error of the database's, and nothing to others", () => {
    expect(remedy({ code: "42501" })).toMatch(/^\. Run it as the database's owner/);
    expect(remedy({ code: "2BP01", detail: "view mine depends on it" })).toMatch(
      /^\. view mine depends on it\. Something was built/,
    );
    expect(remedy(new Error("no"))).toBe("");
  });
});
