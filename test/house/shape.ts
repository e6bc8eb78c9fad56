/** Rules about the shape of a file. */
import { stripTypeScriptTypes } from "node:module";
import { inProduct, inTests, nameOf, perFile, perNode, type Rule } from "./rule.ts";
import { type Finding, found, importsOf, isNode, isTypeScript, type Node, type Source } from "./source.ts";

const LINES_MAX = 250;
const FUNCTION_LINES_MAX = 70;
const UNITS = /_(MS|SECONDS|BYTES|RECORDS|ROWS|EVENTS|MAX|MIN|PERCENT|RATIO)$/;

const lines = (text: string): number => text.trimEnd().split("\n").length;

const isFunction = ({ type }: Node): boolean =>
  type === "FunctionDeclaration" || type === "FunctionExpression" || type === "ArrowFunctionExpression";

function refusedByNode(source: Source): Finding[] {
  try {
    stripTypeScriptTypes(source.text);
    return [];
  } catch (error) {
    return [found(source, 0, String(error))];
  }
}

const withoutEnding = (source: Source): Finding[] =>
  importsOf(source)
    .filter(({ to }) => /^[.#]/.test(to) && !/\.\w+$/.test(to))
    .map(({ to, node }) => found(source, node.start, to));

/** Whether a comment for readers stands right before the declaration. */
const isDescribed = (source: Source, node: Node): boolean => /\*\/\s*$/.test(source.text.slice(0, node.start));

function exportedFunction(node: Node): Node | null {
  const declared = node.type === "ExportNamedDeclaration" ? node["declaration"] : null;
  if (!isNode(declared)) return null;
  return declared.type === "FunctionDeclaration" ? declared : null;
}

export const shapeRules: readonly Rule[] = [
  {
    name: `a file outside test/ has at most ${LINES_MAX} lines`,
    remedy: "move out its second reason to exist",
    find: perFile(
      (source) => !inTests(source) && !/\.(md|json)$/.test(source.path),
      (source) => (lines(source.text) > LINES_MAX ? [found(source, 0, `${lines(source.text)} lines`)] : []),
    ),
    broken: { "lib/a.ts": "f();\n".repeat(251) },
    kept: { "lib/a.ts": "f();\n".repeat(250), "test/a.ts": "f();\n".repeat(300) },
  },
  {
    name: `a function has at most ${FUNCTION_LINES_MAX} lines`,
    remedy: "keep the deciding, move out the computing",
    find: perNode(inProduct, (node, { text }) => {
      const length = isFunction(node) ? lines(text.slice(node.start, node.end)) : 0;
      return length > FUNCTION_LINES_MAX ? `${length} lines` : null;
    }),
    broken: { "apps/x/a.ts": `const f = () => {${"\n".repeat(70)}};` },
    kept: { "apps/x/a.ts": `const f = () => {${"\n".repeat(69)}};` },
  },
  {
    name: "an exported function says what it takes, gives and throws",
    remedy: "write a docstring before it",
    find: perNode(inProduct, (node, source) => {
      const declared = exportedFunction(node);
      return declared && !isDescribed(source, node) ? nameOf(declared["id"]) : null;
    }),
    broken: { "lib/a.ts": "export function f() {}" },
    kept: { "lib/a.ts": "/** Does it. */\nexport function f() {}\nfunction g() {}" },
  },
  {
    name: "syntax is erasable, so that Node runs it as it is",
    remedy: "use `as const` or a string union, declared fields, `import type`",
    find: perFile(isTypeScript, refusedByNode),
    broken: { "test/a.ts": "enum A { B }" },
    kept: { "test/a.ts": 'const A = { B: "b" } as const;' },
  },
  {
    name: "an import of our own names the file with its ending",
    remedy: "write .ts",
    find: perFile(isTypeScript, withoutEnding),
    broken: { "lib/a.ts": 'import { b } from "./b";' },
    kept: { "lib/a.ts": 'import { b } from "./b.ts"; import fs from "node:fs";' },
  },
  {
    name: "there is no any",
    remedy: "take unknown and narrow it in one place",
    find: perNode(
      ({ path }) => !path.startsWith("test/"),
      (node) => (node.type === "TSAnyKeyword" ? "any" : null),
    ),
    broken: { "lib/a.ts": "const a = JSON.parse(b) as any;" },
    kept: { "lib/a.ts": 'const any: unknown = "any";' },
  },
  {
    name: "a numeric setting ends in its unit",
    remedy: "add _MS, _BYTES, _RECORDS, _MAX…",
    find: perNode(inProduct, (node) => {
      if (node.type !== "Property" || !isNode(node["value"]) || node["value"].type !== "CallExpression") return null;
      const name = nameOf(node["key"]);
      return nameOf(node["value"]["callee"]) === "integer" && !UNITS.test(name) ? name : null;
    }),
    broken: { "apps/x/config.ts": 'const s = { SPILLWAY_TIMEOUT: integer("…", {}) };' },
    kept: { "apps/x/config.ts": 'const s = { SPILLWAY_TIMEOUT_MS: integer("…", {}), PORT: port(1) };' },
    exceptions: { "lib/log-settings.ts": "SPILLWAY_PARTITIONS is a count by its name, and part of the contract" },
  },
];
