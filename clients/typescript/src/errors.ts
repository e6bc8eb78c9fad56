/** How a request can end badly: refused for good, or not answered in time. */

/** What Spillway says is wrong (RFC 9457). `code` is stable; `detail` names the value and the remedy. */
export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly field?: string;
  readonly [extension: string]: unknown;
}

/** One fault of one event. */
export interface EventProblem {
  /** From 0, in what `post` was given. */
  readonly index: number;
  readonly code: string;
  /** JSON pointer into the event. */
  readonly field: string;
  readonly detail: string;
}

/** Sending it again changes nothing: an event breaks the contract, the key has no right, the cursor is gone. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly problem: Problem;
  /** Of a post: what is wrong with which event, as far as it was told. Nothing of the call was stored. */
  readonly problems: readonly EventProblem[];

  constructor(problem: Problem, problems: readonly EventProblem[] = []) {
    super(`${problem.code}: ${problems[0]?.detail ?? problem.detail}`);
    this.problem = problem;
    this.problems = problems;
  }
}

/** It was tried again and again, and given up. `cause` is the last failure. */
export class UnavailableError extends Error {
  override readonly name = "UnavailableError";
  /** Of a post. "unknown": some of it may be stored, so send it again with the same `ids` and it is there once. */
  readonly stored: "no" | "unknown";
  /** Of a post: the ids of its events, given or assigned. */
  readonly ids: readonly string[];

  constructor(message: string, options: { cause: unknown; stored?: "no" | "unknown"; ids?: readonly string[] }) {
    const { cause, stored = "no", ids = [] } = options;
    super(`${message}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.stored = stored;
    this.ids = ids;
  }
}

/** One attempt that may go better next time; goes no further than a `cause` or `onRetry`. */
export class PassingError extends Error {
  override readonly name = "PassingError";
  /** Undefined when there was no answer. */
  readonly problem: Problem | undefined;
  /** What the answer asked for; 0 without. */
  readonly retryAfterMs: number;

  constructor(message: string, options: ErrorOptions & { problem?: Problem; retryAfterMs?: number } = {}) {
    super(message, options);
    this.problem = options.problem;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

/** No answer, or none to its end. */
export function lost(url: string, error: unknown): PassingError {
  // fetch says no more than that it failed; what happened is in its cause.
  const { message, cause } = error as Error;
  const more = cause instanceof Error && cause.message !== "" ? ` (${cause.message})` : "";
  return new PassingError(`${url} did not answer: ${message}${more}`, { cause: error });
}

/** Not now, in HTTP. A 500 may be a passing one, and the same ids make repeating harmless. */
export const isPassing = (status: number): boolean => status === 408 || status === 429 || status >= 500;

const DETAIL_CHARACTERS = 300;

/** The problem that an answer holds; what a proxy in between says is put in the same form. */
export function problemOf(status: number, text: string): Problem {
  const told = parsed(text) as Partial<Problem> | null;
  if (typeof told?.code === "string" && typeof told.detail === "string") return { ...told, status } as Problem;
  return { status, code: `http-${status}`, title: "An answer that is not Spillway's", detail: excerpt(text) };
}

const excerpt = (text: string): string => (text === "" ? "the answer is empty" : text.slice(0, DETAIL_CHARACTERS));

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
