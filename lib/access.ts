/**
 * Who may do what: a token → the clientIds and verbs of its key. Keys are kept as SHA-256 of random tokens: a digest
 * tells nothing about the token, so the file that holds them is no secret that opens anything.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { ProblemError, problem } from "./problem.ts";

/** append events of, read events of; operate: metrics and lag of the whole node, dead letters of. */
export const VERBS = ["append", "read", "operate"] as const;
export type Verb = (typeof VERBS)[number];

/** What a caller may do. */
export interface Access {
  /** The key's name, for logs; never the token. */
  readonly name: string;
  /**
   * Identity is bytewise: no folding of case, no Unicode normalisation.
   * @param clientId null: nobody can tell whose it is, which is the matter of keys for every client alone
   */
  allows(verb: Verb, clientId: string | null): boolean;
  /** For what concerns no single client. */
  holds(verb: Verb): boolean;
}

/** All keys of a node. */
export interface KeyRing {
  readonly size: number;
  find(token: string): Access | null;
}

const strict = { additionalProperties: false };
const Pattern = Type.Union([
  Type.Object({ exact: Type.String({ minLength: 1 }) }, strict),
  Type.Object({ prefix: Type.String() }, strict),
]);
const KeyRecord = Type.Object(
  {
    name: Type.String({ minLength: 1 }),
    sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    clients: Type.Array(Pattern, { maxItems: 10_000 }),
    verbs: Type.Array(Type.Enum([...VERBS]), { minItems: 1 }),
  },
  strict,
);

/** One record of the key file. */
export type KeyRecord = Static<typeof KeyRecord>;
/** `{"exact":"a"}`, or `{"prefix":"team-"}`; the empty prefix is everybody. */
export type ClientPattern = Static<typeof Pattern>;

const records = Compile(Type.Array(KeyRecord, { maxItems: 100_000 }));

/** Without keys everybody may do everything; such a node listens on loopback only, unless opened explicitly. */
export const openAccess: Access = { name: "open", allows: () => true, holds: () => true };

/** Before a follower has shown its token. */
export const noAccess: Access = { name: "none", allows: () => false, holds: () => false };

/** @returns lower-case hex, as the key file has it */
export const tokenHash = (token: string): string => digest(token).toString("hex");

const digest = (token: string): Buffer => createHash("sha256").update(token).digest();

/**
 * @param text the key file: a JSON array of records
 * @throws Error that names the record and what is wrong with it; it never repeats a digest
 */
export function parseKeys(text: string): KeyRing {
  const parsed = parseJson(text);
  if (!records.Check(parsed)) {
    const faults = records.Errors(parsed).slice(0, 10);
    throw new Error(`the key file is wrong: ${faults.map((f) => `${f.instancePath || "/"} ${f.message}`).join("; ")}`);
  }
  const ring = new Map<string, Entry[]>();
  const seen = new Set<string>();
  for (const record of parsed) {
    if (seen.has(record.sha256)) throw new Error(`the key file has the digest of "${record.name}" twice: remove one`);
    seen.add(record.sha256);
    const entry = { hash: Buffer.from(record.sha256, "hex"), access: accessOf(record) };
    const bucket = entry.hash.readUInt32BE().toString();
    ring.set(bucket, [...(ring.get(bucket) ?? []), entry]);
  }
  return {
    size: parsed.length,
    // The first 32 bits choose what to compare, so that many keys cost no more than one; nobody can steer a digest.
    find: (token) => {
      const hash = digest(token);
      const entries = ring.get(hash.readUInt32BE().toString()) ?? [];
      return entries.find((entry) => timingSafeEqual(entry.hash, hash))?.access ?? null;
    },
  };
}

interface Entry {
  readonly hash: Buffer;
  readonly access: Access;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error("the key file is no JSON: it is an array of records, as npm run keys makes them", { cause });
  }
}

function accessOf({ name, clients, verbs }: KeyRecord): Access {
  const texts = clients.map((pattern) => ("exact" in pattern ? pattern.exact : pattern.prefix));
  if (texts.some((one) => !one.isWellFormed())) throw new Error(`the key "${name}" has a clientId that is no Unicode`);
  if (clients.length === 0 && verbs.some((verb) => verb !== "operate"))
    throw new Error(`the key "${name}" names no client: give exact or prefix (the empty prefix is everybody)`);
  const exact = new Set(clients.flatMap((pattern) => ("exact" in pattern ? [pattern.exact] : [])));
  const prefixes = clients.flatMap((pattern) => ("prefix" in pattern ? [pattern.prefix] : []));
  const held = new Set<Verb>(verbs);
  return {
    name,
    holds: (verb) => held.has(verb),
    allows: (verb, clientId) => {
      if (!held.has(verb)) return false;
      if (clientId === null) return prefixes.includes("");
      return exact.has(clientId) || prefixes.some((prefix) => clientId.startsWith(prefix));
    },
  };
}

/**
 * The check on every item, page, subscribe and resume. The answer is the same whether or not the client exists.
 * @throws ProblemError forbidden
 */
export function demand(access: Access, verb: Verb, clientId: string): void {
  if (access.allows(verb, clientId)) return;
  throw new ProblemError(
    problem("forbidden", `This key may not ${verb} for this clientId: use the client's own key, or have it added.`, {
      field: "clientId",
    }),
  );
}
