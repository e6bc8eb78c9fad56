/** A row → the event that it is, by the same decision as ingest's, or the reason why it is none. Pure. */
import { type Event, LIMITS } from "#lib/event.ts";
import { type JsonLimits, jsonFault } from "#lib/json.ts";
import { eventFault } from "#lib/valid.ts";
import type { Aside, Row } from "./buffer.ts";

export type Judged = { readonly ok: true; readonly row: Row; readonly event: Event } | ({ readonly ok: false } & Aside);

/** As jsonb prints it; in its canonical form it is measured again, by eventFault. */
const DATA: JsonLimits = { depthMax: LIMITS.dataDepthMax, keysMax: LIMITS.dataKeysMax, spaceAllowed: true };

/** @param receivedAtMs when the relay took the row */
export function judge(row: Row, receivedAtMs: number): Judged {
  const { clientId, id, type, occurredAtMs, data } = row;
  const hidden = data === null ? null : jsonFault(data, DATA);
  if (hidden !== null) return { ok: false, row, code: hidden.code, why: `data: ${hidden.detail}` };
  const canonical = data === null ? null : JSON.stringify(JSON.parse(data));
  const event: Event = { clientId, id, type, occurredAtMs, receivedAtMs, data: canonical };
  const fault = eventFault(event);
  return fault === null ? { ok: true, row, event } : { ok: false, row, code: fault.code, why: fault.detail };
}
