/** One WebSocket: who it is, what it follows, and its frames. Slowness never closes it; silence does. */
import type { WebSocket } from "@fastify/websocket";
import { type Access, demand, noAccess } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { type Problem, ProblemError, problem } from "#lib/problem.ts";
import type { Frame } from "./live.ts";
import type { ClientOrder, Place } from "./places.ts";
import type { Query } from "./query.ts";
import type { Outlet, Subscription } from "./subscription.ts";

/** Whom a socket asks to follow. */
export interface Wish {
  /** @throws ProblemError when the parameters are wrong */
  readonly clientId: () => string;
  readonly after: string | undefined;
}

export interface SocketParts {
  readonly query: Query;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Null: the token is not known. */
  accessOf(token: string): Access | null;
}

/** Nothing is pulled while so much waits in the socket: with one more frame of 256 KiB or one event it stays below 1 MiB. */
const WRITABLE_BYTES_MAX = 512 * 1024;
const AUTHENTICATE_MS = 10_000;
/** No pong and no byte taken for so long: nobody is there. */
const SILENCE_MS = 60_000;
/** Of the close frame; WebSocket allows 123 bytes. */
const REASON_CHARACTERS = 40;

/** Close codes; 4400, 4401, 4403 and 4410 follow from a problem's status. */
const RESTART = 1012;
const INTERNAL = 1011;
const DEPENDENCY_AWAY = 1013;
const SILENT = 4408;

export class LiveSocket implements Outlet {
  readonly #socket: WebSocket;
  readonly #parts: SocketParts;
  readonly #closed = new AbortController();
  #subscription: Subscription | null = null;
  #order: ClientOrder | null = null;
  #aliveMs: number;
  #cancelTimer: () => void = () => undefined;

  constructor(socket: WebSocket, parts: SocketParts) {
    this.#socket = socket;
    this.#parts = parts;
    this.#aliveMs = parts.clock.elapsed();
    socket.on("close", () => this.#end());
    socket.on("pong", () => this.#alive());
  }

  /** Serves until the socket closes. @param access noAccess: the first message must show a token */
  start(access: Access, wish: Wish): void {
    if (access !== noAccess) {
      this.#follow(access, wish);
      return;
    }
    const late = (): void => this.#refuse(problem("unauthenticated", "No token came: send one within 10 s."));
    this.#cancelTimer = this.#parts.clock.after(AUTHENTICATE_MS, late);
    this.#socket.once("message", (data: Buffer) => {
      this.#cancelTimer();
      const token = tokenOf(data);
      const shown = token === null ? null : this.#parts.accessOf(token);
      if (shown !== null) this.#follow(shown, wish);
      else
        this.#refuse(
          problem("unauthenticated", 'The first message must be {"op":"authenticate","token":…} with a known key.'),
        );
    });
  }

  writable(): boolean {
    return this.#socket.readyState === this.#socket.OPEN && this.#socket.bufferedAmount < WRITABLE_BYTES_MAX;
  }

  send(frame: Frame): void {
    const { clientId } = this.#order as ClientOrder;
    const head = `{"type":"${frame.type}","clientId":${JSON.stringify(clientId)},`;
    const body =
      frame.type === "events"
        ? `"events":[${frame.events.join(",")}]}`
        : `"cursor":"${(this.#order as ClientOrder).cursor(frame.place)}"}`;
    this.#write(frame.type, head + body);
  }

  problem(sent: Problem): void {
    const clientId = this.#order?.clientId;
    this.#write(
      "problem",
      JSON.stringify({ type: "problem", ...(clientId !== undefined && { clientId }), problem: sent }),
    );
  }

  #write(type: string, text: string): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#parts.metrics.queryFrames.inc({ type });
    // Called once the bytes have left for the kernel: the sign that there is room again.
    this.#socket.send(text, () => {
      this.#alive();
      if (this.writable()) this.#subscription?.wake();
    });
  }

  #follow(access: Access, wish: Wish): void {
    const { query } = this.#parts;
    let from: Place | null;
    try {
      const clientId = wish.clientId();
      demand(access, "read", clientId);
      this.#order = query.order(clientId);
      from = wish.after === undefined ? null : this.#order.place(wish.after, "after");
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#socket.on("message", (data: Buffer) => {
      // A token that was not needed, as on a node without keys, does no harm.
      const token = tokenOf(data);
      if (token !== null && this.#parts.accessOf(token) !== null) return;
      this.#refuse(
        problem("invalid-parameter", "One socket follows one client, by its address: it takes no messages."),
      );
    });
    const opened = (subscription: Subscription): void => {
      this.#subscription = subscription;
    };
    this.#beat();
    query.follow(this.#order, from, this, opened, this.#closed.signal).catch((error: unknown) => this.#fail(error));
  }

  /** Sends the cursor, asks for a sign of life, and misses one that is overdue. */
  #beat(): void {
    const { clock, query } = this.#parts;
    this.#cancelTimer = clock.after(query.heartbeatMs, () => {
      if (clock.elapsed() - this.#aliveMs > SILENCE_MS) {
        this.#closeFor(SILENT, "silent");
        return;
      }
      if (this.writable()) this.#socket.ping();
      this.#subscription?.heartbeat();
      // One that waits for the tail hears of its own client's news only; with none, this finds that the tail is there.
      this.#subscription?.wake();
      this.#beat();
    });
  }

  #alive(): void {
    this.#aliveMs = this.#parts.clock.elapsed();
  }

  #fail(error: unknown): void {
    const known = error instanceof ProblemError;
    if (!known) this.#parts.log.error("follower failed", { error });
    this.#refuse(
      known ? error.problem : problem("internal-error", "It is in this node's log. Resume with your cursor."),
    );
  }

  #refuse(why: Problem): void {
    this.problem(why);
    this.#closeFor(why.status === 503 ? DEPENDENCY_AWAY : why.status >= 500 ? INTERNAL : 4000 + why.status, why.code);
  }

  #closeFor(code: number, reason: string): void {
    this.#socket.close(code, reason.slice(0, REASON_CHARACTERS));
    this.#end();
  }

  #end(): void {
    this.#cancelTimer();
    this.#subscription = null;
    this.#closed.abort();
  }
}

/** Tells every follower to resume elsewhere. */
export function closeAll(sockets: Iterable<WebSocket>): void {
  for (const socket of sockets) socket.close(RESTART, "restart: resume with your cursor");
}

function tokenOf(data: Buffer): string | null {
  try {
    const message: unknown = JSON.parse(data.toString("utf8"));
    if (typeof message !== "object" || message === null) return null;
    const { op, token } = message as { op?: unknown; token?: unknown };
    return op === "authenticate" && typeof token === "string" ? token : null;
  } catch {
    return null;
  }
}
