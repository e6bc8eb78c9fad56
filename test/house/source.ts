/** The project's own files, read and parsed for the house rules. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, posix } from "node:path";
import { parseAst } from "vitest/node";

/** A node of the syntax tree (ESTree with TypeScript); offsets are into the text. */
export interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

export interface Source {
  /** From the project's root, with slashes. */
  readonly path: string;
  readonly text: string;
}

/** Where a rule is broken, and what was found there. */
export interface Finding {
  readonly path: string;
  readonly line: number;
  readonly what: string;
}

/** An import, export-from or `import()` of one module by another. */
export interface Import {
  readonly to: string;
  readonly typesOnly: boolean;
  readonly node: Node;
}

const FOLDERS = ["apps", "clients", "lib", "schemas", "infra", "examples", "bench", "test"];
const ENDINGS = /\.(ts|sql|js|css|html|md|json|avsc)$/;

/** @param root the project's folder */
export function readProject(root: string): Source[] {
  const top = readdirSync(root).filter((name) => /\.(ts|md)$/.test(name) || name === "package.json");
  const inside = FOLDERS.filter((folder) => existsSync(join(root, folder))).flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && ENDINGS.test(entry.name))
      .map((entry) => posix.relative(root, join(entry.parentPath, entry.name))),
  );
  const ours = [...top, ...inside].filter((path) => !/(^|\/)(node_modules|dist|fixtures|\.)/.test(path));
  return ours.sort().map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

const trees = new WeakMap<Source, Node>();

/** @throws SyntaxError, as every other tool would */
export function treeOf(source: Source): Node {
  const known = trees.get(source);
  if (known) return known;
  const tree = parseAst(source.text, { lang: "ts" }) as unknown as Node;
  trees.set(source, tree);
  return tree;
}

export const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && typeof (value as Node).type === "string";

/** Every node below, parents first. */
export function* walk(node: Node): Generator<Node> {
  yield node;
  for (const value of Object.values(node))
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) yield* walk(child);
}

export function found(source: Source, at: number, what: string): Finding {
  return { path: source.path, line: source.text.slice(0, at).split("\n").length, what };
}

export function importsOf(source: Source): Import[] {
  return [...walk(treeOf(source))].flatMap((node) => {
    const from = node["source"];
    if (!isNode(from) || typeof from["value"] !== "string") return [];
    return [{ to: from["value"], typesOnly: typesOnly(node), node }];
  });
}

function typesOnly(node: Node): boolean {
  if (node["importKind"] === "type" || node["exportKind"] === "type") return true;
  const names = node["specifiers"];
  if (!Array.isArray(names) || names.length === 0) return false;
  return names.every((one) => one.importKind === "type" || one.exportKind === "type");
}

/** The project's file that a specifier means, or null for a package. Paths are the project's. */
export function resolveImport(from: string, to: string): string | null {
  if (to.startsWith("#")) return to.slice(1);
  return to.startsWith(".") ? posix.join(dirname(from), to) : null;
}

export const isTypeScript = ({ path }: Source): boolean => path.endsWith(".ts");
export const topOf = (path: string): string => path.split("/")[0] ?? "";
export { basename, dirname };
