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
      Type.Array(
        Type.Object({
          index: Type.Optional(Type.Integer({ description: "Of the event, from 0, with a POST of events." })),
          line: Type.Optional(Type.Integer({ description: "Of the event, from 1, with a stream." })),
          code: Type.Optional(Type.Enum(Object.keys(PROBLEMS), { description: "With a POST of events." })),
          field: Type.String({ description: "JSON pointer inside the event, or parameter name." }),
          detail: Type.String(),
        }),
        { description: "Each fault by itself." },
      ),
    ),
    problemsTotal: Type.Optional(Type.Integer({ description: "Of which the first 1,000 are listed." })),
    stored: Type.Optional(
      Type.Enum(["no", "unknown"], { description: "With a 503 to POST: whether anything may be." }),
    ),
    line: Type.Optional(Type.Integer({ description: "With a stream: send again from this line on." })),
    lines: Type.Optional(Type.Array(Type.Integer(), { description: "With a stream: where each of `ids` belongs." })),
    ids: Type.Optional(Type.Array(Type.String(), { description: "With a 503 to POST: what to send again with." })),
  },
  { $id: "Problem" },
);

declare module "fastify" {
  interface FastifySchema {
    /** Statuses of problems that this route answers besides those of every route of its kind. */
    readonly problems?: readonly (keyof typeof ANSWERS)[];
  }
}

const ANSWERS = {
  400: "The request is wrong; nothing was done.",
  401: "A key is needed and none, or none that is known, was given.",
  403: "The key does not allow this for this clientId, whether or not the client exists; or a node without keys was asked by a foreign name.",
  404: "There is no such thing.",
  405: "The address is another's, which does not know the method: `Allow` says which it knows.",
  408: "The request stopped coming in.",
  410: "No log here has the place that the cursor names: start again from an earlier one, or with after=0.",
  413: "The body is too large.",
  415: "The body's content type, charset or encoding is not taken.",
  426: "This address speaks WebSocket, or server-sent events with Accept: text/event-stream.",
  503: "Not now: `Retry-After` says when.",
  default: "Any other problem.",
} as const;

/** What no operation can say of itself. */
const ABOUT =
  "Errors are application/problem+json with a stable code. Every GET is served as HEAD too, but the live one. Before a route " +
  "is found a request may be refused with 400 malformed-request, 404 not-found, 405 method-not-allowed (Allow names the " +
  "methods), 408 request-timeout, 417 expectation-failed and 431 headers-too-large.";

const RETRY_AFTER = { "Retry-After": Type.Integer({ description: "Seconds to wait before trying again." }) };

const problemAnswers = (...statuses: readonly (keyof typeof ANSWERS)[]): object =>
  Object.fromEntries(
    statuses.map((status) => [
      status,
      {
        description: ANSWERS[status],
        content: { [PROBLEM_TYPE]: { schema: Type.Ref("Problem#") } },
        ...(status === 503 && { headers: RETRY_AFTER }),
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
    info: { title, version: "1", description: ABOUT },
    components: { securitySchemes: { bearer: { type: "http", scheme: "bearer" } } },
  };
  const refResolver: FastifyDynamicSwaggerOptions["refResolver"] = {
    buildLocalReference: ({ $id }, _uri, _fragment, i) => (typeof $id === "string" ? $id : `def-${i}`),
  };
  const transform: FastifyDynamicSwaggerOptions["transform"] = ({ schema, url, route }) => ({
    schema: told(schema, url, route.config?.access === "open"),
    url,
  });
  await server.register(swagger, { openapi, refResolver, transform });
}

/** Routes without a schema (files of the page) are not in the document. */
function told(schema: FastifySchema | undefined, url: string, open: boolean): FastifySchema {
  if (!schema) return { hide: true };
  if (open) return schema;
  const { problems = [], ...rest } = schema;
  const ofBodies = schema.consumes ? ([413, 415] as const) : [];
  const ofTheContract = url.startsWith(API_PREFIX) ? ([400, "default"] as const) : [];
  const refused = problemAnswers(401, 403, 503, ...ofTheContract, ...ofBodies, ...problems);
  const querystring = withoutDefaults(schema.querystring);
  const response = { ...refused, ...(schema.response as object) };
  return { ...rest, ...(querystring ? { querystring } : {}), response, security: [{ bearer: [] }] };
}

/** A parameter that has a default may be left out; only for the handler it is always there. */
function withoutDefaults(schema: unknown): object | undefined {
  const { properties, required } = (schema ?? {}) as { properties?: Record<string, object>; required?: string[] };
  if (properties === undefined || required === undefined) return undefined;
  const needed = required.filter((name) => !("default" in (properties[name] ?? {})));
  return { ...(schema as object), required: needed };
}
