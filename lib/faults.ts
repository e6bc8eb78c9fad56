/** Every way in which a request can fail → one problem. The only place that knows the server library's error codes. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { excerpt } from "./excerpt.ts";
import type { Log } from "./log.ts";
import { type Problem, type ProblemCode, ProblemError, problem } from "./problem.ts";

export const PROBLEM_TYPE = "application/problem+json";

/** Fastify's code → ours, with the remedy. */
const KNOWN: Readonly<Record<string, readonly [ProblemCode, string]>> = {
  FST_ERR_BAD_URL: ["not-found", "The path is not well percent-encoded."],
  FST_ERR_MAX_PARAM_LENGTH: ["not-found", "A part of the path is too long."],
};

/** @param draining whether the connection is to be closed after the answer */
export function sendProblem(reply: FastifyReply, sent: Problem, retryAfterSeconds = 1, draining = false): FastifyReply {
  if (sent.status === 503 || sent.status === 429) void reply.header("retry-after", Math.ceil(retryAfterSeconds));
  if (sent.status === 401) void reply.header("www-authenticate", 'Bearer realm="spillway"');
  if (draining) void reply.header("connection", "close");
  return reply.code(sent.status).type(PROBLEM_TYPE).send(JSON.stringify(sent));
}

/** The error handler: what we threw as it is, what the library threw translated, all else logged and kept quiet about. */
export const errorHandler =
  (log: Log) =>
  (
    error: Error & { code?: string; statusCode?: number },
    request: FastifyRequest,
    reply: FastifyReply,
  ): FastifyReply => {
    if (error instanceof ProblemError) return sendProblem(reply, error.problem, error.retryAfterSeconds);
    if (error.code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") return sendProblem(reply, otherType(request));
    const known = KNOWN[error.code ?? ""];
    if (known) return sendProblem(reply, problem(...known));
    if (error.statusCode && error.statusCode >= 400 && error.statusCode < 500)
      return sendProblem(reply, problem("malformed-request", error.message));
    log.error("request failed", { method: request.method, route: request.routeOptions.url, error });
    return sendProblem(reply, problem("internal-error", "It is in this node's log. Trying again may help."));
  };

function otherType({ routeOptions }: FastifyRequest): Problem {
  const types = routeOptions.schema?.consumes ?? ["application/json"];
  const detail = `Send the content type that this address takes: ${types.join(" or ")}, by the header content-type.`;
  return problem("unsupported-media-type", detail);
}

/** For the header `Expect` with anything but `100-continue`: no route sees such a request, and nobody reads its body. */
export function refuseExpectation({ headers: { expect = "" } }: IncomingMessage, response: ServerResponse): void {
  const detail = `Expect: ${excerpt(expect)} is not known: leave it out, or send 100-continue.`;
  const body = JSON.stringify(problem("expectation-failed", detail));
  response.writeHead(417, { "content-type": PROBLEM_TYPE, connection: "close" }).end(body);
}

/** Connections whose request may come in for as long as it goes on: streams. */
const unhurried = new WeakSet<Duplex>();

/** Exempts a request from the time in which requests must have come, from now until the returned function is called. */
export function withoutHurry({ raw: { socket } }: FastifyRequest): () => void {
  unhurried.add(socket);
  return () => void unhurried.delete(socket);
}

/** What is not even HTTP never reaches a route: the answer goes straight to the socket, which then closes. */
export function clientErrorHandler(error: Error & { code?: string }, socket: Socket): void {
  // Told once a request: what is silent is still ended, by the time-out of its connection.
  if (error.code === "ERR_HTTP_REQUEST_TIMEOUT" && unhurried.has(socket)) return;
  // An answer to an earlier request on this connection may still be due: anything written now would be taken for it.
  const { _httpMessage: due } = socket as { _httpMessage?: ServerResponse | null };
  const another = due ? due.req.complete || due.headersSent : false;
  if (error.code === "ECONNRESET" || !socket.writable || another) return void socket.destroy(error);
  refuseOnSocket(socket, brokenRequest(error.code));
}

/** An answer where no route can give one. The connection closes. @param headers whole lines */
export function refuseOnSocket(socket: Duplex, sent: Problem, headers = ""): void {
  const body = JSON.stringify(sent);
  socket.end(
    `HTTP/1.1 ${sent.status} ${STATUS_CODES[sent.status]}\r\ncontent-type: ${PROBLEM_TYPE}\r\n${headers}` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

function brokenRequest(code: string | undefined): Problem {
  if (code === "HPE_HEADER_OVERFLOW") return problem("headers-too-large", "Send less than 16 KiB of headers.");
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return problem("request-timeout", "Send the request in one go.");
  return problem("malformed-request", "The connection closes: open another.");
}
