/** The OpenAPI document, made from the routes' own schemas: several roles on one server give one document. */
import swagger, { type FastifyDynamicSwaggerOptions } from "@fastify/swagger";
import type { FastifyInstance, FastifySchema } from "fastify";
import { Type } from "typebox";
import { PROBLEM_TYPE } from "./faults.ts";
import { PROBLEMS } from "./problem.ts";

/** Routes of the contract; all others serve the operator or the page. */
export const API_PREFIX = "/api/";

const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: "urn:spillway:problem: and the code" }),
    title: Type.String(),
    status: Type.Integer(),
    code: Type.Enum(Object.keys(PROBLEMS)),
    detail: Type.String({ description: "What is wrong, with the value, and what to do about it." }),
    field: Type.Optional(Type.String({ description: "JSON pointer or parameter name." })),
    problems: Type.Optional(
      Type.Array(Type.Object({ field: Type.String(), detail: Type.String() }), {
        description: "Each fault by itself.",
      }),
    ),
    problemsTotal: Type.Optional(Type.Integer({ description: "Of which the first 1,000 are listed." })),
    stored: Type.Optional(
      Type.Enum(["no", "unknown"], { description: "With a 503 to POST: whether anything may be." }),
    ),
    ids: Type.Optional(Type.Array(Type.String(), { description: "With a 503 to POST: what to send again with." })),
  },
  { $id: "Problem" },
);

/** Which problems any API route may answer. */
const ANSWERS: Readonly<Record<string, string>> = {
  400: "The request is wrong; nothing was done.",
  401: "A key is needed and none, or none that is known, was given.",
  403: "The key does not allow this for this clientId, whether or not the client exists.",
  503: "Not now: `Retry-After` says when.",
  default: "Any other problem.",
};

const RETRY_AFTER = { "Retry-After": Type.Integer({ description: "Seconds to wait before trying again." }) };

const problemAnswers = Object.fromEntries(
  Object.entries(ANSWERS).map(([status, description]) => [
    status,
    {
      description,
      content: { [PROBLEM_TYPE]: { schema: Type.Ref("Problem#") } },
      ...(status === "503" && { headers: RETRY_AFTER }),
    },
  ]),
);

/**
 * Must be awaited before the first route is added: only later routes are in the document.
 * @param title as the document's own
 */
export async function describeRoutes(server: FastifyInstance, title: string): Promise<void> {
  server.addSchema(ProblemSchema);
  const openapi: FastifyDynamicSwaggerOptions["openapi"] = {
    openapi: "3.1.0",
    info: { title, version: "1" },
    components: { securitySchemes: { bearer: { type: "http", scheme: "bearer" } } },
  };
  const refResolver: FastifyDynamicSwaggerOptions["refResolver"] = {
    buildLocalReference: ({ $id }, _uri, _fragment, i) => (typeof $id === "string" ? $id : `def-${i}`),
  };
  const transform: FastifyDynamicSwaggerOptions["transform"] = ({ schema, url }) => ({
    schema: told(schema, url),
    url,
  });
  await server.register(swagger, { openapi, refResolver, transform });
}

/** Routes without a schema (files of the page) are not in the document. */
function told(schema: FastifySchema | undefined, url: string): FastifySchema {
  if (!schema) return { hide: true };
  if (!url.startsWith(API_PREFIX)) return schema;
  const response = { ...problemAnswers, ...(schema.response as object) };
  const querystring = withoutDefaults(schema.querystring);
  return { ...schema, ...(querystring ? { querystring } : {}), response, security: [{ bearer: [] }] };
}

/** A parameter that has a default may be left out; only for the handler it is always there. */
function withoutDefaults(schema: unknown): object | undefined {
  const { properties, required } = (schema ?? {}) as { properties?: Record<string, object>; required?: string[] };
  if (properties === undefined || required === undefined) return undefined;
  const needed = required.filter((name) => !("default" in (properties[name] ?? {})));
  return { ...(schema as object), required: needed };
}
