/** What may be asked of dead letters, and how they are printed. Pure. */
import { type Static, type TSchema, Type } from "typebox";
import { BEGINNING, decodeCursor, encodeCursor, type Position } from "#lib/cursor.ts";
import { eventJson } from "#lib/event.ts";
import { excerpt } from "#lib/excerpt.ts";
import { fromUtf8, jsonFault } from "#lib/json.ts";
import { compileBody } from "#lib/parameters.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { ANYTHING, FIRST, type JudgedLetter, type JudgedLetters, type Outcome } from "./dead-letters.ts";
import type { Selection } from "./rows.ts";

/** At most so many are re-driven by one request. */
const REDRIVEN_MAX = 1_000;
const LIMIT_DEFAULT = 100;

const strict = { additionalProperties: false };
const position = Type.String({
  description: "The place on the log where it was set aside; opaque, as the list has it.",
});
const after = Type.String({ description: "Position, exclusive: only dead letters after it. 0: from the first one." });
const limit = Type.Integer({
  minimum: 1,
  maximum: REDRIVEN_MAX,
  default: LIMIT_DEFAULT,
  description: "Most dead letters at once.",
});
const filters = {
  reason: Type.Optional(Type.String({ minLength: 1, description: "Only those with this reason, as refused-23514." })),
  partition: Type.Optional(
    Type.Integer({ minimum: 0, maximum: 2_147_483_647, description: "Only those of this partition." }),
  ),
};

export const ListParameters = Type.Object(
  {
    ...filters,
    redriven: Type.Optional(Type.Boolean({ description: "Only those that were, or were not, re-driven." })),
    after: Type.Optional(after),
    limit,
  },
  strict,
);

export const PositionParameter = Type.Object({ position }, strict);

/** Either `positions` or any of the others. */
export const RedriveBody = Type.Object(
  {
    positions: Type.Optional(
      Type.Array(position, {
        minItems: 1,
        maxItems: REDRIVEN_MAX,
        description: "These by name, also if they were re-driven before. Without it: those that never were.",
      }),
    ),
    ...filters,
    after: Type.Optional(after),
    through: Type.Optional(Type.String({ description: "Position, inclusive: only dead letters up to it." })),
    limit: Type.Optional(limit),
  },
  strict,
);

const bodyFault = compileBody(RedriveBody);

const where = { position, partition: Type.Integer(), offset: Type.Integer() };
const time = Type.String({ format: "date-time" });
const Shown = Type.Object({
  ...where,
  reason: Type.String({ description: "A stable word." }),
  detail: Type.String(),
  clientId: Type.Union([Type.String(), Type.Null()], { description: "null: nobody can tell whose it is." }),
  id: Type.Union([Type.String(), Type.Null()]),
  type: Type.Union([Type.String(), Type.Null()]),
  recordTime: time,
  setAsideAt: time,
  redriven: Type.Union([Type.Object({ at: time, cursor: Type.String() }), Type.Null()], {
    description: "When it was last re-driven, and where its event stands since.",
  }),
});
const Refused = Type.Object({ reason: Type.String(), detail: Type.String() });
const nothing = Type.Null();
/** Printed here, as text. */
const printed = (schema: TSchema) => Type.Unsafe<string>(schema);

export const ListAnswer = printed(
  Type.Object({ deadLetters: Type.Array(Shown), next: Type.String(), hasMore: Type.Boolean() }),
);
const bytes = Type.Union([Type.String(), nothing], { description: "Base64." });
export const ShowAnswer = printed(
  Type.Intersect([
    Shown,
    Type.Object({
      key: bytes,
      value: bytes,
      event: Type.Union([Type.Object({}), nothing], { description: "What a re-drive appends." }),
      refused: Type.Union([Refused, nothing], { description: "Why it cannot be re-driven." }),
    }),
  ]),
);
export const RedriveAnswer = printed(
  Type.Object({
    redriven: Type.Array(Type.Object({ position, cursor: Type.String({ description: "Of the event from now on." }) })),
    refused: Type.Array(Type.Object({ position, reason: Type.String(), detail: Type.String() })),
    next: Type.String({ description: "Where this request has stopped looking." }),
    hasMore: Type.Boolean({ description: "Go on with after=next, or with the positions after next." }),
  }),
);

