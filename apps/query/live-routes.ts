/** The live route: who is to be followed, over a WebSocket or by server-sent events. */
import type { Duplex } from "node:stream";
import websocket, { type WebSocket } from "@fastify/websocket";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import { demand, noAccess } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import { refuseOnSocket } from "#lib/faults.ts";
import type { Server } from "#lib/http.ts";
import type { Log } from "#lib/log.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { LIVE_DESCRIPTION } from "./live-document.ts";
import { understood } from "./pages.ts";
import { checkedClientId, checkedTypes, LiveParameters } from "./parameters.ts";
import type { Query } from "./query.ts";
import { LiveStream } from "./sse.ts";
import { type Asked, closeAll, LiveSocket } from "./websocket.ts";

const MESSAGE_BYTES_MAX = 16 * 1024;
/** After the close frame; the process has 25 s for all its tasks. */
const CLOSE_MS_MAX = 2_000;

export interface LiveRouteParts {
  readonly query: Pick<Query, "order" | "live" | "onLeft" | "explained">;
  readonly log: Log;
  readonly clock: Clock;
}

/** `GET /api/v1/events/live`. Must be awaited before the server listens. */
export async function registerLive(server: Server, { query, log, clock }: LiveRouteParts): Promise<void> {
  await registerWebSocket(server, log, clock);
  const streams = new Set<LiveStream>();
  const leave = (): void => {
    for (const stream of streams) stream.leave();
  };
  server.addHook("preClose", (done) => {
    leave();
    done();
  });
  query.onLeft(() => {
    leave();
    closeAll(server.websocketServer.clients as Set<WebSocket>);
  });
  server.route({
    method: "GET",
    url: "/api/v1/events/live",
    exposeHeadRoute: false,
    attachValidation: true,
    config: { access: "firstMessage" },
    schema: {
      tags: ["events"],
      summary: "Clients' events as they come, over a WebSocket or as server-sent events",
      description: LIVE_DESCRIPTION,
      querystring: LiveParameters,
      response: {
        101: Type.Null({ description: "The connection is a WebSocket now, and tells all else by its frames." }),
        200: Type.Unsafe<string>({
          content: {
            "text/event-stream": { schema: Type.String({ description: "Server-sent events, until it ends." }) },
          },
        }),
      },
      problems: [410, 426],
    },
    handler: async (request, reply) => {
      if (!EVENT_STREAM.test(request.headers.accept ?? "")) {
        void reply.header("upgrade", "websocket");
        const detail =
          "Connect with a WebSocket client, ws://… instead of http://…, or send Accept: text/event-stream.";
        throw new ProblemError(problem("upgrade-required", detail));
      }
      const wish = await understood(query, () => streamWish(query, request));
      const stream = new LiveStream(reply, { live: query.live(wish.order), clock, log });
      streams.add(stream);
      reply.raw.once("close", () => streams.delete(stream));
      await stream.follow(wish);
      return reply;
    },
    wsHandler: (socket, request) => {
      const { accessOf } = server.spillway;
      const { clientId, ...more } = request.query as Partial<Asked>;
      const asked = (): Asked | null => {
        if (request.validationError) throw request.validationError;
        if (clientId !== undefined) return { clientId, ...more };
        if (Object.keys(more).length === 0) return null;
        throw new ProblemError(
          problem("invalid-parameter", "after and type say nothing without a clientId: give it, or subscribe later.", {
            field: "clientId",
          }),
        );
      };
      new LiveSocket(socket, { query, clock, log, accessOf }).start(request.access, asked);
    },
  });
}

/** Named, and not only by `*\/*`, which every client sends. */
const EVENT_STREAM = /(^|,)\s*text\/event-stream\s*(?!;\s*q=0(\.0*)?\s*(,|$))(;|,|$)/i;

/** @throws ProblemError when it may not or cannot be followed */
function streamWish(query: LiveRouteParts["query"], request: FastifyRequest) {
  if (request.access === noAccess)
    throw new ProblemError(
      problem("unauthenticated", "There is none: send the header Authorization: Bearer and a key of this node."),
    );
  if (request.validationError) throw request.validationError;
  const { clientId, after, type } = request.query as Partial<Asked>;
  if (clientId === undefined)
    throw new ProblemError(
      problem("invalid-parameter", "clientId is missing: a stream of events follows one client.", {
        field: "clientId",
      }),
    );
  demand(request.access, "read", checkedClientId(clientId));
  const order = query.order(clientId);
  const last = request.headers["last-event-id"];
  const [cursor, field] = last ? [String(last), "Last-Event-ID"] : [after, "after"];
  return { order, from: cursor === undefined ? null : order.place(cursor, field), types: checkedTypes(type) };
}

async function registerWebSocket(server: Server, log: Log, clock: Clock): Promise<void> {
  await server.register(websocket, {
    options: { maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false },
    // A connection that breaks is closed by the library; its followers end with it.
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
}
