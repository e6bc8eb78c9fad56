import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { settingsTable, withTable } from "../../infra/settings.ts";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");

test("the README's table of settings is the one that the declarations make: else run npm run settings", () => {
  expect(withTable(readme)).toBe(readme);
});

test("every setting has a sentence, a default or an obligation, and the roles that read it", () => {
  for (const row of settingsTable().split("\n").slice(2))
    expect(row).toMatch(/^\| `[A-Z_]+` \| \S.* \| [a-z, ]+ \| .+\. \|$/);
});
