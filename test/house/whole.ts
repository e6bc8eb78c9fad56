/** Rules about tests, leftovers and the project as a whole. */
import { posix } from "node:path";
import { inTests, nameOf, perFile, perNode, type Rule } from "./rule.ts";
import {
  basename,
  dirname,
  type Finding,
  found,
  importsOf,
  isTypeScript,
  resolveImport,
  type Source,
  treeOf,
  walk,
} from "./source.ts";

const isTest = ({ path }: Source): boolean => path.endsWith(".test.ts");

/** Sleeping is a timer, by any of its names. */
const SLEEPS = /^(setTimeout|setInterval|systemClock\.sleep|timers\.setTimeout|Atomics\.wait)$/;

const sleeping = (sources: readonly Source[]): Finding[] => [
  ...perNode(isTest, (node) => {
    const name = node.type === "CallExpression" ? nameOf(node["callee"]) : "";
    return SLEEPS.test(name) ? name : null;
  })(sources),
  ...perFile(isTest, (source) =>
    importsOf(source)
      .filter(({ to }) => to === "node:timers/promises" || to === "timers/promises")
      .map(({ to, node }) => found(source, node.start, to)),
  )(sources),
];

/** In two halves, so that this file does not find itself. */
const LEFTOVERS = new RegExp(`\\b(${["FIX", "ME|TO", "DO|XX", "X"].join("")})\\b`, "g");

const leftovers = (source: Source): Finding[] =>
  [...source.text.matchAll(LEFTOVERS)].map((match) => found(source, match.index, match[0]));

const focused = perNode(inTests, (node) => {
  const name = node.type === "MemberExpression" ? nameOf(node) : "";
  return /^(test|it|describe|suite|bench)(\.\w+)*\.only$/.test(name) ? name : null;
});

/** Files that are started or read by name: package.json's scripts, texts in code that end in their path. */
function unreached(sources: readonly Source[]): Finding[] {
  const reached = new Set(sources.flatMap((source) => [...mentionedBy(source)]));
  return sources
    .filter((source) => isTypeScript(source) && !isEntry(source) && !reached.has(source.path))
    .map((source) => found(source, 0, "nothing imports or starts it"));
}

const isEntry = (source: Source): boolean =>
  isTest(source) || /^(apps\/[^/]+\/main|vitest\.config|test\/promises\/setup)\.ts$/.test(source.path);

function mentionedBy(source: Source): Set<string> {
  if (source.path === "package.json") return new Set(source.text.match(/[\w./-]+\.ts/g));
  if (!isTypeScript(source)) return new Set();
  const texts = [...walk(treeOf(source))].flatMap((node) => {
    const value = node.type === "TemplateElement" ? (node["value"] as { cooked?: unknown }).cooked : node["value"];
    return typeof value === "string" && value.endsWith(".ts") ? [value] : [];
  });
  return new Set(
    texts.flatMap((text) => [resolveImport(source.path, text) ?? text, posix.join(dirname(source.path), text)]),
  );
}

/** A map must name every file beside it, and no file that is not there. */
function wrongMaps(sources: readonly Source[]): Finding[] {
  const folders = new Set(
    sources.map(({ path }) => dirname(path)).filter((folder) => folder === "lib" || /^apps\/[^/]+$/.test(folder)),
  );
  return [...folders].flatMap((folder) => {
    const path = `${folder}/README.md`;
    const map = sources.find((source) => source.path === path) ?? { path, text: "" };
    const beside = sources.filter((source) => dirname(source.path) === folder && source.path !== path);
    const names = new Set(beside.map((source) => basename(source.path)));
    const missing = [...names].filter((name) => !map.text.includes(`\`${name}\``));
    const listed = [...map.text.matchAll(/^[-*|] *`([\w.-]+\.\w+)`/gm)].map((match) => match[1] ?? "");
    const gone = listed.filter((name) => !names.has(name));
    return [
      ...(missing.length > 0 ? [found(map, 0, `does not list ${missing.join(", ")}`)] : []),
      ...(gone.length > 0 ? [found(map, 0, `lists ${gone.join(", ")}, not there`)] : []),
    ];
  });
}

export const wholeRules: readonly Rule[] = [
  {
    name: "a test never sleeps",
    remedy: "wait for the thing: a line, an offset, a state",
    find: sleeping,
    broken: { "test/a.test.ts": "await new Promise((done) => setTimeout(done, 100));" },
    kept: { "test/a.test.ts": 'await process.line("listening");' },
  },
  {
    name: "no test runs alone",
    remedy: "take .only away",
    find: focused,
    broken: { "test/a.test.ts": `test.${"only"}("a", () => {});` },
    kept: { "test/a.test.ts": 'test("a", () => { options.only; });' },
  },
  {
    name: "nothing is left for later",
    remedy: "finish it or delete it",
    find: perFile(({ path }) => path !== "test/house/whole.ts", leftovers),
    broken: { "schemas/a.sql": `-- ${"FIX"}${"ME"}: index` },
    kept: { "schemas/a.sql": "-- the index serves pages" },
  },
  {
    name: "somebody imports or starts every file",
    remedy: "use it or delete it",
    find: unreached,
    broken: { "lib/a.ts": "export const a = 1;" },
    kept: {
      "lib/a.ts": "export const a = 1;",
      "apps/x/main.ts": 'import { a } from "#lib/a.ts";',
      "package.json": '"start": "node infra/start.ts"',
      "infra/start.ts": 'spawn(new URL("./child.ts", import.meta.url));',
      "infra/child.ts": "",
    },
  },
  {
    name: "the README of an app and of lib lists every file beside it, and only those",
    remedy: "add the line, `name.ts` in backquotes first, or take it away",
    find: wrongMaps,
    broken: { "lib/a.ts": "", "lib/README.md": "- `b.ts`: b" },
    kept: { "lib/a.ts": "", "lib/README.md": "- `a.ts`: a", "lib/kafka/b.ts": "" },
  },
];
