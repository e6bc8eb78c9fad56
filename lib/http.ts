/**
 * The one HTTP server of a process. It knows who calls, refuses what no route takes, answers every error as a problem,
 * and drains. Roles add their routes to it. Hooks are synchronous and do little: they run for every event posted.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
  fastify,
  type RawServerDefault,
} from "fastify";
import { type TSchema, Type } from "typebox";
import { aborted } from "./abort.ts";
import { type Access, type KeyRing, openAccess } from "./access.ts";
import { guardRoute } from "./admission.ts";
import { bodyParser } from "./body.ts";
import { type Clock, systemClock } from "./clock.ts";
import { LIMITS } from "./event.ts";
import { clientErrorHandler, errorHandler, refuseExpectation, sendProblem } from "./faults.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { describeRoutes } from "./openapi.ts";
import { addOperatorRoutes, type Readiness } from "./operator.ts";
import { compileParameters, parseQuery } from "./parameters.ts";
import { problem } from "./problem.ts";
import { listenRemedy } from "./remedies.ts";
import { Room } from "./room.ts";
import type { Task } from "./run.ts";

export type Server = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export interface ServerOptions {
  readonly log: Log;
  readonly metrics: Metrics;
  /** null: no keys, everybody on this machine may do everything, or simply everybody if `open`. */
  readonly access: KeyRing | null;
  readonly ready: () => Promise<Readiness> | Readiness;
  readonly title: string;
  /** Serve other machines, and pages of other sites, even without keys. */
  readonly open?: boolean;
  readonly connectionsMax?: number;
  /** Of request bodies that are coming in; beyond it, 503. Those that come in one piece do not count. */
  readonly bodiesBytesMax?: number;
  readonly clock?: Clock;
}

/** A server times out what stalls. Who is over time is looked for every 10 s. */
const TIMEOUTS = {
  headersTimeoutMs: 10_000,
  /** A whole request: 4 MiB at 0.6 Mbit/s. */
  requestTimeoutMs: 60_000,
  /** No byte either way. Longer than any request may be worked on, which is 25 s. */
  connectionTimeoutMs: 30_000,
  connectionsCheckingIntervalMs: 10_000,
  /** Longer than the 60 s of usual load balancers: they, not we, close idle connections, so no request is lost. */
  keepAliveTimeoutMs: 72_000,
} as const;
const HEADER_BYTES_MAX = 16 * 1024;
/** Three of the largest, where the role does not say. */
const BODIES_BYTES_MAX = 3 * LIMITS.bodyBytesMax;
/** A drain waits this long for answers in flight, then cuts: the process has 25 s for all its tasks. */
const DRAIN_MS_MAX = 10_000;
const DRAIN_STEP_MS = 50;

/**
 * A server with the operator's routes. JSON bodies reach handlers as Buffers, not parsed nor checked (body schemas only
 * document; see `rawBody`); another content type is declared by adding its parser in the plugin that holds its route.
 * Parameters are checked; answers' schemas only document. Routes under `/api/` must have a schema.
 */
export async function createServer(options: ServerOptions): Promise<Server> {
  const { log, metrics, access: keys, title, clock = systemClock } = options;
  const server: Server = fastify({
    logger: false,
    bodyLimit: LIMITS.bodyBytesMax,
    requestTimeout: TIMEOUTS.requestTimeoutMs,
    connectionTimeout: TIMEOUTS.connectionTimeoutMs,
    keepAliveTimeout: TIMEOUTS.keepAliveTimeoutMs,
    http: {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: TIMEOUTS.headersTimeoutMs,
      connectionsCheckingInterval: TIMEOUTS.connectionsCheckingIntervalMs,
      // Any other upgrade (curl --http2 asks for h2c) is served as HTTP/1.1: handed over, its body would be lost.
      shouldUpgradeCallback: ({ method, headers }) =>
        server.server.listenerCount("upgrade") > 0 && method === "GET" && /^websocket$/i.test(headers.upgrade ?? ""),
    },
    return503OnClosing: false,
    routerOptions: { querystringParser: parseQuery },
    clientErrorHandler,
    frameworkErrors: (error, request, reply) => void errorHandler(log)(error, request, reply),
  }).withTypeProvider<TypeBoxTypeProvider>();
  server.server.on("checkExpectation", refuseExpectation);
  server.server.maxConnections = options.connectionsMax ?? 20_000;
  const state = { draining: false, sinceMs: clock.now() };
  const room = new Room(options.bodiesBytesMax ?? BODIES_BYTES_MAX, clock);
  const localOnly = keys === null && options.open !== true;
  server.addHook("preClose", (done) => {
    Object.assign(state, { draining: true, sinceMs: clock.now() });
    done();
  });
  const accessOf = (token: string): Access | null => (keys ? keys.find(token) : openAccess);
  const authenticate = ({ headers: { authorization } }: FastifyRequest): Access | null =>
    keys ? keys.find(bearer(authorization)) : openAccess;
  server.decorate("spillway", { log, clock, accessOf, authenticate, bodies: room });
  server.decorateRequest("access", null as unknown as Access);
  answerUnknown(server, metrics);
  server.addHook("onRoute", (route) => guardRoute(route, { authenticate, localOnly, state, metrics, room }));
  server.removeAllContentTypeParsers();
  server.addContentTypeParser("application/json", bodyParser(room, LIMITS.bodyBytesMax));
  server.setValidatorCompiler<TSchema>(({ schema, httpPart }) =>
    httpPart === "querystring" || httpPart === "params" ? compileParameters(schema) : () => true,
  );
  server.setSerializerCompiler(() => JSON.stringify);
  server.setErrorHandler(errorHandler(log));
  await describeRoutes(server, title);
  const leaving = (): Readiness => ({
    ready: false,
    missing: [{ what: "it is shutting down", sinceMs: state.sinceMs }],
  });
  addOperatorRoutes(server, { metrics, clock, ready: () => (state.draining ? leaving() : options.ready()) });
  return server;
}

