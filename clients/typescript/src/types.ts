/** What goes in and comes out, as in the HTTP contract. */

/** An event to send. */
export interface NewEvent {
  /** Whose event; 1 to 255 bytes. A client's events keep their order. */
  readonly clientId: string;
  /** 1 to 255 bytes. */
  readonly type: string;
  /** The same id again is never a second event. Left out: a UUIDv7, assigned once, before the first attempt. */
  readonly id?: string | undefined;
  /** RFC 3339, kept to the millisecond. Left out: when it arrives. */
  readonly occurredAt?: string | Date | undefined;
  /** Any JSON up to 256 KiB. */
  readonly data?: unknown;
}

/** An event that is durable. */
export interface Acknowledged {
  readonly id: string;
  /** Where the acknowledged copy stands. */
  readonly cursor: string;
  /** More than 1: an earlier attempt may have been stored too, and the first copy counts. */
  readonly attempts: number;
}

/** An event as it is read. */
export interface Event {
  readonly id: string;
  readonly clientId: string;
  readonly type: string;
  readonly occurredAt: string;
  readonly receivedAt: string;
  readonly data?: unknown;
  /** Where it stands: go on `after` it. Sorts as text within a client. */
  readonly cursor: string;
}

export interface Page {
  readonly events: readonly Event[];
  /** Where the page ends: go on `after` it, or `before` it when descending. */
  readonly next: string;
  readonly hasMore: boolean;
  /** Up to here the client's events are saved in the database; "0": none is. */
  readonly savedThrough: string;
}

/** What a follower is told. Within `events` and `caughtUp` is where to resume. */
export type Frame =
  | { readonly type: "events"; readonly events: readonly Event[] }
  /** Everything up to `cursor` was shown; again with every heartbeat. */
  | { readonly type: "caughtUp"; readonly cursor: string }
  /** Too slow for the newest events; goes on from older ones, none is left out. */
  | { readonly type: "fellBehind"; readonly cursor: string }
  /** The connection ended, or the node cannot go on for now: it is tried again from the last cursor. */
  | { readonly type: "interrupted"; readonly cause: Error };

export interface Abortable {
  /** Ends it: what waits rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReadOptions extends Abortable {
  /** Cursor, exclusive. */
  readonly after?: string | undefined;
  /** Cursor, exclusive. */
  readonly before?: string | undefined;
  /** Default asc. */
  readonly order?: "asc" | "desc" | undefined;
  /** Most events altogether. Default: all. */
  readonly limit?: number | undefined;
  /** Only events of these types. */
  readonly types?: readonly string[] | undefined;
  /** Only events that occurred then or later. */
  readonly since?: string | Date | undefined;
  /** Only events that occurred before. */
  readonly until?: string | Date | undefined;
  /** Default merged. */
  readonly view?: "merged" | "saved" | "unsaved" | undefined;
  /** Default latest: every event acknowledged before. known: what the node has read, without waiting. */
  readonly consistency?: "latest" | "known" | undefined;
  /** Cursor of an acknowledgement that the answer must cover. */
  readonly atLeast?: string | undefined;
}

export interface FollowOptions extends Abortable {
  /** Cursor, exclusive; "0": from the beginning. Left out: from now on. */
  readonly after?: string | undefined;
  /** Only events of these types. */
  readonly types?: readonly string[] | undefined;
  /** Default sse: it alone lets a slow consumer hold the server back. */
  readonly transport?: "sse" | "websocket" | undefined;
}

export interface ClientOptions {
  /** Where Spillway is, as `https://host:port`. Several are nodes of one Spillway: another is taken when one fails. */
  readonly url: string | readonly string[];
  /** Of an API key, where the node has keys. */
  readonly token?: string | undefined;
  /** A post or a page that has not succeeded by then is given up. Default 60,000. */
  readonly timeoutMs?: number | undefined;
  /** A lone event waits so long for company. Default 0: it leaves at once, and what comes meanwhile leaves together. */
  readonly lingerMs?: number | undefined;
  /** Bytes of events that are posted and not acknowledged; beyond it `post` waits. Default 16 MiB. */
  readonly bufferBytesMax?: number | undefined;
  /** Called before each repetition, for logs and counters. */
  readonly onRetry?: ((why: Error) => void) | undefined;
}
