/** Rules about what a file may reach: packages, other folders, the outside world. */
import { inProduct, nameOf, perFile, perNode, type Rule } from "./rule.ts";
import {
  type Finding,
  found,
  type Import,
  importsOf,
  isNode,
  isTypeScript,
  resolveImport,
  type Source,
  topOf,
} from "./source.ts";

const inProductTs = (source: Source): boolean => inProduct(source) && isTypeScript(source);

/** Findings for every import in a file that `judge` finds wrong. */
const perImport = (covers: (source: Source) => boolean, judge: (one: Import, source: Source) => string | null) =>
  perFile(covers, (source) =>
    importsOf(source).flatMap((one) => {
      const what = judge(one, source);
      return what === null ? [] : [found(source, one.node.start, what)];
    }),
  );

const onlyIn = (folder: string, packages: RegExp) =>
  perImport(
    (source) => inProductTs(source) && !source.path.startsWith(folder),
    ({ to }) => (packages.test(to) ? to : null),
  );

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  apps: ["apps", "lib", "schemas"],
  lib: ["lib", "schemas"],
  schemas: ["schemas"],
  clients: ["clients"],
  infra: ["infra", "apps", "clients", "lib", "schemas"],
  examples: ["examples", "infra", "lib", "schemas"],
  bench: ["bench", "infra", "apps", "clients", "lib", "schemas"],
};

function wrongDirection({ to }: Import, { path }: Source): string | null {
  const target = resolveImport(path, to);
  const may = MAY_IMPORT[topOf(path)];
  if (target === null || may === undefined) return null;
  const foreignApp = topOf(path) === "apps" && topOf(target) === "apps" && app(path) !== app(target);
  if (foreignApp || !may.includes(topOf(target))) return target;
  return topOf(target) !== topOf(path) && to.startsWith(".") && /^(lib|schemas)\//.test(target)
    ? `${to}, not #${target}`
    : null;
}

const app = (path: string): string | undefined => path.split("/")[1];

/** Reached through packages: disk, net, processes, time, randomness. */
const OUTSIDE =
  /^(node:)?(fs|net|tls|http|https|http2|dgram|dns|child_process|worker_threads|timers|os|cluster)(\/|$)|^(fastify|kafkajs|pg|pg-copy-streams|pino|ws|uuid|undici|classic-level|@fastify\/.*)$/;

/** A file is pure when its head says so; these must be, as the parts that histories and seeds are played against. */
const saysPure = ({ text }: Source): boolean => /^\/\*\*(?:(?!\*\/)[\s\S])*\bpure\b/i.test(text);
const PURE = new Set([
  ...["accept"].map((name) => `apps/ingest/${name}.ts`),
  ...["controller", "circuit"].map((name) => `apps/sink/${name}.ts`),
  ...["merge", "live"].map((name) => `apps/query/${name}.ts`),
  ...["event", "codec", "decode", "partition", "cursor", "access", "problem", "valid", "fullness"].map(
    (name) => `lib/${name}.ts`,
  ),
  "lib/postgres/sqlstate.ts",
]);

/** Pure files must reach nothing outside, also not through the values of other files. */
function impureImports(sources: readonly Source[]): Finding[] {
  const files = new Map(sources.filter(isTypeScript).map((source) => [source.path, source]));
  return sources
    .filter((source) => inProductTs(source) && (saysPure(source) || PURE.has(source.path)))
    .flatMap((source) => {
      const way = wayOutside(source, files, new Set());
      return way ? [found(source, 0, way)] : [];
    });
}

function wayOutside(source: Source, files: ReadonlyMap<string, Source>, seen: Set<string>): string | null {
  seen.add(source.path);
  for (const { to, typesOnly } of importsOf(source)) {
    if (typesOnly) continue;
    const target = resolveImport(source.path, to);
    if (target === null && OUTSIDE.test(to)) return `${source.path} imports ${to}`;
    const next = target !== null && !seen.has(target) ? files.get(target) : undefined;
    const way = next ? wayOutside(next, files, seen) : null;
    if (way) return `${source.path} imports ${way}`;
  }
  return null;
}

const CLOCKWORK = new Set([
  ...["setTimeout", "setInterval", "Date.now", "performance.now", "Math.random", "AbortSignal.timeout"],
  ...[
    "process.hrtime",
    "process.hrtime.bigint",
    "randomUUID",
    "randomBytes",
    "crypto.randomUUID",
    "crypto.getRandomValues",
  ],
]);

