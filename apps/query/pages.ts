/** The page route ↔ status codes. */
import { Type } from "typebox";
import { demand } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import { BEGINNING } from "#lib/cursor.ts";
import type { Server } from "#lib/http.ts";
import { Answers } from "./answers.ts";
import { checkedClientId, PageParameters, pageQuery } from "./parameters.ts";
import type { Query } from "./query.ts";

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

export interface PageParts {
  readonly query: Query;
  readonly clock: Clock;
}

/** `GET /api/v1/events`. */
export function registerPages(server: Server, { query, clock }: PageParts): void {
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
