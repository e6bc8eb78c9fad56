/**
 * A follower over a WebSocket, a stream of server-sent events, or a socket that it shares with others. It can be cut anywhere,
 * resumes with its last cursor, and writes down what it was shown.
 */
import { until } from "../../support/until.ts";
import { eventTexts, type Seen, seen } from "./content.ts";
import { type Connection, openSocket, openStream } from "./follower-connection.ts";
import { type History, now } from "./history.ts";
import type { Node } from "./producer.ts";
import { offsetOf } from "./reader.ts";

export interface FollowerOptions {
  readonly clientId: string;
  /** "0": from the beginning; left out: from now on. */
  readonly after?: string;
  readonly token?: string;
  readonly name?: string;
  /** Default: socket. */
  readonly by?: "socket" | "stream";
}

interface AnyFrame {
  readonly type: "events" | "caughtUp" | "fellBehind" | "problem";
  readonly clientId?: string;
  readonly cursor?: string;
  readonly problem?: { readonly code: string };
}

export class Follower {
  readonly events: Seen[] = [];
  /** As shown, in order. */
  readonly texts: string[] = [];
  /** Types of all frames so far, a problem as `problem:code`. */
  readonly frames: string[] = [];
  /** Where to resume; undefined before the first cursor. */
  cursor: string | undefined;
  connections = 0;
  readonly clientId: string;
  /** How the last connection ended; null while it is open. */
  closeCode: number | null = null;
  readonly #options: FollowerOptions;
  #connection: Connection | null = null;
  /** Where a follower from now on turned out to begin. */
  #began: string | undefined;
  /** The last frame of this connection was a caughtUp. */
  #caughtUp = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.clientId = options.clientId;
    this.cursor = options.after;
    this.#began = options.after;
  }

  /** Connects, or connects again with the last cursor, perhaps to another node. Resolves when frames may come. */
  async connect(node: Node): Promise<void> {
    const { token, by } = this.#options;
    const headers = { ...(token && { authorization: `Bearer ${token}` }) };
    this.begin();
    let mine: Connection | null = null;
    const parts = {
      headers,
      // What still arrives on a connection that was left is not taken: its cursor would no longer be the last one.
      frame: (text: string, id?: string) => (mine === null || this.#connection === mine) && this.take(text, id),
      closed: (code: number) => {
        if (this.#connection === mine) this.closeCode = code;
      },
    };
    const open = by === "stream" ? openStream : openSocket;
    mine = open(node, { clientId: this.clientId, after: this.cursor }, parts);
    this.#connection = mine;
    await mine.opened;
  }

  /** Another connection takes it up, with its last cursor. */
  begin(): void {
    this.#caughtUp = false;
    this.closeCode = null;
    this.connections++;
  }

  get isCaughtUp(): boolean {
    return this.#caughtUp;
  }

  get shown(): number {
    return this.events.length;
  }

  /** Connects to the nodes in turn until one takes it. */
  reconnect(nodes: readonly Node[], limitMs?: number): Promise<void> {
    return connectInTurn(this, nodes, `the follower of ${this.clientId}`, limitMs);
  }

  /** Leaves without a word, as a crashed reader does. Nothing that arrives later is taken. */
  cut(): void {
    const connection = this.#connection;
    this.#connection = null;
    connection?.terminate();
  }

  get open(): boolean {
    return this.#connection?.open === true;
  }

  /** Stops reading from the socket, so that frames pile up on the way; `resume` goes on. */
  pause(): void {
    this.#connection?.pause();
  }

  resume(): void {
    this.#connection?.resume();
  }

  /** Resolves once a caughtUp of this connection is the last frame. */
  async caughtUp(limitMs = 30_000): Promise<void> {
    await until(`the follower of ${this.#options.clientId} is caught up`, () => this.#caughtUp, { limitMs });
  }

  /** Resolves once all these ids were shown. */
  async shows(ids: Iterable<string>, limitMs = 30_000): Promise<void> {
    const wanted = [...ids];
    await until(
      `the follower of ${this.#options.clientId} shows ${wanted.length} events`,
      () => {
        const got = new Set(this.events.map(({ id }) => id));
        return wanted.every((id) => got.has(id));
      },
      { limitMs },
    );
  }

  /** Writes what was seen into the history, and leaves. */
  finish(history: History): void {
    this.cut();
    const { clientId, name } = this.#options;
    history.add({
      f: "live",
      reader: name ?? `follower of ${clientId}`,
      clientId,
      after: offsetOf(this.#began),
      events: this.events,
      through: offsetOf(this.cursor),
      resumes: Math.max(0, this.connections - 1),
    });
  }

  /** A frame came. @param id of a server-sent event: must be the cursor to resume from */
  take(text: string, id?: string): void {
    const frame = JSON.parse(text) as AnyFrame;
    this.frames.push(frame.type === "problem" ? `problem:${frame.problem?.code}` : frame.type);
    this.#caughtUp = frame.type === "caughtUp";
    if (frame.type === "events") {
      const at = now();
      for (const one of eventTexts(text)) {
        this.texts.push(one);
        this.events.push(seen(one, at));
        this.cursor = (JSON.parse(one) as { cursor: string }).cursor;
      }
    }
    if (frame.type === "caughtUp" || frame.type === "fellBehind") {
      this.#began ??= frame.cursor;
      this.cursor = frame.cursor;
    }
    if (id !== undefined && id !== this.cursor)
      throw new Error(`the id ${id} is not the cursor: ${text.slice(0, 300)}`);
  }
}

/** Connects to the nodes in turn until one takes it. */
export async function connectInTurn(
  one: { readonly connections: number; connect(node: Node): Promise<void> },
  nodes: readonly Node[],
  whom: string,
  limitMs = 30_000,
): Promise<void> {
  let attempt = one.connections;
  await until(
    `a connection for ${whom}`,
    async () => {
      const node = nodes[attempt++ % nodes.length];
      if (node === undefined) throw new Error("no node to follow at");
      await one.connect(node);
      return true;
    },
    { limitMs },
  );
}
