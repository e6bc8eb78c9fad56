/** A follower over WebSocket that can be cut anywhere, resumes with its last cursor, and writes down what it was shown. */
import { WebSocket } from "ws";
import { until } from "../../support/until.ts";
import { eventTexts, type Seen, seen } from "./content.ts";
import { type History, now } from "./history.ts";
import type { Node } from "./producer.ts";
import { offsetOf } from "./reader.ts";

export interface FollowerOptions {
  readonly clientId: string;
  /** "0": from the beginning; left out: from now on. */
  readonly after?: string;
  readonly token?: string;
  readonly name?: string;
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
  #socket: WebSocket | null = null;
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

  /** Connects, or connects again with the last cursor, perhaps to another node. Resolves when the socket is open. */
  async connect(node: Node): Promise<void> {
    const { clientId, token } = this.#options;
    const url = new URL("/api/v1/events/live", node.url.replace("http", "ws"));
    url.searchParams.set("clientId", clientId);
    if (this.cursor !== undefined) url.searchParams.set("after", this.cursor);
    const socket = new WebSocket(url, { ...(token && { headers: { authorization: `Bearer ${token}` } }) });
    this.#socket = socket;
    this.#caughtUp = false;
    this.closeCode = null;
    this.connections++;
    // What still arrives on a socket that was left is not taken: its cursor would no longer be the last one.
    socket.on("message", (data: Buffer) => this.#socket === socket && this.#take(data.toString("utf8")));
    socket.on("close", (code) => {
      if (this.#socket === socket) this.closeCode = code;
    });
    await new Promise<void>((resolve, reject) => {
      socket.on("open", resolve);
      // Also of a socket that was open; the close code tells the rest then.
      socket.on("error", reject);
    });
  }

  /** Connects to the nodes in turn until one takes it. */
  async reconnect(nodes: readonly Node[], limitMs = 30_000): Promise<void> {
    let attempt = this.connections;
    await until(
      `a connection for the follower of ${this.#options.clientId}`,
      async () => {
        const node = nodes[attempt++ % nodes.length];
        if (node === undefined) throw new Error("no node to follow at");
        await this.connect(node);
        return true;
      },
      { limitMs },
    );
  }

  /** Leaves without a word, as a crashed reader does. Nothing that arrives later is taken. */
  cut(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.terminate();
  }

  get open(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Stops reading from the socket, so that frames pile up on the way; `resume` goes on. */
  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
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

  #take(text: string): void {
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
  }
}