const usesTheClock = perNode(
  (source) => inProduct(source),
  (node) => {
    const now = node.type === "NewExpression" && nameOf(node["callee"]) === "Date" && isEmpty(node["arguments"]);
    if (now) return "new Date()";
    // A member as a value too: `now: Date.now` hides the clock from a test as well as a call does.
    const called = node.type === "CallExpression" && isNode(node["callee"]) && node["callee"].type === "Identifier";
    const name = node.type === "MemberExpression" ? nameOf(node) : called ? nameOf(node["callee"]) : "";
    return CLOCKWORK.has(name) ? name : null;
  },
);

const isEmpty = (list: unknown): boolean => Array.isArray(list) && list.length === 0;

export const reachRules: readonly Rule[] = [
  {
    name: "kafkajs is imported only in lib/kafka",
    remedy: "use a port of lib/kafka/ports.ts",
    find: onlyIn("lib/kafka/", /^kafkajs(\/|$)/),
    broken: { "apps/x/a.ts": 'import { Kafka } from "kafkajs";' },
    kept: { "lib/kafka/a.ts": 'import { Kafka } from "kafkajs";' },
  },
  {
    name: "pg is imported only in lib/postgres",
    remedy: "use the pool",
    find: onlyIn("lib/postgres/", /^pg(-|\/|$)/),
    broken: { "apps/x/a.ts": 'import { from } from "pg-copy-streams";' },
    kept: { "lib/postgres/a.ts": 'import pg from "pg";' },
  },
  {
    name: "imports go apps → lib → schemas, and no app imports another",
    remedy: "move the shared part to lib and import it as #lib/…",
    find: perImport((source) => isTypeScript(source), wrongDirection),
    broken: { "apps/x/a.ts": 'import { b } from "../y/b.ts";', "lib/c.ts": 'export * from "#apps/x/a.ts";' },
    kept: { "apps/x/a.ts": 'import { b } from "./b.ts"; import { c } from "#lib/c.ts";' },
    exceptions: {
      "apps/web/main.ts": "it runs ingest and query in one process",
      "apps/web/config.ts": "it puts their settings together",
    },
  },
  {
    name: "a file that calls itself pure reaches nothing outside",
    remedy: "return a value and let the caller act, or import a type only",
    find: impureImports,
    broken: {
      "lib/a.ts": '/** Pure: a. */\nimport { b } from "./b.ts";',
      "lib/b.ts": 'import { readFileSync } from "node:fs";',
    },
    kept: { "lib/a.ts": '/** Pure: a. */\nimport type { b } from "./b.ts";', "lib/b.ts": 'import "node:fs";' },
    exceptions: {
      "lib/codec.ts": "it reads schemas/event.avsc once, when it is loaded",
      "lib/decode.ts": "through lib/codec.ts",
    },
  },
  {
    name: "timers, current time, randomness and new ids come only from lib/clock.ts",
    remedy: "take clock: Clock as an argument",
    find: usesTheClock,
    broken: { "lib/a.ts": "const at = new Date(); setTimeout(f, 1); const now = Date.now;" },
    kept: { "lib/a.ts": "const at = new Date(clock.now()); clock.after(1, f);" },
    exceptions: { "lib/clock.ts": "it is the clock", "clients/typescript/src/clock.ts": "it is the client's" },
  },
  {
    name: "console is used only in lib/log.ts",
    remedy: "log a fact",
    find: perNode(inProduct, (node) => {
      const name = node.type === "MemberExpression" ? nameOf(node) : "";
      return name.startsWith("console.") ? name : null;
    }),
    broken: { "apps/x/a.ts": 'console.log("hi");' },
    kept: { "apps/x/a.ts": 'log.info("hi"); const text = "console.log";' },
  },
  {
    name: "process.env is read only in lib/config.ts",
    remedy: "declare a setting",
    find: perNode(inProduct, (node) =>
      node.type === "MemberExpression" && nameOf(node) === "process.env" ? "process.env" : null,
    ),
    broken: { "apps/x/a.ts": 'const a = process.env["A"];' },
    kept: { "apps/x/a.ts": "const a = settings.A;" },
    exceptions: { "lib/config.ts": "it reads the settings" },
  },
  {
    name: "Promise.race is used nowhere",
    remedy: "close the source; the loop ends. Racing a long-lived promise keeps every value alive",
    find: perNode(
      ({ path }) => !path.startsWith("test/house/"),
      (node) => (node.type === "MemberExpression" && nameOf(node) === "Promise.race" ? "Promise.race" : null),
    ),
    broken: { "bench/a.ts": "await Promise.race([a, b]);" },
    kept: { "bench/a.ts": "await Promise.all([a, b]);" },
  },
];
