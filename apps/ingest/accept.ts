/** What a client sent → events to publish, or a problem that names every fault. Pure: time and ids are arguments. */
import assert from "node:assert/strict";
import { type Event, LIMITS } from "#lib/event.ts";
import { excerpt, pointer } from "#lib/excerpt.ts";
import { fromUtf8, type JsonFault, type JsonLimits, jsonFault, scanItems } from "#lib/json.ts";
import { type Problem, type ProblemCode, problem } from "#lib/problem.ts";
import { parseTime } from "#lib/rfc3339.ts";
import { type EventFault, eventFault } from "#lib/valid.ts";

/** What the server adds to an event. */
export interface Stamp {
  readonly receivedAtMs: number;
  /** Called once for each event without an id. */
  newId(): string;
}

export type Accepted =
  | { readonly ok: true; readonly events: readonly Event[]; readonly single: boolean }
  | { readonly ok: false; readonly problem: Problem };

export type AcceptedLine =
  | { readonly ok: true; readonly event: Event }
  | { readonly ok: false; readonly faults: readonly EventFault[] };

/** The member `problems` lists so many; `problemsTotal` counts all. */
export const PROBLEMS_LISTED_MAX = 1_000;

/** Of one event: an object with ten thousand unknown fields is told of some of them. */
const FAULTS_PER_EVENT_MAX = 20;
const FIELDS = ["clientId", "type", "id", "occurredAt", "data"];
const STAMPED = ["receivedAt", "cursor"];
/** For the event around `data`; `data` itself is measured again in its canonical form, by eventFault. */
const EVENT_LIMITS: JsonLimits = {
  depthMax: LIMITS.dataDepthMax + 1,
  keysMax: LIMITS.dataKeysMax + FIELDS.length,
  spaceAllowed: true,
};

/**
 * A JSON body: one event, or an array of 1 to 5,000 that is accepted as a whole or refused as a whole.
 *
 * The problem's `problems` lists the faults as `{index, code, field, detail}`, `index` from 0 in the array; its own code is
 * that of the only fault, or `invalid-event` when there are several.
 * @param body at most LIMITS.bodyBytesMax bytes, which the caller sees to
 */
export function accept(body: Uint8Array, stamp: Stamp): Accepted {
  const text = fromUtf8(body);
  if (text === null) return refuse("malformed-utf8", NOT_UTF8);
  const scanned = scanItems(text, EVENT_LIMITS, LIMITS.arrayEventsMax);
  if (!scanned.ok) return refuse("malformed-json", malformed(text, scanned.fault));
  if (scanned.tooMany)
    return refuse("too-many-events", `the array holds more than ${LIMITS.arrayEventsMax} events; send several arrays`);
  if (scanned.items.length === 0) return refuse("invalid-event", "the array is empty; send at least one event");
  const events: Event[] = [];
  const faulty: Faulty[] = [];
  for (const [index, item] of scanned.items.entries()) {
    const built = fromScan(item.text, item.fault, stamp);
    if (built.ok) events.push(built.event);
    else faulty.push({ index, faults: built.faults });
  }
  const single = !scanned.array;
  if (faulty.length === 0) return { ok: true, events, single };
  return { ok: false, problem: summary(faulty, single ? null : scanned.items.length) };
}

/** One line of NDJSON without its line break: one event, never an array. */
export function acceptLine(line: Uint8Array, stamp: Stamp): AcceptedLine {
  const text = fromUtf8(line);
  if (text === null) return { ok: false, faults: [{ code: "malformed-utf8", field: "", detail: NOT_UTF8 }] };
  const fault = jsonFault(text, EVENT_LIMITS);
  if (fault?.code === "malformed-json")
    return { ok: false, faults: [{ code: fault.code, field: "", detail: malformed(text, fault) }] };
  return fromScan(text, fault, stamp);
}

interface Faulty {
  /** From 0 in the array. */
  readonly index: number;
  readonly faults: readonly EventFault[];
}

const NOT_UTF8 = "the text is not valid UTF-8; encode it as UTF-8";