/** @throws ProblemError invalid-parameter */
export function listed({ after: from, ...given }: Static<typeof ListParameters>): Selection {
  const { reason = null, partition = null, redriven = null } = given;
  if (reason?.includes("\0")) throw wrong("reason", `${excerpt(reason)} is none: take one from the list, unchanged`);
  return { ...ANYTHING, reason, partition, redriven, limit: given.limit, after: placeOf(from ?? BEGINNING, "after") };
}

/** @throws ProblemError malformed-json and its like, invalid-parameter */
export function selected(body: Uint8Array): Selection {
  const { positions, after: from, through, reason, partition, limit: most } = checked(body);
  if (positions !== undefined) {
    const names = [...new Set(positions)].map((name, nth) => placeOf(name, `/positions/${nth}`));
    if ([from, through, reason, partition, most].some((one) => one !== undefined))
      throw wrong("/positions", "positions go alone: leave reason, partition, after, through and limit out");
    return { ...ANYTHING, names, limit: names.length };
  }
  if ([from, through, reason, partition].every((one) => one === undefined))
    throw wrong("", 'say which: positions, reason, partition, after or through; {"after":"0"} is all of them');
  return {
    ...ANYTHING,
    after: placeOf(from ?? BEGINNING, "/after"),
    through: through === undefined ? null : placeOf(through, "/through"),
    reason: reason ?? null,
    partition: partition ?? null,
    redriven: false,
    limit: most ?? LIMIT_DEFAULT,
  };
}

function checked(body: Uint8Array): Static<typeof RedriveBody> {
  const text = fromUtf8(body);
  if (text === null) throw new ProblemError(problem("malformed-utf8", "Encode the body as UTF-8."));
  const fault = jsonFault(text, { depthMax: 2, keysMax: 10, spaceAllowed: true });
  if (fault !== null) throw new ProblemError(problem(fault.code, `${fault.detail}.`, { field: fault.pointer }));
  const given: unknown = JSON.parse(text);
  const refused = bodyFault(given);
  if (refused !== null) throw new ProblemError(refused);
  return given as Static<typeof RedriveBody>;
}

/** @throws ProblemError invalid-parameter */
export function placeOf(text: string, field: string): Position {
  if (text === BEGINNING) return FIRST;
  const found = decodeCursor(text);
  // PostgreSQL keeps an epoch in two bytes and a partition in four, both signed.
  if (found !== null && found.epoch < 2 ** 15 && found.partition < 2 ** 31) return found;
  throw wrong(field, `${excerpt(text)} is no position: take one from the list, unchanged`);
}

const wrong = (field: string, detail: string): ProblemError =>
  new ProblemError(problem("invalid-parameter", `${detail}.`, { field }));

/** The body of a list. */
export function listText({ letters, next, hasMore }: JudgedLetters): string {
  return JSON.stringify({ deadLetters: letters.map(shown), next: nextText(next), hasMore });
}

/** The body of one. `data` is spliced, as in every answer. */
export function letterText(letter: JudgedLetter): string {
  const { key, value, event, fault } = letter;
  const bytesText = { key: key?.toString("base64") ?? null, value: value?.toString("base64") ?? null };
  const head = JSON.stringify({ ...shown(letter), ...bytesText, refused: fault && faultText(fault) });
  const eventText = event === null || fault !== null ? "null" : eventJson(event, encodeCursor(letter.position));
  return `${head.slice(0, -1)},"event":${eventText}}`;
}

/** The body of a re-drive's answer. */
export function outcomeText({ redriven, refused, next, hasMore }: Outcome): string {
  return JSON.stringify({
    redriven: redriven.map(({ from, to }) => ({ position: encodeCursor(from), cursor: encodeCursor(to) })),
    refused: refused.map((one) => ({ position: encodeCursor(one.position), ...faultText(one) })),
    next: nextText(next),
    hasMore,
  });
}

const nextText = (next: Position): string => (next === FIRST ? BEGINNING : encodeCursor(next));

const faultText = ({ reason, detail }: { reason: string; detail: string }) => ({ reason, detail });

function shown({ position: at, reason, detail, clientId, event, recordTime, setAsideAt, redriven }: JudgedLetter) {
  return {
    position: encodeCursor(at),
    partition: at.partition,
    offset: Number(at.offset),
    reason,
    detail,
    clientId,
    id: event?.id ?? null,
    type: event?.type ?? null,
    recordTime,
    setAsideAt,
    redriven: redriven && { at: redriven.at, cursor: encodeCursor(redriven.position) },
  };
}
