/** What follows from all attempts and the dumps: who sent what when, and where each event's first copy lies. */
import type { Append } from "./history.ts";
import type { Truth } from "./truth.ts";

export interface Identity {
  readonly clientId: string;
  readonly id: string;
}

/** The first valid copy of an identity. */
export interface Event extends Identity {
  readonly partition: number;
  readonly offset: bigint;
  readonly content: string;
  readonly type: string;
}

/** All attempts to append one identity. */
export interface Sent extends Identity {
  attempts: number;
  /** When the first attempt that may have stored it began. */
  begun: bigint;
  /** When the first acknowledgement came. */
  okAt: bigint | null;
  /** Contents that may have been stored → when the first attempt with it began. */
  readonly contents: Map<string, bigint>;
  /** The requests that held it, as one text. */
  requests: string;
}

export interface Facts {
  readonly sent: ReadonlyMap<string, Sent>;
  readonly first: ReadonlyMap<string, Event>;
  /** `partition/offset` → identity, of every valid record, copies too. */
  readonly copies: ReadonlyMap<string, string>;
  /** First copies by client, in order. */
  readonly clients: ReadonlyMap<string, readonly Event[]>;
  readonly logStarts: ReadonlyMap<number, bigint>;
  /** The highest first position among a client's events acknowledged before this time; null: none. */
  acknowledgedBefore(clientId: string, time: bigint): bigint | null;
}

export const identity = ({ clientId, id }: Identity): string => JSON.stringify([clientId, id]);

export function factsOf(appends: readonly Append[], truth: Truth): Facts {
  const sent = sentBy(appends);
  const first = new Map<string, Event>();
  const copies = new Map<string, string>();
  const aside = new Set(truth.dead.map(({ partition, offset }) => `${partition}/${offset}`));
  // Rows whose record has left the topic come first: they lie below everything that is still there.
  const gone = truth.rows.filter(({ partition, offset }) => offset < (truth.logStarts.get(partition) ?? 0n));
  for (const row of gone) first.set(identity(row), { ...row, type: "" });
  for (const { partition, offset, event } of truth.topic) {
    const place = `${partition}/${offset}`;
    if (event === null || aside.has(place)) continue;
    const key = identity(event);
    copies.set(place, key);
    if (!first.has(key)) first.set(key, { ...event, partition, offset });
  }
  const clients = new Map<string, Event[]>();
  for (const event of first.values()) {
    const events = clients.get(event.clientId) ?? [];
    events.push(event);
    clients.set(event.clientId, events);
  }
  for (const events of clients.values()) events.sort((a, b) => (a.offset < b.offset ? -1 : 1));
  return { sent, first, copies, clients, logStarts: truth.logStarts, acknowledgedBefore: sweep(clients, sent) };
}

function sentBy(appends: readonly Append[]): Map<string, Sent> {
  const sent = new Map<string, Sent>();
  for (const append of appends) {
    const { clientId, id, tInv } = append;
    const key = identity(append);
    const one = sent.get(key) ?? {
      clientId,
      id,
      attempts: 0,
      begun: tInv,
      okAt: null,
      contents: new Map(),
      requests: "",
    };
    sent.set(key, one);
    one.attempts++;
    if (append.type !== "fail") take(one, append);
  }
  return sent;
}

/** An attempt that may have stored the event. */
function take(one: Sent, { content, tInv, tRet, type, request }: Append): void {
  if (one.contents.size === 0 || tInv < one.begun) one.begun = tInv;
  if (!one.requests.endsWith(`,${request}`)) one.requests += `,${request}`;
  const known = one.contents.get(content);
  if (known === undefined || tInv < known) one.contents.set(content, tInv);
  if (type === "ok" && (one.okAt === null || tRet < one.okAt)) one.okAt = tRet;
}

/** Per client: times of acknowledgement ascending, with the running maximum of positions. */
function sweep(
  clients: ReadonlyMap<string, readonly Event[]>,
  sent: ReadonlyMap<string, Sent>,
): Facts["acknowledgedBefore"] {
  const steps = new Map<string, { at: bigint; highest: bigint }[]>();
  for (const [clientId, events] of clients) {
    const acknowledged = events
      .flatMap((event) => {
        const at = sent.get(identity(event))?.okAt ?? null;
        return at === null ? [] : [{ at, highest: event.offset }];
      })
      .sort((a, b) => (a.at < b.at ? -1 : 1));
    let highest = -1n;
    for (const step of acknowledged) {
      if (step.highest > highest) highest = step.highest;
      step.highest = highest;
    }
    steps.set(clientId, acknowledged);
  }
  return (clientId, time) => {
    const all = steps.get(clientId) ?? [];
    const count = lowerBound(all.length, (at) => (all[at]?.at ?? 0n) < time);
    return all[count - 1]?.highest ?? null;
  };
}

/** A client's first copies with offsets in (low, high]; high null: to the end. */
export function slice({ clients }: Facts, clientId: string, low: bigint, high: bigint | null): readonly Event[] {
  const all = clients.get(clientId) ?? [];
  const from = lowerBound(all.length, (at) => (all[at]?.offset ?? 0n) <= low);
  const to = high === null ? all.length : lowerBound(all.length, (at) => (all[at]?.offset ?? 0n) <= high);
  return all.slice(from, to);
}

/** How many indexes, from 0, `isBelow` holds for; it must hold for a prefix. */
function lowerBound(length: number, isBelow: (at: number) => boolean): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBelow(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}