function malformed(text: string, fault: JsonFault): string {
  if (text === "") return "the text is empty; send an event as JSON";
  if (text.startsWith("\ufeff"))
    return "the text begins with a byte order mark, which JSON does not allow; leave it out";
  return `${fault.detail}; send valid JSON`;
}

function fromScan(text: string, fault: JsonFault | null, stamp: Stamp): AcceptedLine {
  if (fault === null) return build(text, stamp);
  return { ok: false, faults: [{ code: fault.code, field: fault.pointer, detail: fault.detail }] };
}

/** @param text of a JSON value without faults */
function build(text: string, stamp: Stamp): AcceptedLine {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return { ok: false, faults: [invalid("", `an event must be an object, not ${kind(value)}`)] };
  const sent = value as Sent;
  const faults = Object.keys(sent)
    .filter((name) => !FIELDS.includes(name))
    .map(unknownField);
  const time = timeOf(sent, stamp.receivedAtMs, faults);
  const event: Event = {
    clientId: textOf(sent, "clientId", faults),
    id: sent.id === undefined ? stamp.newId() : textOf(sent, "id", faults),
    type: textOf(sent, "type", faults),
    occurredAtMs: time,
    receivedAtMs: stamp.receivedAtMs,
    data: sent.data === undefined ? null : JSON.stringify(sent.data),
  };
  const fault = faults.length === 0 ? eventFault(event) : null;
  if (fault) faults.push(fault);
  return faults.length === 0 ? { ok: true, event } : { ok: false, faults: faults.slice(0, FAULTS_PER_EVENT_MAX) };
}

/** An event as a client may send it, its fields of any JSON type. */
interface Sent {
  readonly clientId?: unknown;
  readonly type?: unknown;
  readonly id?: unknown;
  readonly occurredAt?: unknown;
  readonly data?: unknown;
}

function textOf(sent: Sent, name: "clientId" | "id" | "type", faults: EventFault[]): string {
  const value = sent[name];
  if (typeof value === "string") return value;
  if (value === undefined) faults.push(invalid(name, `${name} is missing; every event needs one`));
  else faults.push(invalid(name, `${name} must be a string, not ${kind(value)}`));
  return "";
}

function timeOf({ occurredAt }: Sent, receivedAtMs: number, faults: EventFault[]): number {
  if (occurredAt === undefined) return receivedAtMs;
  const fault = (detail: string) => {
    faults.push(invalid("occurredAt", detail));
    return receivedAtMs;
  };
  if (typeof occurredAt !== "string") return fault(`occurredAt must be an RFC 3339 string, not ${kind(occurredAt)}`);
  const parsed = parseTime(occurredAt);
  return "ms" in parsed ? parsed.ms : fault(`occurredAt ${parsed.fault}`);
}

function unknownField(name: string): EventFault {
  const reason = STAMPED.includes(name) ? "is set by the server" : `is not a field of an event (${FIELDS.join(", ")})`;
  return { code: "invalid-event", field: pointer([name]), detail: `${excerpt(name)} ${reason}; leave it out` };
}

function invalid(name: string, detail: string): EventFault {
  return { code: "invalid-event", field: name === "" ? "" : `/${name}`, detail };
}

function kind(value: unknown): string {
  if (value === null) return "null (leave it out instead)";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function refuse(code: ProblemCode, detail: string): Accepted {
  return { ok: false, problem: problem(code, detail) };
}

/** @param count events of the array, or null for an event by itself */
function summary(faulty: readonly Faulty[], count: number | null): Problem {
  const all = faulty.flatMap(({ index, faults }) => faults.map((fault) => ({ index, ...fault })));
  const [first] = all;
  assert(first);
  const lists = { problems: all.slice(0, PROBLEMS_LISTED_MAX), problemsTotal: all.length };
  const what = count === null ? first.detail : `event ${first.index}: ${first.detail}`;
  const field = count === null ? first.field : `/${first.index}${first.field}`;
  if (all.length === 1) return problem(first.code, what, { field, ...lists });
  const where = count === null ? "" : ` in ${faulty.length} of ${count} events`;
  const detail = `${all.length} faults${where}, and nothing was stored; the first: ${what}`;
  return problem("invalid-event", detail, { field, ...lists });
}
