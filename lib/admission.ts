/** What is let in to a route: from whom, while draining, in which encoding, with which parameters. */
import assert from "node:assert";
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest, RouteOptions } from "fastify";
import { Type } from "typebox";
import { type Access, noAccess } from "./access.ts";
import { declaredBytes, noRoom } from "./body.ts";
import type { Clock } from "./clock.ts";
import { LIMITS } from "./event.ts";
import { excerpt } from "./excerpt.ts";
import { sendProblem } from "./faults.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import { API_PREFIX } from "./openapi.ts";
import { type Problem, problem } from "./problem.ts";
import type { Room } from "./room.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** What the caller may do. Every item must still be asked for: see `demand`. */
    access: Access;
  }
  interface FastifyContextConfig {
    /**
     * Who may come in where keys exist. Left out: any key. `open`: everybody. `operate`: a key with that verb.
     * `firstMessage`: a WebSocket that may show its token later; until then `request.access` allows nothing.
     */
    access?: "open" | "operate" | "firstMessage";
  }
  interface FastifyInstance {
    readonly spillway: {
      readonly log: Log;
      readonly clock: Clock;
      /** By the header `Authorization`; null when there is none or its key is not known. */
      authenticate(request: FastifyRequest): Access | null;
      /** By a token that came another way, as in a first message. */
      accessOf(token: string): Access | null;
      /** Where bodies count that are coming in. */
      readonly bodies: Room;
    };
  }
}

export interface Guard {
  /** A node without keys that was not opened: it serves this machine, and no page of another site in its browser. */
  readonly localOnly: boolean;
  authenticate(request: FastifyRequest): Access | null;
  readonly state: { readonly draining: boolean };
  readonly metrics: Metrics;
  /** Where bodies are held that come in. */
  readonly room: Room;
}

/**
 * Requests that one connection may have under way: Node reads on while answers wait for their turn, and 64 KiB hold
 * hundreds of them. Hardly anybody sends a request before the last one's answer.
 */
const PIPELINED_MAX = 16;

/**
 * Puts the checks before a route's own work and its time into the metrics. A call per route, from the hook `onRoute`.
 * @throws AssertionError when a route of the contract does not declare what it takes
 */
export function guardRoute(route: RouteOptions, guard: Guard): void {
  if (route.url.startsWith(API_PREFIX)) requireClosedSchema(route);
  // Made per route: looking a route's options up for each request costs more than the checks.
  const { consumes } = route.schema ?? {};
  const kind = route.config?.access;
  const speaksWebSocket = Boolean(route.websocket || route.wsHandler);
  const { localOnly, room } = guard;
  const onRequest = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void => {
    const found = guard.authenticate(request);
    const refused =
      crowding(request) ??
      (speaksWebSocket ? null : upgrading(request)) ??
      refusal(request, found, { kind, localOnly, draining: guard.state.draining, consumes }) ??
      (consumes && !room.has(Math.min(declaredBytes(request), LIMITS.bodyBytesMax)) ? noRoom(room) : null);
    if (refused) return void sendProblem(reply, refused, 1, guard.state.draining);
    request.access = found ?? noAccess;
    done();
  };
  route.onRequest = [onRequest, ...[route.onRequest ?? []].flat()];
  const timers = new Map<number, ReturnType<Metrics["httpRequestMs"]["labels"]>>();
  const onResponse = ({ raw: { socket } }: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    underWay.set(socket, (underWay.get(socket) ?? 1) - 1);
    const status = reply.statusCode;
    const timer = timers.get(status) ?? guard.metrics.httpRequestMs.labels({ route: nameOf(route), status });
    timers.set(status, timer);
    timer.observe(reply.elapsedTime);
    done();
  };
  route.onResponse = [onResponse, ...[route.onResponse ?? []].flat()];
}

/** By connection; one that breaks takes its requests along. */
const underWay = new WeakMap<Socket, number>();

