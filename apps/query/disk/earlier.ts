/** What precedes new events on disk: the nearest earlier record with the same identity. */
import type { NewTailEvent, PartitionTail } from "../partition-tail.ts";
import { hashOf } from "./identities.ts";
import { Segment } from "./segment.ts";

/** An event, and a segment that perhaps holds its identity. */
interface Asked {
  readonly nth: number;
  readonly segment: Segment;
  readonly hash: number;
}

/**
 * The same events, with `previousOnDisk`. Most are decided in memory: by what it holds, which is later than anything on disk,
 * or by the segments' filters.
 * @throws DiskUnreadable
 */
export async function withEarlier(
  tail: PartitionTail,
  events: readonly NewTailEvent[],
): Promise<readonly NewTailEvent[]> {
  const asked = suspects(tail, events);
  if (asked.length === 0) return events;
  // What is saved meanwhile may be dropped while it is read.
  const held = [...new Set(asked.map(({ segment }) => segment.volume))].map((volume) => volume.hold());
  try {
    return await decided(tail, events, asked);
  } finally {
    for (const letGo of held) letGo();
  }
}

async function decided(
  tail: PartitionTail,
  events: readonly NewTailEvent[],
  asked: readonly Asked[],
): Promise<readonly NewTailEvent[]> {
  const offsets = await Segment.identities(asked);
  const found = new Map<number, { readonly segment: Segment; readonly offset: bigint }[]>();
  for (const [at, { nth, segment }] of asked.entries())
    for (const offset of offsets[at] ?? []) found.set(nth, [...(found.get(nth) ?? []), { segment, offset }]);
  const known = [...events];
  await Promise.all(
    [...found].map(async ([nth, places]) => {
      const one = events[nth];
      if (one === undefined) return;
      for (const { segment, offset } of places) {
        if (offset < tail.start || (await segment.idAt(one.event.clientId, offset)) !== one.event.id) continue;
        known[nth] = { ...one, previousOnDisk: offset };
        break;
      }
    }),
  );
  return known;
}

/** The latest segments first. */
function suspects(tail: PartitionTail, events: readonly NewTailEvent[]): Asked[] {
  const segments = tail.segments.toReversed();
  const asked: Asked[] = [];
  for (const [nth, { event }] of events.entries()) {
    if (tail.latest(event.clientId, event.id) !== undefined) continue;
    const hash = hashOf(event.clientId, event.id);
    for (const segment of segments) if (segment.mayHold(hash)) asked.push({ nth, segment, hash });
  }
  return asked;
}
