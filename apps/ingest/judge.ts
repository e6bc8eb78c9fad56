/** A line of a stream → an event to publish, or why it is none. Pure. */
import type { Access } from "#lib/access.ts";
import type { Event } from "#lib/event.ts";
import { type Problem, problem } from "#lib/problem.ts";
import type { EventFault } from "#lib/valid.ts";
import { acceptLine, type Stamp } from "./accept.ts";
import { LINE_BYTES_MAX, type Line } from "./lines.ts";

/** `line` is its number. */
export type Judged =
  | { readonly line: number; readonly event: Event }
  | { readonly line: number; readonly faults: readonly EventFault[] };

const TOO_LONG: EventFault = {
  code: "body-too-large",
  field: "",
  detail: `the line has more than ${LINE_BYTES_MAX} bytes; send less`,
};
/** Nothing of the clientId is said back: the answer is the same for every one that the key does not open. */
const FORBIDDEN: EventFault = {
  code: "forbidden",
  field: "/clientId",
  detail: "This key may not append for this clientId: use the client's own key, or have it added.",
};

/** Whether the line is an event, and the caller may append it. */
export function judge({ number, bytes }: Line, stamp: Stamp, access: Access): Judged {
  if (bytes === null) return { line: number, faults: [TOO_LONG] };
  const accepted = acceptLine(bytes, stamp);
  if (!accepted.ok) return { line: number, faults: accepted.faults };
  if (!access.allows("append", accepted.event.clientId)) return { line: number, faults: [FORBIDDEN] };
  return { line: number, event: accepted.event };
}

/** As an array of one event would be told, with `problems` where there are several. */
export function lineProblem(faults: readonly EventFault[]): Problem {
  const [first = TOO_LONG, ...others] = faults;
  if (others.length === 0) return problem(first.code, first.detail, { field: first.field });
  const detail = `${faults.length} faults; the first: ${first.detail}`;
  return problem("invalid-event", detail, { field: first.field, problems: faults });
}
