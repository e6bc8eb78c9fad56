/** The events of this bench: the same for the log and for the table that is read plainly. */
import type { Event } from "#lib/event.ts";

/**
 * - `saved`: rows, all of them
 * - `unsaved`: on the log alone
 * - `mixed`: the first half is rows, the second is on the log alone
 */
export const GROUPS = ["saved", "unsaved", "mixed"] as const;
export type Group = (typeof GROUPS)[number];

const AT_MS = Date.UTC(2026, 0, 1);
const NOTE = "left at the door, please ring twice ".repeat(2);

export const clientIdOf = (group: Group, client: number): string => `${group}-${client}`;

/** A client's nth event: about 200 bytes of JSON as it was sent, 330 as it is shown. */
export function eventOf(group: Group, client: number, nth: number): Event {
  const atMs = AT_MS + nth * 60_000 + client;
  return {
    clientId: clientIdOf(group, client),
    id: `${group}-${client}-${nth}`,
    type: "order.placed",
    occurredAtMs: atMs,
    receivedAtMs: atMs + 7,
    data: JSON.stringify({ order: nth, amount: (nth % 997) / 4, currency: "EUR", note: NOTE }),
  };
}
