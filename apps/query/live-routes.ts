/** The live route: who is to be followed, over a WebSocket. */
import type { Duplex } from "node:stream";
import websocket, { type WebSocket } from "@fastify/websocket";
import { Type } from "typebox";
import type { Clock } from "#lib/clock.ts";
import { refuseOnSocket } from "#lib/faults.ts";
import type { Server } from "#lib/http.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { checkedClientId, LiveParameters } from "./parameters.ts";
import type { Query } from "./query.ts";
import { closeAll, LiveSocket } from "./websocket.ts";

/** A client's message is a token at most. */
const MESSAGE_BYTES_MAX = 16 * 1024;
/** After the close frame; the process has 25 s for all its tasks. */
const CLOSE_MS_MAX = 2_000;

export interface LiveRouteParts {
  readonly query: Query;
  readonly log: Log;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** `GET /api/v1/events/live`. Must be awaited before the server listens. */
export async function registerLive(server: Server, { query, log, clock, metrics }: LiveRouteParts): Promise<void> {
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
