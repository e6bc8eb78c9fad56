/** Query and path parameters: checked strictly against a route's schema, every fault named at once. Pure. */
import type { TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { ProblemError, problem } from "./problem.ts";

type Values = Readonly<Record<string, unknown>>;
/** Fastify's form of an answer. */
export type Checked = { readonly value: Values } | { readonly error: ProblemError };

/** Decimal only: `Number` would also take "", " 7 ", "0x10" and "1e2". */
const INTEGER = /^-?\d{1,15}$/;

/** What a property's schema may say that matters here. */
interface PropertySchema {
  readonly type?: string;
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
  const properties: Properties = new Map(Object.entries("properties" in schema ? (schema.properties ?? {}) : {}));
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

function convert(schema: PropertySchema | undefined, text: unknown): unknown {
  const type = schema?.type;
  if (type === "array") return Array.isArray(text) ? text : [text];
  if (type === "integer" && typeof text === "string" && INTEGER.test(text)) return Number(text);
  if (type === "boolean" && (text === "true" || text === "false")) return text === "true";
  return text;
}

/** One wrong parameter. */
interface ParameterFault {
  readonly field: string;
  readonly detail: string;
}

/** `first` covers tools that show one detail only. */
function faulty(faults: readonly ParameterFault[]): ReturnType<typeof problem> {
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
  errors: readonly { readonly instancePath: string; readonly message: string }[],
): ParameterFault[] {
  const known = [...properties.keys()];
  const missing = required.filter((name) => !(name in texts) && properties.get(name)?.default === undefined);
  const faults = missing.map((name) => ({ field: name, detail: `${name} is missing.` }));
  for (const [name, value] of Object.entries(texts)) {
    const property = properties.get(name);
    const error = errors.find(({ instancePath }) => instancePath.split("/")[1] === name);
    if (!property) faults.push({ field: name, detail: `${name} is not known here${useOneOf(known)}.` });
    else if (Array.isArray(value) && property.type !== "array")
      faults.push({ field: name, detail: `${name} is given ${value.length} times: give it once.` });
    else if (error)
      faults.push({ field: name, detail: `${name} ${wanted(property, error.message)}, not ${shown(value)}.` });
  }
  return faults;
}

const useOneOf = (known: readonly string[]): string => (known.length > 0 ? `: use ${known.join(", ")}` : "");

/** At most 200 characters of what was sent. */
const shown = (value: unknown): string => JSON.stringify(value).slice(0, 200);

function wanted(property: PropertySchema, message: string): string {
  const words = property.enum ?? property.anyOf?.flatMap((one) => (one.const === undefined ? [] : [one.const]));
  return words && words.length > 0 ? `must be one of ${words.join(", ")}` : message;
}
