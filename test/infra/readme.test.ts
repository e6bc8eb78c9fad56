import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url);
const readme = readFileSync(new URL("README.md", root), "utf8");
const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)]
  .map(([, target]) => target ?? "")
  .filter((target) => !target.includes(":"));

test("every file that the README links to is there", () => {
  expect(links.filter((target) => !existsSync(new URL(target, root)))).toEqual([]);
});

test("every promise test stands in the README's table of promises", () => {
  const tests = readdirSync(new URL("test/promises/", root)).filter((name) => name.endsWith(".test.ts"));
  expect(tests.filter((name) => !links.includes(`test/promises/${name}`))).toEqual([]);
});
