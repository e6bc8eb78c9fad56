/**
 * Settings come from the environment alone. Each is declared once, with type, default, unit and one sentence; the
 * declarations check, print and document it. All problems are reported at once, before the first connection.
 */
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { envSchema } from "env-schema";
import { type Static, type TSchema, Type } from "typebox";
import { type KeyRing, parseKeys } from "./access.ts";
import { FORMS, type FormName, withoutSecrets } from "./setting-forms.ts";

/** Name in the environment → schema made by the functions below. */
export type Declarations = Readonly<Record<string, TSchema>>;
export type Settings<D extends Declarations> = { readonly [K in keyof D]: Static<D[K]> };

/** What the environment said, and how to say it right. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[], options?: ErrorOptions) {
    const what = problems.length === 1 ? "A setting is wrong" : `${problems.length} settings are wrong`;
    super(`${what}:\n${problems.map((one) => `- ${one}`).join("\n")}`, options);
    this.name = "ConfigError";
    this.problems = problems;
  }
}

/** Members beside JSON Schema's own. */
interface Extras {
  /** Never printed. URLs lose only their password. */
  readonly secret?: true;
  /** What applies when it is unset and no plain default can say it. */
  readonly otherwise?: string;
}

/** Text. Without a default it must be set. */
export const text = (sentence: string, more: Extras & { default?: string; format?: FormName } = {}) =>
  Type.String({ description: sentence, minLength: 1, ...more });

/** Text that may be unset: "" then. `otherwise` says what applies. */
export const optionalText = (sentence: string, more: Extras & { format?: FormName }) =>
  Type.String({ description: sentence, default: "", ...more });

/** Several texts, with commas between them. */
export const list = (sentence: string, more: Extras & { default?: string; format?: FormName } = {}) =>
  Type.Unsafe<readonly string[]>(Type.String({ description: sentence, minLength: 1, separator: ",", ...more }));

/** A whole number; its name ends in its unit (`_MS`, `_BYTES`, `_RECORDS`, `_MAX`…). */
export const integer = (sentence: string, range: { default: number; minimum: number; maximum: number }) =>
  Type.Integer({ description: sentence, ...range });

/** `true` or `false`. */
export const flag = (sentence: string, more: { default: boolean }) => Type.Boolean({ description: sentence, ...more });

/** One of a few words. */
export const choice = <T extends string>(sentence: string, words: readonly T[], more: { default: T }) =>
  Type.Unsafe<T>({ type: "string", enum: words, description: sentence, ...more });

/** The TCP port of a role's one server. */
export const port = (usual: number) =>
  integer("TCP port of this role's HTTP server; 0 takes a free one.", { default: usual, minimum: 0, maximum: 65_535 });

/** Every role has these. */
export const processSettings = {
  LOG_LEVEL: choice("Least severity that is logged.", ["debug", "info", "warn", "error", "silent"], {
    default: "info",
  }),
};

/** Every role has a server, if only for its operator. */
export const httpSettings = {
  HOST: text("Address to listen on. Anything but loopback needs keys.", { default: "127.0.0.1", format: "host" }),
  SPILLWAY_KEYS: optionalText("API keys: a file made by `npm run keys`, or its JSON.", {
    secret: true,
    otherwise: "no keys: every caller may do everything, on loopback only",
  }),
  SPILLWAY_OPEN: flag("Listen beyond loopback even without keys.", { default: false }),
  SPILLWAY_CONNECTIONS_MAX: integer("Connections that one server holds at once; more are closed at once.", {
    default: 20_000,
    minimum: 1,
    maximum: 1_000_000,
  }),
};

/** What was declared for settings that were read: printing must know what is secret. */
const declared = new WeakMap<object, Declarations>();

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads what is declared and nothing else. An empty variable counts as unset, as compose files write it.
 * @throws ConfigError with every problem: name, value (unless secret), what is wrong, what it is for
 */
export function readSettings<D extends Declarations>(declarations: D, environment?: Environment): Settings<D> {
  const given = Object.entries(environment ?? process.env).filter(([name]) => name in declarations);
  const tidied = given.map(([name, value]) => [name, tidy(declarations[name], value ?? "")] as const);
  const data = Object.fromEntries(tidied.filter(([, value]) => value !== ""));
  try {
    const schema = Type.Object(declarations);
    const settings = envSchema<Settings<D>>({ schema, data, env: false, ajv: { customOptions: withOurKeywords } });
    declared.set(settings, declarations);
    return settings;
  } catch (cause) {
    if (!(cause instanceof Error && "errors" in cause && Array.isArray(cause.errors))) throw cause;
    throw new ConfigError(
      cause.errors.map((fault: Fault) => explain(fault, declarations, data)),
      { cause },
    );
  }
}

type CustomOptions = Extract<
  NonNullable<NonNullable<Parameters<typeof envSchema>[0]>["ajv"]>,
  { customOptions: unknown }
