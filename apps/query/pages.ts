/** The page route ↔ status codes: a page, what is left of it when the caller has it, or a stream. */
import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import { preferredType } from "#lib/accept.ts";
import { demand } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import type { Server } from "#lib/http.ts";
import type { Log } from "#lib/log.ts";
import { NDJSON } from "#lib/ndjson.ts";
import { Answers, savedThrough, VARY } from "./answers.ts";
import { type Caching, caching, stillKept, unchanged } from "./etags.ts";
import { PageStreams, pagesOf, type StreamSource } from "./page-stream.ts";
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
const LastLine = Type.Object({
  next: Type.Optional(Type.String()),
  hasMore: Type.Optional(Type.Boolean()),
  problem: Type.Optional(Type.Ref("Problem#")),
});
/** Printed by `answers.ts`, as bytes; `headers` are for the document. */
const PageAnswer = Type.Unsafe<Buffer | FastifyReply>({
  description: "A page; or all events, a line each, and a last line that tells how the stream ended.",
  content: {
    "application/json": {
      schema: Type.Object({ events: Type.Array(Shown), next: Type.String(), hasMore: Type.Boolean() }),
    },
    [NDJSON]: { schema: Type.Union([Shown, LastLine]) },
  },
  headers: {
    "Spillway-Saved-Through": Type.String({
      description: "Cursor up to which this client's events are saved; 0 when nothing is.",
    }),
    ETag: Type.String({ description: "Of a page: send it back as If-None-Match, and what is unchanged is 304." }),
    "Cache-Control": Type.String({ description: "Immutable for a page that can never change, for one to two days." }),
  },
});
const SCHEMA = {
  tags: ["events"],
  summary: "One page of a client's events, saved or not, or a stream of all of them",
  description:
    "Shows every event that was acknowledged before this request, in the client's order. The header " +
    "Spillway-Saved-Through tells up to which cursor events are saved; the body is the same either way. " +
    "A page may hold fewer events than the limit while hasMore is true: go on from next. " +
    "With Accept: application/x-ndjson it is a stream of the whole range up to where the log reaches now, an event a line. " +
    'Its last line is {"next","hasMore"}, or {"problem","next"} when it could not be finished: go on from next. Without one ' +
    "it is not complete.",
  querystring: PageParameters,
  response: { 200: PageAnswer, 304: Type.Null({ description: "What the caller has is still right." }) },
  problems: [410],
} as const;

export interface PageParts {
  readonly query: StreamSource & Pick<Query, "order" | "explained">;
  readonly clock: Clock;
  readonly log: Log;
}

/** `GET /api/v1/events`. */
export function registerPages(server: Server, { query, clock, log }: PageParts): void {
  const answers = new Answers(clock);
  const streams = new PageStreams({ room: answers.room, clock, log });
  server.addHook("preClose", (done) => {
    streams.stop();
    done();
  });
  server.get("/api/v1/events", { schema: SCHEMA }, async (request, reply) => {
    const clientId = checkedClientId(request.query.clientId);
    demand(request.access, "read", clientId);
    const order = query.order(clientId);
    const asked = await understood(query, () => pageQuery(request.query, order));
    if (preferredType(request.headers, ["application/json", NDJSON]) === NDJSON) {
      if (request.method === "HEAD")
        return reply.type(NDJSON).headers({ vary: VARY, "cache-control": "no-store" }).send(Buffer.of());
      await streams.send(pagesOf(query, order, asked, { eventsMax: request.query.limit ?? null, clock }), order, reply);
      return reply;
    }
    void reply.header("vary", VARY);
    const { "if-none-match": known } = request.headers;
    const kept = stillKept(known, order, asked, clock.now());
    if (kept !== null) return told(reply.code(304), kept).send("");
    const page = await query.read(order, asked);
    const body = answers.print(page, order, reply);
    const { etag, cacheControl } = caching({ order, query: asked, page, body }, clock.now());
    void reply.headers(savedThrough(page, order));
    const same = unchanged(known, etag);
    if (same !== null) return told(reply.code(304), { etag: same, cacheControl }).send("");
    return told(reply.type("application/json"), { etag, cacheControl }).send(body);
  });
}

/** @throws ProblemError what is wrong with the parameters */
export async function understood<T>(query: Pick<Query, "explained">, read: () => T): Promise<T> {
  try {
    return read();
  } catch (error) {
    throw await query.explained(error);
  }
}

const told = (reply: FastifyReply, { etag, cacheControl }: Caching): FastifyReply =>
  reply.headers({ etag, "cache-control": cacheControl });
