/** What a house rule is, and the short ways to make one. */
import { type Finding, found, isTypeScript, type Node, type Source, treeOf, walk } from "./source.ts";

export interface Rule {
  /** What is so. */
  readonly name: string;
  /** What to do where it is not. */
  readonly remedy: string;
  find(sources: readonly Source[]): Finding[];
  /** A small project that breaks it: path → text. */
  readonly broken: Readonly<Record<string, string>>;
  /** One that does not, close by. */
  readonly kept: Readonly<Record<string, string>>;
  /** Path → why this file may. One that no longer needs it fails. */
  readonly exceptions?: Readonly<Record<string, string>>;
}

/** Folders where a rule holds unless it says otherwise. */
export const inProduct = ({ path }: Source): boolean => /^(apps|clients|lib|schemas)\//.test(path);
export const inTests = ({ path }: Source): boolean => path.startsWith("test/");

/** A rule about one file's text. */
export const perFile =
  (covers: (source: Source) => boolean, find: (source: Source) => Finding[]) =>
  (sources: readonly Source[]): Finding[] =>
    sources.filter(covers).flatMap(find);

/** A rule about single nodes: `judge` says what is wrong with one, or null. */
export const perNode = (covers: (source: Source) => boolean, judge: (node: Node, source: Source) => string | null) =>
  perFile(
    (source) => isTypeScript(source) && covers(source),
    (source) =>
      [...walk(treeOf(source))].flatMap((node) => {
        const what = judge(node, source);
        return what === null ? [] : [found(source, node.start, what)];
      }),
  );

/** @returns `a.b` for a member expression or an identifier, else "" */
export function nameOf(node: unknown): string {
  const { type, name, object, property } = (node ?? {}) as Record<string, unknown>;
  if (type === "Identifier") return String(name);
  return type === "MemberExpression" ? `${nameOf(object)}.${nameOf(property)}` : "";
}
