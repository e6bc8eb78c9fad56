/** One WebSocket: who it is, what it follows, and its frames. Slowness never closes it; silence does. */
import type { WebSocket } from "@fastify/websocket";
import { type Access, demand, noAccess } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import { type Problem, ProblemError, problem } from "#lib/problem.ts";
import { Line, type Wire } from "./line.ts";
import type { Frame } from "./live.ts";
import type { Live } from "./live-node.ts";
import { Allowance, FORMS, type Message, parseMessage } from "./messages.ts";
import { checkedClientId, checkedTypes } from "./parameters.ts";
import type { ClientOrder } from "./places.ts";
import type { Query } from "./query.ts";
import { problemOf } from "./subscription.ts";

/** Whom a client asks to follow. */
export interface Asked {
  readonly clientId: string;
  readonly after?: string | undefined;
  readonly type?: readonly string[] | undefined;
}

export interface SocketParts {
  readonly query: Pick<Query, "order" | "live" | "explained">;
  readonly clock: Clock;
  readonly log: Log;
  /** Null: the token is not known. */
  accessOf(token: string): Access | null;
}

const AUTHENTICATE_MS = 10_000;
/** Each costs a few hundred bytes, and a frame with every heartbeat. */
const SUBSCRIPTIONS_MAX = 1_000;
/** Of the close frame; WebSocket allows 123 bytes. */
const REASON_CHARACTERS = 40;

/** Close codes; 4400, 4401, 4403, 4410 and 4429 follow from a problem's status. */
const RESTART = 1012;
const INTERNAL = 1011;
const DEPENDENCY_AWAY = 1013;
const SILENT = 4408;

export class LiveSocket implements Wire {
  readonly #socket: WebSocket;
  readonly #parts: SocketParts;
  readonly #allowance: Allowance;
  /** Said while its answers were not taken: what was read from the network at once, 64 KiB at most. */
  readonly #unheard: (Message | null)[] = [];
  #access: Access = noAccess;
  #asked: () => Asked | null = () => null;
  #line: Line | null = null;
  #live: Live | null = null;
  /** Whom the address names: without its subscription the socket closes. */
  #addressed: string | null = null;
  #cancelTimer: () => void = () => undefined;

  constructor(socket: WebSocket, parts: SocketParts) {
    this.#socket = socket;
    this.#parts = parts;
    this.#allowance = new Allowance(parts.clock.elapsed());
    socket.on("close", () => this.#end());
    socket.on("pong", () => this.#line?.alive());
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      this.#unheard.push(parseMessage(data, isBinary));
      this.#hear();
    });
  }

  /**
   * Serves until the socket closes.
   * @param access noAccess: the first message must show a token
   * @param asked by the address; null: nobody. @throws ProblemError when its parameters are wrong
   */
  start(access: Access, asked: () => Asked | null): void {
    this.#asked = asked;
    if (access !== noAccess) {
      this.#open(access);
      return;
    }
    const late = (): void => this.#refuse(problem("unauthenticated", "No token came: send one within 10 s."));
    this.#cancelTimer = this.#parts.clock.after(AUTHENTICATE_MS, late);
  }

  get open(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  print(order: ClientOrder, frame: Frame): Buffer {
    return (this.#live as Live).printer.json(order, frame);
  }

  problem(sent: Problem, clientId: string | undefined): Buffer {
    return Buffer.from(JSON.stringify({ type: "problem", ...(clientId !== undefined && { clientId }), problem: sent }));
  }

  write(bytes: Buffer, taken: () => void): void {
    this.#socket.send(bytes, { binary: false }, () => {
      taken();
      this.#hear();
    });
  }

  ping(): void {
    this.#socket.ping();
  }

  silent(): void {
    this.#close(SILENT, "silent");
  }

  failed({ clientId }: ClientOrder, error: unknown): void {
    this.#failed(error, clientId);
  }

