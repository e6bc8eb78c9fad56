/**
 * One client's events as server-sent events (`text/event-stream`), for browsers, curl and whoever speaks no WebSocket. The
 * answer begins with the first frame: what is wrong before that is told by its status.
 */
import type { FastifyReply } from "fastify";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Problem } from "#lib/problem.ts";
import { Line, type Wire, type Wish } from "./line.ts";
import type { Frame } from "./live.ts";
import type { Live } from "./live-node.ts";
import type { ClientOrder } from "./places.ts";
import { sseText } from "./printer.ts";
import { problemOf } from "./subscription.ts";

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store",
  // nginx would keep frames until its buffer is full.
  "x-accel-buffering": "no",
  connection: "close",
} as const;
/** After a lost connection a reader waits this long, and up to twice: a node's readers must not come back all at once. */
const RETRY_MS = 1_000;
/** After the last frame. */
const LEAVE_MS_MAX = 2_000;
const COMMENT = Buffer.from(":\n\n");

export interface StreamParts {
  readonly live: Live;
  readonly clock: Clock;
  readonly log: Log;
}

export class LiveStream implements Wire {
  readonly #reply: FastifyReply;
  readonly #parts: StreamParts;
  readonly #line: Line;
  readonly #begun = Promise.withResolvers<void>();
  #headSent = false;
  #ended = false;
  /** Nothing was written since the last beat. */
  #quiet = true;

  constructor(reply: FastifyReply, parts: StreamParts) {
    this.#reply = reply;
    this.#parts = parts;
    this.#line = new Line(parts.live, this);
    reply.raw.once("close", () => this.#end());
  }

  /** Resolves once the answer has begun. @throws ProblemError instead of that, when it cannot be followed */
  follow(wish: Wish): Promise<void> {
    this.#line.follow(wish);
    return this.#begun.promise;
  }

  get open(): boolean {
    return !this.#ended && !this.#reply.raw.destroyed;
  }

  print(order: ClientOrder, frame: Frame): Buffer {
    return this.#parts.live.printer.sse(order, frame);
  }

  problem(sent: Problem, clientId: string | undefined): Buffer {
    return Buffer.from(sseText("problem", null, JSON.stringify({ type: "problem", clientId, problem: sent })));
  }

  write(bytes: Buffer, taken: () => void): void {
    this.#quiet = false;
    this.#begin();
    this.#reply.raw.write(bytes, taken);
  }

  ping(): void {
    // A comment keeps those from giving up who stand between; whether it was taken tells whether anybody is there.
    if (this.#quiet && this.#headSent) this.#line.write("comment", COMMENT);
    this.#quiet = true;
  }

  silent(): void {
    this.#reply.raw.destroy();
    this.#end();
  }

  failed({ clientId }: ClientOrder, error: unknown): void {
    if (!this.#headSent) {
      this.#begun.reject(error);
      this.#end();
      return;
    }
    this.#line.problem(problemOf(error, this.#parts.log), clientId);
    this.leave();
  }

  /** Ends the stream, for its reader to come back: here it fails, elsewhere it goes on. */
  leave(): void {
    if (this.#ended) return;
    this.#begin();
    this.#line.beat();
    const { raw } = this.#reply;
    raw.end(this.#retry());
    // Who does not read would otherwise keep the node from stopping.
    this.#parts.clock.after(LEAVE_MS_MAX, () => raw.destroy());
    this.#end();
  }

  #begin(): void {
    if (this.#headSent) return;
    this.#headSent = true;
    const { raw } = this.#reply.hijack();
    // The server's time limit is for answers that end.
    raw.socket?.setTimeout(0);
    raw.writeHead(200, HEADERS);
    raw.write(this.#retry());
    this.#begun.resolve();
  }

  #retry(): string {
    return `retry: ${Math.round(RETRY_MS * (1 + this.#parts.clock.random()))}\n\n`;
  }

  #end(): void {
    this.#ended = true;
    this.#line.end();
    this.#begun.resolve();
  }
}