>;
const withOurKeywords: CustomOptions["customOptions"] = (ajv) => {
  for (const [name, { has }] of Object.entries(FORMS)) ajv.addFormat(name, { validate: has });
  return ajv.addVocabulary(["secret", "otherwise"]);
};

/**
 * Blanks around the commas of a list are no part of its texts, nor is an empty one; and what has a form has none around it: they
 * come from files, as a last line end.
 */
function tidy(schema: TSchema | undefined, value: string): string {
  if (!(schema && "separator" in schema)) return schema && "format" in schema ? value.trim() : value;
  const parts = value.split(",").map((part) => part.trim());
  return parts.filter((part) => part !== "").join(",");
}

/** What ajv tells about one fault. */
interface Fault {
  readonly instancePath: string;
  readonly message?: string;
  readonly params: Readonly<Record<string, unknown>>;
}

function explain(fault: Fault, declarations: Declarations, data: Environment): string {
  const missing = fault.params["missingProperty"];
  const name = typeof missing === "string" ? missing : fault.instancePath.slice(1);
  const about = describe(name, declarations[name] ?? {});
  if (missing) return `${name} is not set. ${about.sentence}`;
  return `${name} ${wanted(fault)}, but is ${inWords(data[name] ?? "", declarations[name] ?? {})}. ${about.sentence}`;
}

function wanted({ params, message }: Fault): string {
  const { allowedValues: words, format } = params;
  if (Array.isArray(words)) return `must be one of ${words.join(", ")}`;
  return typeof format === "string" && format in FORMS ? FORMS[format as FormName].wanted : `${message}`;
}

function inWords(value: string, schema: TSchema): string {
  const shown = asShown(value, schema);
  if (shown === value) return JSON.stringify(value);
  return shown === "(set)" ? `a text of ${value.length} characters, not shown since it may hold a password` : shown;
}

/** Only what is declared to be a URL is shown in part: a password may look like one. A wrong address may have one before its @. */
function asShown(value: string, schema: TSchema): string {
  if (!describe("", schema).secret) return "format" in schema && value.includes("@") ? "(set)" : value;
  return "format" in schema ? withoutSecrets(value) : value && "(set)";
}

/** @returns the settings as a log line may show them: secrets hidden, passwords cut out of URLs */
export function printable(settings: object): Record<string, unknown> {
  const declarations = declared.get(settings);
  assert(declarations, "printable() takes what readSettings() returned: a copy has lost what is secret");
  return Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [
      name,
      typeof value === "string" ? asShown(value, declarations[name] ?? {}) : value,
    ]),
  );
}

/** A row of the configuration table. */
export interface SettingRow {
  readonly name: string;
  readonly fallback: string;
  readonly sentence: string;
  readonly secret: boolean;
}

/** @returns what a person must know of each setting, in the order of declaration */
export const settingRows = (declarations: Declarations): SettingRow[] =>
  Object.entries(declarations).map(([name, schema]) => describe(name, schema));

function describe(name: string, schema: TSchema): SettingRow {
  const { description = "", otherwise, secret } = schema as Extras & { description?: string };
  const plain = "default" in schema && schema.default !== "" ? `\`${String(schema.default)}\`` : "must be set";
  return { name, fallback: otherwise ?? plain, sentence: description, secret: secret === true };
}

/** The level for the log that must exist before the settings are read; a wrong one is reported when they are. */
export function logLevel(): Static<typeof processSettings.LOG_LEVEL> {
  try {
    return readSettings(processSettings).LOG_LEVEL;
  } catch {
    return "info";
  }
}

/**
 * The node's keys, or null without any.
 * @throws ConfigError when the key file cannot be read or is wrong, and when a node without keys would listen beyond
 *   loopback unasked
 */
export function readKeys(settings: Settings<typeof httpSettings>): KeyRing | null {
  const { HOST, SPILLWAY_OPEN: open } = settings;
  const keys = settings.SPILLWAY_KEYS.trim();
  if (keys === "" && !open && !LOOPBACK.test(HOST))
    throw new ConfigError([
      `HOST is ${HOST} and there are no keys, so that everybody could read and write everything: make a key with ` +
        "npm run keys and name its file in SPILLWAY_KEYS, or set SPILLWAY_OPEN=true.",
    ]);
  if (keys === "") return null;
  try {
    return parseKeys(/^[[{]/.test(keys) ? keys : readFileSync(keys, "utf8"));
  } catch (cause) {
    const { code, message, syscall } = cause as NodeJS.ErrnoException;
    // Who sets a token instead must not find it in the log: names of files have a dot, tokens have none.
    const shown = /^[^"{[]*\.[^"{[]*$/.test(keys) ? keys : `a text of ${keys.length} characters`;
    const why = syscall === undefined ? message : `${shown} is no file that can be read (${code})`;
    throw new ConfigError([`SPILLWAY_KEYS: ${why}. It is a file made by npm run keys, or its JSON.`], { cause });
  }
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/;
