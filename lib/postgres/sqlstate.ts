/** Errors of PostgreSQL and its poolers by what to do about them. Classes, never texts, where the server gives a class. */

/**
 * - `data`: this row can never be stored: find it, set it aside
 * - `duplicate`: a unique constraint
 * - `lock`: the same again after a short jitter
 * - `overload`: the same again after a longer backoff
 * - `silent`: no answer in the time that we give, which is longer than the server lets a statement run: as `down`
 * - `down`: no connection, or a server that takes no writes: wait with backoff
 * - `space`: disk or memory: wait longer, alarm
 * - `bug`: a mistake in configuration, schema or code: alarm, touch nothing
 */
export type ErrorClass = "data" | "duplicate" | "lock" | "overload" | "silent" | "down" | "space" | "bug";

const BY_STATE: Readonly<Record<string, ErrorClass>> = {
  "23505": "duplicate",
  "23502": "data",
  "23503": "data",
  "23P01": "data",
  "23514": "data",
  "54001": "data",
  "55P03": "lock",
  "40P01": "lock",
  "40001": "lock",
  "57014": "overload",
  "53300": "overload",
  "53400": "overload",
  // transaction_timeout, where somebody has set one.
  "25P04": "overload",
  "53100": "space",
  "53200": "space",
  "25006": "down",
  "57P01": "down",
  "57P02": "down",
  "57P03": "down",
  "57P05": "down",
  "25P03": "down",
};

const BY_CLASS: Readonly<Record<string, ErrorClass>> = {
  "22": "data",
  // By a trigger or an expression of the user's own, for this row: a subquery with several rows, and PL/pgSQL's errors.
  "21": "data",
  P0: "data",
  "08": "down",
  "53": "overload",
  "58": "space",
  "57": "down",
};

const SOCKET = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ECONNABORTED",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "ENOTFOUND",
  "EAI_AGAIN",
]);

// PgBouncer answers 08P01 for passing faults and for mistakes alike: only its message tells. node-postgres' own errors
// (pool time-out, a connection that ended) carry no code at all.
const BY_MESSAGE: readonly (readonly [RegExp, ErrorClass])[] = [
  [/unsupported startup parameter|no such database|no such user|password authentication/i, "bug"],
  [
    /query_wait_timeout|no more connections allowed|too many clients|timeout exceeded when trying to connect/i,
    "overload",
  ],
  [/query read timeout/i, "silent"],
  [/statement timeout/i, "overload"],
  [/server login has been failing|server conn crashed|pgbouncer|database .* (is )?(disabled|paused)/i, "down"],
  [
    /connection (terminated|ended|error)|connection terminated unexpectedly|client has encountered a connection error|not queryable/i,
    "down",
  ],
];

const OWN_UNIQUE = new Set([
  "event_pkey",
  "event_identity",
  "checkpoint_pkey",
  "dead_letter_pkey",
  "log_identity_pkey",
]);

/** @param error whatever a query, a connection attempt or the pool rejected with */
export function classify(error: unknown): ErrorClass {
  const { code, message, constraint, syscall } = (error ?? {}) as Readonly<Record<string, unknown>>;
  const state = typeof code === "string" ? code : "";
  const text = typeof message === "string" ? message : "";
  if (typeof constraint === "string" && breaksForeignRule(state, constraint)) return "data";
  const known = BY_STATE[state];
  if (known !== undefined) return known;
  // A Unix socket's file is missing while the server is down.
  if (SOCKET.has(state) || (state === "ENOENT" && syscall === "connect")) return "down";
  for (const [pattern, errorClass] of BY_MESSAGE) if (pattern.test(text)) return errorClass;
  return (state.length === 5 ? BY_CLASS[state.slice(0, 2)] : undefined) ?? "bug";
}

/**
 * Rules that somebody else made. A unique one is broken by the row, not by a copy of it; and 54000, which tells of limits of
 * every kind, the server's own too, means a value too large for an index where it names one.
 */
const breaksForeignRule = (state: string, constraint: string): boolean =>
  (state === "23505" && !OWN_UNIQUE.has(constraint)) || state === "54000";

const PASSING: ReadonlySet<ErrorClass> = new Set(["down", "silent", "overload", "lock", "space"]);

/** Whether the same question may be answered later: a person is told to ask again, and nothing is wrong with the node. */
export const isPassing = (error: unknown): boolean => PASSING.has(classify(error));
