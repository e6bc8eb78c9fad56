import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The log writes to the process' own stdout, so it is run in one. */
function lines(level: string, code: string): Record<string, unknown>[] {
  const program = `import { createLog } from "#lib/log.ts"; const log = createLog("small", "${level}"); ${code}`;
  const out = execFileSync(process.execPath, ["--input-type=module", "-e", program], { cwd: ROOT, encoding: "utf8" });
  return out.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as Record<string, unknown>]));
}

test("a fact is one line of JSON with its role, time, level and figures", () => {
  const [line, ...rest] = lines(
    "info",
    `log.info("batch written", { partition: 3, nextOffset: 2n ** 60n, text: "a\\nb" });`,
  );
  expect(rest).toEqual([]);
  expect(line).toMatchObject({ level: "info", role: "small", msg: "batch written", partition: 3, text: "a\nb" });
  expect(line).toHaveProperty("nextOffset", String(2n ** 60n));
  expect(line?.["time"]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
});

test("an error is told with its cause, each in its own words", () => {
  const [line] = lines("info", `log.error("gave up", { error: new Error("outer", { cause: new Error("inner") }) });`);
  expect(line?.["error"]).toMatchObject({ message: "outer", cause: { message: "inner" } });
});

test("facts below the level are not written", () => {
  const all = `for (const level of ["debug", "info", "warn", "error"]) log[level](level);`;
  expect(lines("warn", all).map(({ level }) => level)).toEqual(["warn", "error"]);
  expect(lines("silent", all)).toEqual([]);
});
