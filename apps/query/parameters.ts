/** Query parameters of pages and live: what they may be, and what they mean. Pure. */
import { type Static, Type } from "typebox";
import { LIMITS } from "#lib/event.ts";
import { excerpt } from "#lib/excerpt.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { parseTime } from "#lib/rfc3339.ts";
import { type ClientOrder, comparePlaces, ORIGIN } from "./places.ts";
import type { PageQuery } from "./read.ts";

const strict = { additionalProperties: false };
const word = <const W extends readonly string[]>(words: W, usual: W[number], description: string) =>
  Type.Unsafe<W[number]>({ type: "string", enum: [...words], default: usual, description });

const type = Type.Optional(
  Type.Array(Type.String(), { maxItems: 100, description: "Only events of these types; may be repeated." }),
);
const clientId = Type.String({ minLength: 1, description: "Whose events; 1 to 255 bytes." });

export const PageParameters = Type.Object(
  {
    clientId,
    after: Type.Optional(
      Type.String({ description: "Cursor, exclusive; only events after it. 0: from the beginning." }),
    ),
    before: Type.Optional(Type.String({ description: "Cursor, exclusive; only events before it." })),
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000,
        description: "Most events in the page; 100 unless given. Of a stream as a whole: all of them unless given.",
      }),
    ),
    order: word(["asc", "desc"], "asc", "asc goes on with after=next, desc with before=next."),
    type,
    since: Type.Optional(
      Type.String({
        format: "date-time",
        description: "RFC 3339, inclusive: only events that occurred then or later.",
      }),
    ),
    until: Type.Optional(
      Type.String({ format: "date-time", description: "RFC 3339, exclusive: only events that occurred before." }),
    ),
    view: word(["merged", "saved", "unsaved"], "merged", "Everything, or only what the database has, or has not, yet."),
    consistency: word(
      ["latest", "known"],
      "latest",
      "latest: every event acknowledged before this request. known: what this node has read; never waits.",
    ),
    atLeast: Type.Optional(
      Type.String({
        description:
          "Cursor of an acknowledgement that the answer must cover, instead of asking the log how far it reaches.",
      }),
    ),
    timeoutMs: Type.Integer({
      minimum: 1,
      maximum: 25_000,
      default: 5_000,
      description: "What cannot be answered truthfully by then is 503.",
    }),
  },
  strict,
);

export const LiveParameters = Type.Object(
  {
    clientId: Type.Optional(
      Type.String({
        minLength: 1,
        description: "Whose events; 1 to 255 bytes. A WebSocket without one begins with no client: see its messages.",
      }),
    ),
    after: Type.Optional(
      Type.String({ description: "Cursor to resume from, exclusive. 0: from the beginning. Left out: from now on." }),
    ),
    type,
  },
  strict,
);

/** @throws ProblemError invalid-parameter when no client can have this id */
export function checkedClientId(text: string): string {
  return checkedName("clientId", text, LIMITS.clientIdBytesMax);
}

/** Null: all. @throws ProblemError invalid-parameter when no event can have one of them */
export function checkedTypes(types: readonly string[] | undefined): ReadonlySet<string> | null {
  return types === undefined ? null : new Set(types.map((one) => checkedName("type", one, LIMITS.typeBytesMax)));
}

const LIMIT = 100;

/**
 * What a page request asks for.
 * @param order of the same clientId
 * @throws ProblemError invalid-parameter, invalid-cursor, cursor-gone
 */
export function pageQuery(given: Static<typeof PageParameters>, order: ClientOrder): PageQuery {
  const { after, before, atLeast, type, limit = LIMIT, view, consistency, timeoutMs } = given;
  const atLeastPlace = atLeast === undefined ? null : order.place(atLeast, "atLeast");
  return {
    after: after === undefined ? ORIGIN : order.place(after, "after"),
    before: before === undefined ? null : order.place(before, "before"),
    types: checkedTypes(type),
    sinceMs: time("since", given.since),
    untilMs: time("until", given.until),
    order: given.order,
    limit,
    view,
    consistency,
    atLeast: atLeastPlace !== null && comparePlaces(atLeastPlace, ORIGIN) === 0 ? null : atLeastPlace,
    timeoutMs,
  };
}

function time(field: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const parsed = parseTime(text);
  if ("ms" in parsed) return parsed.ms;
  throw new ProblemError(problem("invalid-parameter", `${field}: ${parsed.fault}.`, { field }));
}

/** PostgreSQL refuses what no event can have anyway. */
function checkedName(field: string, text: string, bytesMax: number): string {
  const bytes = Buffer.byteLength(text);
  if (bytes >= 1 && bytes <= bytesMax && text.isWellFormed() && !text.includes("\0")) return text;
  const detail = `${field} ${excerpt(text)} is none: it has 1 to ${bytesMax} bytes of Unicode without U+0000.`;
  throw new ProblemError(problem("invalid-parameter", detail, { field }));
}
