/** Query and path parameters: checked strictly against a route's schema, every fault named at once. Pure. */
import { parse } from "node:querystring";
import type { TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { excerpt, pointer } from "./excerpt.ts";
import { type Problem, ProblemError, problem } from "./problem.ts";

type Values = Readonly<Record<string, unknown>>;
/** Fastify's form of an answer. */
export type Checked = { readonly value: Values } | { readonly error: ProblemError };

/** Decimal only: `Number` would also take "", " 7 ", "0x10" and "1e2". */
const INTEGER = /^-?\d{1,15}$/;

/** A value that is no percent-encoded UTF-8. It is no string, so that nothing takes it for one. */
class Undecodable {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toJSON(): string {
    return this.#text;
  }
}

/** A query string's parameters, as `compileParameters` takes them: parsers usually take `%FF` or a lone `%` as it stands. */
export const parseQuery = (query: string): Record<string, unknown> =>
  parse(query, "&", "=", { maxKeys: 0, decodeURIComponent: decoded as (text: string) => string });

function decoded(text: string): string | Undecodable {
  try {
    return decodeURIComponent(text);
  } catch {
    return new Undecodable(text);
  }
}

/** What a property's schema may say that matters here. */
interface PropertySchema {
  readonly type?: string;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: PropertySchema;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly { readonly const?: unknown }[];
}

/** A map: a parameter may be called `constructor`. */
type Properties = ReadonlyMap<string, PropertySchema>;

/**
 * Text becomes what the schema wants: whole numbers, true and false, and a list of one where a parameter may be repeated.
 * Defaults fill in.
 * @param schema an object that allows no other properties
 * @returns a check whose error is the problem `invalid-parameter`, with `field` and, for several faults, `problems`
 */
export function compileParameters(schema: TSchema): (given: unknown) => Checked {
  const check = Compile(schema);
  const properties = propertiesOf(schema);
  const defaults = Object.fromEntries(
    [...properties].flatMap(([name, one]) => (one.default === undefined ? [] : [[name, one.default]])),
  );
  return (given) => {
    const texts: Values = { ...(given as Values) };
    const converted = Object.entries(texts).map(([name, text]) => [name, convert(properties.get(name), text)]);
    const value: Values = { ...defaults, ...Object.fromEntries(converted) };
    if (check.Check(value)) return { value };
    const faults = explain(texts, properties, requiredOf(schema), check.Errors(value));
    return { error: new ProblemError(faulty(faults)) };
  };
}

/**
 * The same for a small JSON object, of which nothing is converted nor filled in; fields are JSON pointers.
 * @param schema an object that allows no other properties and requires none
 * @returns a check whose result is the problem, or null
 */
export function compileBody(schema: TSchema): (given: unknown) => Problem | null {
  const check = Compile(schema);
  const properties = propertiesOf(schema);
  return (given) => {
    const valid: boolean = check.Check(given);
    if (valid) return null;
    if (typeof given === "object" && given !== null && !Array.isArray(given))
      return faulty(explainBody(given as Values, properties, check.Errors(given)));
    const known = [...properties.keys()].join(", ");
    return problem("invalid-parameter", `The body must be an object with any of ${known}, not ${shown(given)}.`, {
      field: "",
    });
  };
}

function explainBody(given: Values, properties: Properties, errors: readonly SchemaError[]): ParameterFault[] {
  return Object.entries(given).flatMap(([name, value]) => {
    const property = properties.get(name);
    if (!property) return [{ field: pointer([name]), detail: unknown(excerpt(name), properties) }];
    const error = errors.find(({ instancePath }) => instancePath.split("/")[1] === name);
    if (!error) return [];
    const nth = error.instancePath.split("/")[2];
    const [path, schema, at]: [string[], PropertySchema, unknown] =
      nth === undefined
        ? [[name], property, value]
        : [[name, nth], property.items ?? {}, (value as readonly unknown[])[Number(nth)]];
    return [{ field: pointer(path), detail: `${path.join("/")} ${wrong(schema, at, error.message)}.` }];
  });
}

const propertiesOf = (schema: TSchema): Properties =>
  new Map(Object.entries("properties" in schema ? (schema.properties ?? {}) : {}));

function convert(schema: PropertySchema | undefined, text: unknown): unknown {
  const type = schema?.type;
  if (type === "array") return Array.isArray(text) ? text : [text];
  if (type === "integer" && typeof text === "string" && INTEGER.test(text)) return Number(text);
  if (type === "boolean" && (text === "true" || text === "false")) return text === "true";
  return text;
}

/** As the library tells it. */
interface SchemaError {
  readonly instancePath: string;
  readonly message: string;
}

/** One wrong parameter. */
interface ParameterFault {
  readonly field: string;
  readonly detail: string;
}

/** `first` covers tools that show one detail only. */
function faulty(faults: readonly ParameterFault[]): Problem {
  const [first] = faults;
  const detail = faults.map((fault) => fault.detail).join(" ");
  return problem("invalid-parameter", detail, {
    ...(first && { field: first.field }),
    ...(faults.length > 1 && { problems: faults }),
  });
}

const requiredOf = (schema: TSchema): readonly string[] =>
  "required" in schema && Array.isArray(schema.required) ? schema.required : [];

/** The library stops at its first 8 errors; names are compared here, so that none of the missing or unknown are lost. */
function explain(
  texts: Values,
  properties: Properties,
  required: readonly string[],
  errors: readonly SchemaError[],
): ParameterFault[] {
  const missing = required.filter((name) => !(name in texts) && properties.get(name)?.default === undefined);
  const faults = missing.map((name) => ({ field: name, detail: `${name} is missing.` }));
  for (const [name, value] of Object.entries(texts)) {
    const property = properties.get(name);
    const error = errors.find(({ instancePath }) => instancePath.split("/")[1] === name);
    if (!property) faults.push({ field: name, detail: unknown(name, properties) });
    else if (Array.isArray(value) && property.type !== "array")
      faults.push({ field: name, detail: `${name} is given ${value.length} times: give it once.` });
    else if (error) faults.push({ field: name, detail: `${name} ${wrong(property, value, error.message)}.` });
  }
  return faults;
}

const unknown = (name: string, known: Properties): string =>
  `${name} is not known here${known.size > 0 ? `: use ${[...known.keys()].join(", ")}` : ""}.`;

/** At most 200 characters of what was sent. */
const shown = (value: unknown): string => JSON.stringify(value).slice(0, 200);

/** @param message the library's own words, where there are none here */
function wrong(property: PropertySchema, value: unknown, message: string): string {
  const undecodable = [value].flat().find((one) => one instanceof Undecodable);
  if (undecodable) return `is not percent-encoded UTF-8: write é as %C3%A9 and % as %25, not ${shown(undecodable)}`;
  if (value === "") return "is empty: give it a value";
  const { type, maxItems } = property;
  if (type === "array" && Array.isArray(value) && maxItems !== undefined && value.length > maxItems)
    return `is given ${value.length} times: give it ${maxItems} times at most`;
  const plus = SPACED_ZONE.test(String(value)) ? "; in an address + means a space: write it %2B" : "";
  return `${wanted(property) ?? message}, not ${shown(value)}${plus}`;
}

/** A time zone after a space, which was a + once. */
const SPACED_ZONE = /T.* \d\d:?\d\d$/i;

function wanted(property: PropertySchema): string | undefined {
  const { type, format, minimum, maximum, minItems = 0, maxItems } = property;
  const words = property.enum ?? property.anyOf?.flatMap((one) => (one.const === undefined ? [] : [one.const]));
  if (words && words.length > 0) return `must be one of ${words.join(", ")}`;
  if (type === "boolean") return "must be true or false";
  if (format === "date-time") return "must be an RFC 3339 time, as 2026-01-31T08:00:00Z";
  if (type === "string") return "must be a text";
  if (type === "array") return `must be a list${maxItems === undefined ? "" : ` of ${minItems} to ${maxItems}`}`;
  if (type !== "integer") return undefined;
  return `must be a whole number${minimum === undefined || maximum === undefined ? "" : ` from ${minimum} to ${maximum}`}`;
}
