/** Errors that reach a person: RFC 9457 problems with a stable `code`, the offending field and the remedy. One table. */

/** code → HTTP status and title. A code never changes its meaning. */
export const PROBLEMS = {
  "malformed-json": [400, "The body is not valid JSON"],
  "malformed-utf8": [400, "The body is not valid UTF-8"],
  "invalid-event": [400, "An event breaks the contract"],
  "duplicate-key": [400, "An object has the same key twice"],
  "forbidden-key": [400, "The key __proto__ is not allowed"],
  "too-deep": [400, "The JSON is nested too deeply"],
  "too-many-keys": [400, "The JSON has too many keys"],
  "inexact-number": [400, "A number would change when stored"],
  "unstorable-text": [400, "Text holds U+0000 or a lone surrogate"],
  "too-many-events": [400, "The array holds too many events"],
  "invalid-parameter": [400, "A parameter or a field is wrong"],
  "invalid-cursor": [400, "The cursor is not one of this client's"],
  "malformed-request": [400, "The request is not valid HTTP"],
  unauthenticated: [401, "A valid API key is needed"],
  forbidden: [403, "This is not allowed"],
  "not-found": [404, "There is nothing at this address"],
  "method-not-allowed": [405, "This address does not know the method"],
  "request-timeout": [408, "The request took too long to arrive"],
  "cursor-gone": [410, "No log here has the place that the cursor names"],
  "body-too-large": [413, "The body is too large"],
  "unsupported-media-type": [415, "The content type or encoding is not supported"],
  "expectation-failed": [417, "The header Expect asks for what is not done here"],
  "upgrade-required": [426, "This address speaks WebSocket and server-sent events"],
  "too-many-requests": [429, "Too much was asked for"],
  "headers-too-large": [431, "The headers are too large"],
  "internal-error": [500, "Spillway made a mistake"],
  overloaded: [503, "Too much work is in flight"],
  "log-unreachable": [503, "The log cannot be reached"],
  "store-unreachable": [503, "The database cannot be reached"],
  behind: [503, "This node has not read far enough yet"],
  "shutting-down": [503, "This node is shutting down"],
} as const satisfies Record<string, readonly [number, string]>;

export type ProblemCode = keyof typeof PROBLEMS;

/** `application/problem+json`, with our members. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ProblemCode;
  /** What is wrong, with the value, and what to do about it. */
  readonly detail: string;
  /** JSON pointer or parameter name. */
  readonly field?: string;
  readonly [extension: string]: unknown;
}

/** @param more further members, as `field`, `problems`, `stored` */
export function problem(code: ProblemCode, detail: string, more: Readonly<Record<string, unknown>> = {}): Problem {
  const [status, title] = PROBLEMS[code];
  return { type: `urn:spillway:problem:${code}`, title, status, code, detail, ...more };
}

/** Thrown on a request's path; the HTTP layer prints it. */
export class ProblemError extends Error {
  readonly problem: Problem;
  /** Seconds for the header `Retry-After`; every 503 carries one. */
  readonly retryAfterSeconds: number;
  constructor(thrown: Problem, options: ErrorOptions & { retryAfterSeconds?: number } = {}) {
    super(`${thrown.code}: ${thrown.detail}`, options);
    this.name = "ProblemError";
    this.problem = thrown;
    this.retryAfterSeconds = options.retryAfterSeconds ?? 1;
  }
}
