/** What clients did and saw: the checker's first input. Times are process.hrtime.bigint(), comparable on one machine. */
import type { Seen } from "./content.ts";

/** `fail` only if surely not stored: 4xx, or the connection was refused. Resets, time-outs and 5xx are `info`. */
export type Outcome = "ok" | "fail" | "info";

/** One event of one attempt to append. */
export interface Append {
  readonly f: "append";
  readonly node: string;
  /** All events of one HTTP request share it. */
  readonly request: number;
  /** Place in the request. */
  readonly index: number;
  readonly clientId: string;
  readonly id: string;
  readonly content: string;
  readonly tInv: bigint;
  readonly tRet: bigint;
  readonly type: Outcome;
  /** The acknowledged cursor. */
  readonly position: { readonly partition: number; readonly offset: bigint } | null;
}

/** One page that was answered 200. Offsets are of the client's partition; null where the request named none. */
export interface Page {
  readonly f: "page";
  readonly node: string;
  /** Pages that one reader read on from one another share it. */
  readonly walk: number;
  readonly clientId: string;
  readonly order: "asc" | "desc";
  readonly after: bigint | null;
  readonly before: bigint | null;
  readonly types: readonly string[] | null;
  readonly view: "merged" | "saved" | "unsaved";
  readonly consistency: "latest" | "known";
  readonly atLeast: bigint | null;
  readonly tInv: bigint;
  readonly tRet: bigint;
  readonly events: readonly Seen[];
  /** Null: before everything. */
  readonly next: bigint | null;
  readonly hasMore: boolean;
  /** Null: nothing is saved. */
  readonly savedThrough: bigint | null;
}

/** One follower's frames, joined over all its connections. */
export interface Live {
  readonly f: "live";
  readonly reader: string;
  readonly clientId: string;
  /** Where it began, exclusive; null: from the beginning. */
  readonly after: bigint | null;
  readonly events: readonly Seen[];
  /** The last cursor it was given, by an event or a `caughtUp`; null: none. */
  readonly through: bigint | null;
  /** Connections after the first. */
  readonly resumes: number;
}

export type Entry = Append | Page | Live;

export class History {
  readonly entries: Entry[] = [];
  /** Acknowledged attempts of one event each, so far. */
  acknowledgements = 0;
  /** Attempts so far that ended without saying whether the event is stored. */
  unknowns = 0;
  #ids = 0;

  add(...entries: Entry[]): void {
    this.entries.push(...entries);
    for (const one of entries) {
      if (one.f !== "append") continue;
      if (one.type === "ok") this.acknowledgements++;
      if (one.type === "info") this.unknowns++;
    }
  }

  /** A number that nothing else in this history has. */
  newId(): number {
    return ++this.#ids;
  }
}

export const now = (): bigint => process.hrtime.bigint();
