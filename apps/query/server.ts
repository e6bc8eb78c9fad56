/** Routes ↔ status codes of query. */
import { Type } from "typebox";
import { demand } from "#lib/access.ts";
import { BEGINNING } from "#lib/cursor.ts";
import type { Server } from "#lib/http.ts";
import { Answers } from "./answers.ts";
import { registerDeadLetters } from "./dead-letters/routes.ts";
import { type LiveRouteParts, registerLive } from "./live-routes.ts";
import { checkedClientId, PageParameters, pageQuery } from "./parameters.ts";

const Shown = Type.Object({
  id: Type.String(),
  clientId: Type.String(),
  type: Type.String(),
  occurredAt: Type.String({ format: "date-time" }),
  receivedAt: Type.String({ format: "date-time" }),
  data: Type.Optional(Type.Unknown()),
  cursor: Type.String(),
});
/** Printed by `answers.ts`, as bytes; `headers` are for the document. */
const PageAnswer = Type.Unsafe<Buffer>({
  ...Type.Object({ events: Type.Array(Shown), next: Type.String(), hasMore: Type.Boolean() }),
  headers: {
    "Spillway-Saved-Through": Type.String({
      description: "Cursor up to which this client's events are saved; 0 when nothing is.",
    }),
  },
});
const LagAnswer = Type.Object({
  lagRecords: Type.Integer(),
  partitions: Type.Array(
    Type.Object({
      partition: Type.Integer(),
      highWatermark: Type.Integer(),
      nextOffset: Type.Union([Type.Integer(), Type.Null()]),
      lagRecords: Type.Integer(),
    }),
  ),
});

export type QueryParts = LiveRouteParts;

/** `GET /api/v1/events`, `GET /api/v1/events/live`, `GET /api/v1/lag`, dead letters. Must be awaited before the server listens. */
export async function registerQuery(server: Server, parts: QueryParts): Promise<void> {
  registerPages(server, parts);
  await registerLive(server, parts);
  registerLag(server, parts);
  registerDeadLetters(server, parts.query);
}

function registerPages(server: Server, { query, clock }: QueryParts): void {
  const answers = new Answers(clock);
  server.get(
    "/api/v1/events",
    {
      schema: {
        tags: ["events"],
        summary: "One page of a client's events, saved or not",
        description:
          "Shows every event that was acknowledged before this request, in the client's order. The header " +
          "Spillway-Saved-Through tells up to which cursor events are saved; the body is the same either way. " +
          "A page may hold fewer events than the limit while hasMore is true: go on from next.",
        querystring: PageParameters,
        response: { 200: PageAnswer },
        problems: [410],
      },
    },
    async (request, reply) => {
      const clientId = checkedClientId(request.query.clientId);
      demand(request.access, "read", clientId);
      const order = query.order(clientId);
      const page = await query.read(order, pageQuery(request.query, order));
      const body = answers.print(page, order, reply);
      reply
        .header("spillway-saved-through", page.savedThrough === null ? BEGINNING : order.cursor(page.savedThrough))
        .header("cache-control", "no-cache")
        .type("application/json");
      return body;
    },
  );
}

function registerLag(server: Server, { query }: QueryParts): void {
  server.get(
    "/api/v1/lag",
    {
      config: { access: "operate" },
      schema: {
        tags: ["operator"],
        summary: "How many records of each partition are not saved yet",
        response: { 200: LagAnswer },
      },
    },
    () => {
      const partitions = query.lag();
      return { lagRecords: partitions.reduce((sum, { lagRecords }) => sum + lagRecords, 0), partitions };
    },
  );
}