function crowding({ raw: { socket } }: FastifyRequest): Problem | null {
  const requests = (underWay.get(socket) ?? 0) + 1;
  underWay.set(socket, requests);
  if (requests <= PIPELINED_MAX) return null;
  const detail = `This connection has ${PIPELINED_MAX} requests under way: read their answers first, or open another.`;
  return problem("overloaded", detail, { stored: "no" });
}

/** Left to the library, the socket would be opened, and closed without a word. */
function upgrading({ raw, url }: FastifyRequest): Problem | null {
  if (!(raw as { upgrade?: boolean | null }).upgrade) return null;
  return problem("not-found", `${url.split("?")[0]} speaks no WebSocket: connect to /api/v1/events/live.`);
}

const nameOf = ({ method, url }: RouteOptions): string => `${[method].flat().join(" ")} ${url}`;

interface RouteRules {
  readonly kind: "open" | "operate" | "firstMessage" | undefined;
  readonly localOnly: boolean;
  readonly draining: boolean;
  readonly consumes: readonly string[] | undefined;
}

function refusal({ headers }: FastifyRequest, found: Access | null, rules: RouteRules): Problem | null {
  if (rules.kind === "open") return null;
  if (rules.draining) return problem("shutting-down", "Ask another node, or this one in a moment.");
  if (rules.localOnly && !isLocal(headers.host, headers.origin))
    return problem(
      "forbidden",
      "This node has no keys and serves its own machine only, by the name 127.0.0.1 or localhost: make a key with npm run keys, or start it with SPILLWAY_OPEN=true.",
    );
  const waits = rules.kind === "firstMessage" && headers.authorization === undefined;
  if (!found && !waits) {
    const given = headers.authorization === undefined ? "There is none" : "The one given is not known";
    return problem("unauthenticated", `${given}: send the header Authorization: Bearer and a key of this node.`);
  }
  if (rules.kind === "operate" && !found?.holds("operate"))
    return problem("forbidden", "This key lacks the verb operate: use an operator's key.");
  return bodyRefusal(headers, rules.consumes);
}

/** Another content type is refused by the server library, which looks for its parser. */
function bodyRefusal(headers: FastifyRequest["headers"], consumes: readonly string[] | undefined): Problem | null {
  const { "content-encoding": encoding, "content-type": type } = headers;
  if (encoding !== undefined && encoding !== "identity")
    return problem("unsupported-media-type", `Content-encoding ${encoding} is not taken: send the body as it is.`);
  // Most send just this.
  if (!consumes || type === "application/json") return null;
  if (type === undefined)
    return problem("unsupported-media-type", `Say the body's content type: ${consumes.join(" or ")}.`);
  const charset = CHARSET.exec(type)?.[1];
  if (charset !== undefined && !UTF_8.test(charset))
    return problem("unsupported-media-type", `Charset ${excerpt(charset)} is not taken: encode the body as UTF-8.`);
  return null;
}

const CHARSET = /;\s*charset\s*=\s*"?([^";\s]*)/i;
const UTF_8 = /^utf-?8$/i;

/** A route of the contract tells all it takes, so that nothing is ignored silently and the document is complete. */
function requireClosedSchema(route: RouteOptions): void {
  assert(route.schema, `${nameOf(route)} has no schema: the document would lack it`);
  route.schema.querystring ??= Type.Object({}, { additionalProperties: false });
  for (const part of [route.schema.querystring, route.schema.params])
    assert(
      part === undefined || (part as { additionalProperties?: unknown }).additionalProperties === false,
      `${nameOf(route)} takes unknown parameters: give its schemas additionalProperties: false`,
    );
}

const LOCAL_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

/** By the name that was asked for, since another name may be made to lead here, and by the page that asks, if any does. */
function isLocal(host: string | undefined, origin: string | undefined): boolean {
  if (host !== undefined && !LOCAL_HOST.test(host)) return false;
  return origin === undefined || LOCAL_HOST.test(origin.replace(/^https?:\/\//i, ""));
}
