/** The events that every setting of this bench saves: the same ones by number, in the log and as rows. */
import { createHash } from "node:crypto";
import type { Event } from "#lib/event.ts";
import { partitionOf } from "#lib/partition.ts";

const AT_MS = Date.UTC(2026, 0, 1);
const NOTE = "left at the door, please ring twice ".repeat(4);

/** @param clients how many different ones; ids and clients are spread evenly and do not follow the order */
export function numbered(n: number, clients: number): Event {
  const hash = createHash("md5").update(String(n)).digest();
  return {
    clientId: `client-${hash.readUInt32LE(0) % clients}`,
    id: hash.toString("hex"),
    type: "order.placed",
    occurredAtMs: AT_MS + n,
    receivedAtMs: AT_MS + n,
    data: JSON.stringify({ order: n, amount: (n % 997) / 4, currency: "EUR", note: NOTE }),
  };
}

/** Every tenth event is one that came shortly before, if repeats are wanted. */
export const numberAt = (n: number, repeats: boolean): number => (repeats && n % 10 === 9 ? n - 5 : n);

export const partitionFor = (clientId: string, partitions: number): number =>
  partitionOf(Buffer.from(clientId), partitions);
