/** Routes ↔ status codes of query. */
import type { Duplex } from "node:stream";
import websocket, { type WebSocket } from "@fastify/websocket";
import { Type } from "typebox";
import { demand } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import { BEGINNING } from "#lib/cursor.ts";
import { refuseOnSocket } from "#lib/faults.ts";
import type { Server } from "#lib/http.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { Answers } from "./answers.ts";
import { registerDeadLetters } from "./dead-letters/routes.ts";
import { checkedClientId, LiveParameters, PageParameters, pageQuery } from "./parameters.ts";
import type { Query } from "./query.ts";
import { closeAll, LiveSocket } from "./websocket.ts";

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

/** A client's message is a token at most. */
const MESSAGE_BYTES_MAX = 16 * 1024;
/** After the close frame; the process has 25 s for all its tasks. */
const CLOSE_MS_MAX = 2_000;

export interface QueryParts {
  readonly query: Query;
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

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

async function registerLive(server: Server, { query, log, clock, metrics }: QueryParts): Promise<void> {
  await server.register(websocket, {
    options: { maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false },
    // A connection that breaks is closed by the library; its follower ends with it.
    errorHandler: (error, socket) => {
      log.debug("live socket failed", { error: error.message });
      socket.terminate();
    },
    preClose: (done) => {
      const sockets = server.websocketServer.clients as Set<WebSocket>;
      closeAll(sockets);
      const cancel = clock.after(CLOSE_MS_MAX, () => sockets.forEach((socket) => void socket.terminate()));
      server.websocketServer.close(() => {
        cancel();
        done();
      });
    },
  });
  const told = "sec-websocket-version: 13\r\n";
  server.websocketServer.on("wsClientError", ({ message }: Error, socket: Duplex) =>
    refuseOnSocket(socket, problem("malformed-request", `${message}: connect with a WebSocket client.`), told),
  );
  server.route({
    method: "GET",
    url: "/api/v1/events/live",
    exposeHeadRoute: false,
    attachValidation: true,
    config: { access: "firstMessage" },
    schema: {
      tags: ["events"],
      summary: "A client's events as they come, over a WebSocket",
      description:
        'Frames: {"type":"events","clientId","events":[…]}, {"type":"caughtUp"|"fellBehind","clientId","cursor"}, ' +
        '{"type":"problem","clientId","problem"}. caughtUp comes as soon as the follower is caught up, and again with ' +
        "every heartbeat: its cursor, or the last event's, is where to resume. Where the header Authorization cannot be " +
        'sent, the first message is {"op":"authenticate","token":…}. What is wrong with the parameters, the token of a first ' +
        "message, the key's rights or the cursor is told after the upgrade: a frame problem, and the close code 4400, 4401, " +
        "4403 or 4410. A header Authorization that is not known, a foreign host name and a malformed handshake are refused " +
        "before it, with the statuses below. Other close codes: 1011 a mistake of Spillway's, 1012 reconnect with your cursor, " +
        "1013 later, 4408 silent. There are no server-sent events: whoever accepts text/event-stream gets 426.",
      querystring: LiveParameters,
      response: {
        101: Type.Null({ description: "The connection is a WebSocket now, and tells all else by its frames." }),
      },
      problems: [426],
    },
    handler: (_request, reply) => {
      void reply.header("upgrade", "websocket");
      throw new ProblemError(problem("upgrade-required", "Connect with a WebSocket client: ws://…, not http://…."));
    },
    wsHandler: (socket, request) => {
      const { accessOf } = server.spillway;
      const { clientId, after } = request.query as { clientId: string; after?: string };
      const wrong = request.validationError;
      const checked = (): string => {
        if (wrong) throw wrong;
        return checkedClientId(clientId);
      };
      new LiveSocket(socket, { query, clock, log, metrics, accessOf }).start(request.access, {
        clientId: checked,
        after,
      });
    },
  });
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
