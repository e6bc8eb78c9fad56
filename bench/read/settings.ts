/** Which pages are asked for, from Spillway and plainly: the same events, page by page. */
import { clientIdOf, type Group } from "./events.ts";

/** So few that what is unsaved fits in memory. */
export const CLIENTS = 40;
/** Of each client; a mixed one has half of them saved. */
export const EVENTS = 2_100;
/** Pages begin at so many places of each client. */
const PLACES = 10;

export interface Paths {
  readonly spillway: readonly string[];
  readonly plain: readonly string[];
}

/** Cursors of each client's events, by number. */
export type Cursors = ReadonlyMap<string, readonly string[]>;

/** Pages of so many events. A mixed one has half of its events on either side of the checkpoint. */
export function pathsOf(
  group: Group,
  limit: number,
  cursors: Cursors,
  more: Readonly<Record<string, string>> = {},
): Paths {
  const spillway: string[] = [];
  const plain: string[] = [];
  for (let place = 0; place < PLACES; place++)
    for (let client = 0; client < CLIENTS; client++) {
      const clientId = clientIdOf(group, client);
      const nth = group === "mixed" ? EVENTS / 2 - Math.floor(limit / 2) : 1 + place * 100;
      const after = cursors.get(clientId)?.[nth - 1] ?? "0";
      const search = { clientId, limit: String(limit) };
      spillway.push(`/api/v1/events?${new URLSearchParams({ ...search, after, ...more })}`);
      plain.push(`/api/v1/events?${new URLSearchParams({ ...search, after: String(nth - 1) })}`);
    }
  return { spillway, plain };
}

/** Reads every cursor of a client, page after page. @throws unless all of its events are there */
export async function cursorsOf(url: string, clientId: string): Promise<string[]> {
  const cursors: string[] = [];
  for (let after = "0"; ; ) {
    const search = new URLSearchParams({ clientId, after, limit: "1000", timeoutMs: "25000" });
    const answer = await fetch(`${url}/api/v1/events?${search}`);
    const page = (await answer.json()) as { events: { cursor: string }[]; next: string; hasMore: boolean };
    if (!answer.ok) throw new Error(`${clientId}: ${answer.status} ${JSON.stringify(page)}`);
    cursors.push(...page.events.map(({ cursor }) => cursor));
    after = page.next;
    if (!page.hasMore) break;
  }
  if (cursors.length !== EVENTS) throw new Error(`${clientId} has ${cursors.length} of ${EVENTS} events`);
  return cursors;
}

/** @throws unless both show the same events */
export async function compare(spillway: string, plain: string): Promise<void> {
  const ids = async (url: string): Promise<string> => {
    const page = (await (await fetch(url)).json()) as { events: readonly { id: string; data: unknown }[] };
    return page.events.map(({ id, data }) => `${id} ${JSON.stringify(data)}`).join("\n");
  };
  if ((await ids(spillway)) !== (await ids(plain))) throw new Error(`${spillway} and ${plain} show different events`);
}