  #open(access: Access): void {
    this.#access = access;
    try {
      const asked = this.#asked();
      this.#live = this.#parts.query.live();
      this.#line = new Line(this.#live, this);
      if (asked === null) return;
      this.#addressed = asked.clientId;
      this.#subscribe(asked);
    } catch (error) {
      this.#refuse(problemOf(error, this.#parts.log));
    }
  }

  /** Who leaves its answers is not listened to: messages cost nothing, and their answers would take the room of all others. */
  #hear(): void {
    while (this.#unheard.length > 0) {
      if (this.#line?.clogged) {
        this.#socket.pause();
        return;
      }
      this.#said(this.#unheard.shift() ?? null);
    }
    if (this.#socket.isPaused) this.#socket.resume();
  }

  #said(message: Message | null): void {
    if (!this.open) return;
    if (this.#access === noAccess) {
      this.#authenticate(message);
      return;
    }
    if (!this.#allowance.take(this.#parts.clock.elapsed())) {
      const detail = "A socket takes 1,000 messages, and 100 a minute after that: open another for other clients.";
      this.#refuse(problem("too-many-requests", detail));
      return;
    }
    switch (message?.op) {
      case "subscribe":
        this.#subscribe(message);
        break;
      case "unsubscribe":
        this.#unsubscribe(message.clientId);
        break;
      case "authenticate":
        // A token that was not needed, as on a node without keys, does no harm.
        if (this.#parts.accessOf(message.token) !== null) break;
        this.#refuse(problem("unauthenticated", "The token is not known: show one of this node's keys."));
        break;
      case undefined:
        this.#refuse(problem("invalid-parameter", `The message is none: send ${FORMS}, as text.`));
        break;
      default:
        message satisfies never;
    }
  }

  #authenticate(message: Message | null): void {
    this.#cancelTimer();
    const shown = message?.op === "authenticate" ? this.#parts.accessOf(message.token) : null;
    if (shown !== null) this.#open(shown);
    else
      this.#refuse(
        problem("unauthenticated", 'The first message must be {"op":"authenticate","token":…} with a known key.'),
      );
  }

  /** A client that is followed already is followed from the new place on. */
  #subscribe({ clientId, after, type }: Asked): void {
    const line = this.#line as Line;
    if (line.has(clientId)) this.#unsubscribe(clientId);
    try {
      const order = this.#order(clientId);
      const from = after === undefined ? null : order.place(after, "after");
      line.follow({ order, from, types: checkedTypes(type) });
    } catch (error) {
      void this.#parts.query.explained(error).then((why) => this.#failed(why, clientId));
    }
  }

  /** @throws ProblemError */
  #order(clientId: string): ClientOrder {
    demand(this.#access, "read", checkedClientId(clientId));
    if ((this.#line as Line).size >= SUBSCRIPTIONS_MAX)
      throw new ProblemError(
        problem(
          "too-many-requests",
          `This socket follows ${SUBSCRIPTIONS_MAX} clients: unsubscribe one, or open another.`,
        ),
      );
    return this.#parts.query.order(clientId);
  }

  #unsubscribe(clientId: string): void {
    const line = this.#line as Line;
    const cursor = line.unfollow(clientId) ?? undefined;
    if (this.#addressed === clientId) this.#addressed = null;
    line.write("unsubscribed", Buffer.from(JSON.stringify({ type: "unsubscribed", clientId, cursor })));
  }

  #failed(error: unknown, clientId: string): void {
    const why = problemOf(error, this.#parts.log);
    // What a node as a whole cannot do now, another may.
    if (clientId === this.#addressed || why.status === 503) this.#refuse(why, clientId);
    else this.#line?.problem(why, clientId);
  }

  #refuse(why: Problem, clientId?: string): void {
    if (this.open) this.#socket.send(this.problem(why, clientId), { binary: false });
    this.#close(why.status === 503 ? DEPENDENCY_AWAY : why.status >= 500 ? INTERNAL : 4000 + why.status, why.code);
  }

  #close(code: number, reason: string): void {
    this.#socket.close(code, reason.slice(0, REASON_CHARACTERS));
    this.#end();
  }

  #end(): void {
    this.#cancelTimer();
    this.#line?.end();
  }
}

/** Tells every follower to resume elsewhere. */
export function closeAll(sockets: Iterable<WebSocket>): void {
  for (const socket of sockets) socket.close(RESTART, "restart: resume with your cursor");
}
