/** The house rules that a machine can judge. Each has its remedy in its message and is shown to catch its own sample. */
import { describe, expect, test } from "vitest";
import { reachRules } from "./house/reach.ts";
import type { Rule } from "./house/rule.ts";
import { shapeRules } from "./house/shape.ts";
import { type Finding, readProject, type Source } from "./house/source.ts";
import { wholeRules } from "./house/whole.ts";

const project = readProject(new URL("..", import.meta.url).pathname);
const rules: readonly Rule[] = [...shapeRules, ...reachRules, ...wholeRules];

const sample = (files: Readonly<Record<string, string>>): Source[] =>
  Object.entries(files).map(([path, text]) => ({ path, text }));

function report(findings: readonly Finding[], remedy: string): string[] {
  return findings.map(({ path, line, what }) => `${path}:${line} ${what} → ${remedy}`);
}

test("the project's files are found", () => {
  expect(project.map(({ path }) => path)).toEqual(expect.arrayContaining(["lib/event.ts", "test/house.test.ts"]));
});

describe.each(rules)("$name", ({ find, remedy, broken, kept, exceptions = {} }) => {
  test("holds in the whole project", () => {
    const excused = Object.keys(exceptions);
    const findings = find(project).filter(({ path }) => !excused.includes(path));
    expect(report(findings, remedy)).toEqual([]);
  });

  test("is seen to be broken", () => {
    expect(find(sample(broken))).not.toEqual([]);
  });

  test("is not seen where it is kept", () => {
    expect(find(sample(kept))).toEqual([]);
  });

  test("has no exception that is no longer needed", () => {
    const needed = new Set(find(project).map(({ path }) => path));
    expect(Object.keys(exceptions).filter((path) => !needed.has(path))).toEqual([]);
  });
});
