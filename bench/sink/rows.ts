/** The events that every setting of this bench saves: the same ones by number, in the log and as rows. */
import { createHash } from "node:crypto";
import type { Event } from "#lib/event.ts";
import { partitionOf } from "#lib/partition.ts";

const AT_MS = Date.UTC(2026, 0, 1);
const NOTE = "left at the door, please ring twice ".repeat(4);

export const clientAt = (nth: number): string => `client-${nth}`;

/** @param clients how many different ones; ids and clients are spread evenly and do not follow the order */
export function numbered(n: number, clients: number): Event {
  const hash = createHash("md5").update(String(n)).digest();
  return {
    clientId: clientAt(hash.readUInt32LE(0) % clients),
    id: hash.toString("hex"),
    type: "order.placed",
    occurredAtMs: AT_MS + n,
    receivedAtMs: AT_MS + n,
    data: JSON.stringify({ order: n, amount: (n % 997) / 4, currency: "EUR", note: NOTE }),
  };
}

/**
 * - `clean`: each event once
 * - `repeats`: every tenth is one that came shortly before
 * - `poison`: every thousandth is no event
 */
export type Kind = "clean" | "repeats" | "poison";

/** The event at a place of the backlog; null: no event. */
export function eventAt(n: number, kind: Kind, clients: number): Event | null {
  if (kind === "poison" && n % 1_000 === 999) return null;
  return numbered(kind === "repeats" && n % 10 === 9 ? n - 5 : n, clients);
}

export const partitionFor = (clientId: string, partitions: number): number =>
  partitionOf(Buffer.from(clientId), partitions);