/** The type of a body that the handler gets as bytes; `schema` is for the document. */
export const rawBody = (schema: TSchema) => Type.Unsafe<Buffer>(schema);

const bearer = (header: string | undefined): string => (header && /^bearer +(\S+) *$/i.exec(header)?.[1]) ?? "";

/** 404, and 405 where the path is known for other methods. Must come before the first route. */
function answerUnknown(server: Server, metrics: Metrics): void {
  const routes: { readonly url: string; readonly methods: readonly string[] }[] = [];
  server.addHook("onRoute", ({ url, method }) => void routes.push({ url, methods: [method].flat() }));
  server.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?")[0] ?? "";
    const same = routes.filter(({ url }) => url === path);
    const found = same.length > 0 ? same : routes.filter(({ url }) => matches(url, path));
    const methods = new Set(found.flatMap((route) => route.methods));
    const allowed = [...methods].join(", ");
    metrics.httpRequestMs.observe({ route: "none", status: allowed ? 405 : 404 }, reply.elapsedTime);
    if (!allowed) return sendProblem(reply, problem("not-found", `${path} is not known: see /openapi.json.`));
    void reply.header("allow", allowed);
    return sendProblem(reply, problem("method-not-allowed", `Use one of ${allowed}, not ${request.method}.`));
  });
}

/** Whether `/a/:b` or `/a/*` means this path. */
function matches(pattern: string, path: string): boolean {
  if (pattern.endsWith("*")) return path.startsWith(pattern.slice(0, -1));
  const wanted = pattern.split("/");
  const given = path.split("/");
  return wanted.length === given.length && wanted.every((part, i) => part.startsWith(":") || part === given[i]);
}

/**
 * Listens until told to stop. Then it takes no new connection, answers 503 on old ones, closes those that are idle, and ends
 * when the answers in flight are done, at the latest after 10 s. Streams must end by their own tasks' signals.
 */
export function listenTask(server: Server, { host, port }: { host: string; port: number }): Task {
  return {
    name: "http server",
    async run(signal) {
      const { log, clock } = server.spillway;
      const sockets = connectionsOf(server);
      try {
        // Brackets are a URL's: no address has them.
        log.info("listening", { url: await server.listen({ host: host.replace(/^\[(.+)\]$/, "$1"), port }) });
      } catch (cause) {
        const remedy = listenRemedy((cause as NodeJS.ErrnoException).code);
        throw new Error(`cannot listen on ${host} port ${port}: ${remedy}`, { cause });
      }
      await aborted(signal);
      const giveUp = clock.after(DRAIN_MS_MAX, () => {
        log.warn("connections cut", { afterMs: DRAIN_MS_MAX, connections: sockets.size });
        for (const socket of sockets) socket.destroy();
      });
      for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
      const closing = { done: false };
      const closed = server.close().finally(() => {
        closing.done = true;
      });
      // A connection that falls idle after the close would otherwise hold the server until its keep-alive ends.
      while (!closing.done) {
        server.server.closeIdleConnections();
        await clock.sleep(DRAIN_STEP_MS);
      }
      giveUp();
      await closed;
    },
  };
}

/**
 * Those that are open now and later. Node counts one that has not sent a byte as busy, and browsers and balancers open some
 * ahead: they are the owner's to close.
 */
function connectionsOf(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return sockets;
}
