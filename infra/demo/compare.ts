/** What was sent against what came back, for one client. Pure. */
import type { Event } from "../../clients/typescript/src/index.ts";
import type { Departure } from "./flights.ts";

/** An event that was sent, and what the acknowledgement said. */
export interface Sent {
  readonly event: Departure;
  /** Undefined until it was acknowledged. */
  cursor?: string;
  /** Whether it was sent more than once: then an earlier copy may count than the one that was acknowledged. */
  resent: boolean;
}

/** Counts of events. */
export interface Findings {
  found: number;
  missing: number;
  doubled: number;
  outOfOrder: number;
  /** Other content than what was sent, or a place that contradicts the acknowledgement. */
  different: number;
}

export const noFindings = (): Findings => ({ found: 0, missing: 0, doubled: 0, outOfOrder: 0, different: 0 });

export const isClean = ({ missing, doubled, outOfOrder, different }: Findings): boolean =>
  missing + doubled + outOfOrder + different === 0;

export function add(sum: Findings, more: Findings): void {
  for (const key of Object.keys(sum) as (keyof Findings)[]) sum[key] += more[key];
}

/** A fault in words is for reading: the first ones tell enough. */
const EXAMPLES_MAX = 5;

export class Comparison {
  readonly findings = noFindings();
  /** The first faults in words. */
  readonly examples: string[] = [];
  readonly #sent: readonly Sent[];
  readonly #placeOf: ReadonlyMap<string, number>;
  readonly #seen = new Set<number>();
  readonly #prefix: string;
  #last = -1;
  #lastCursor = "";

  /** @param sent one client's events of the run, in the order in which they were sent */
  constructor(run: string, sent: readonly Sent[]) {
    this.#prefix = `${run}-`;
    this.#sent = sent;
    this.#placeOf = new Map(sent.map(({ event }, place) => [event.id, place]));
  }

  /** Whether every event was seen. */
  get complete(): boolean {
    return this.#seen.size === this.#sent.length;
  }

  /** The next event as the client's order shows it. Other runs' events are passed over. @returns whether it is this run's */
  take(shown: Event): boolean {
    if (!shown.id.startsWith(this.#prefix)) return false;
    const place = this.#placeOf.get(shown.id) ?? -1;
    const sent = this.#sent[place];
    if (sent === undefined) this.#fault("different", shown, "was never sent for this client");
    else if (this.#seen.has(place)) this.#fault("doubled", shown, "came twice");
    else {
      this.#seen.add(place);
      this.findings.found += 1;
      this.#order(shown, place);
      this.#content(shown, sent);
    }
    return true;
  }

  /** Counts what did not come. Call once, at the end. */
  finish(): Findings {
    for (const [place, { event }] of this.#sent.entries())
      if (!this.#seen.has(place)) this.#fault("missing", event, "is missing");
    return this.findings;
  }

  #order(shown: Event, place: number): void {
    if (place < this.#last || shown.cursor <= this.#lastCursor)
      this.#fault("outOfOrder", shown, "came after events that were sent later");
    this.#last = Math.max(place, this.#last);
    this.#lastCursor = shown.cursor;
  }

  #content(shown: Event, { event, cursor, resent }: Sent): void {
    const same =
      shown.clientId === event.clientId &&
      shown.type === event.type &&
      shown.occurredAt === event.occurredAt &&
      JSON.stringify(shown.data) === JSON.stringify(event.data);
    if (!same) this.#fault("different", shown, `is not what was sent: ${JSON.stringify(shown)}`);
    // A live frame may come before the acknowledgement.
    else if (cursor !== undefined && (resent ? shown.cursor > cursor : shown.cursor !== cursor))
      this.#fault("different", shown, `stands at ${shown.cursor}, but ${cursor} was acknowledged`);
  }

  #fault(
    kind: Exclude<keyof Findings, "found">,
    { clientId, id }: { clientId: string; id: string },
    what: string,
  ): void {
    this.findings[kind] += 1;
    if (this.examples.length < EXAMPLES_MAX) this.examples.push(`${clientId}: ${id} ${what}`);
  }
}
