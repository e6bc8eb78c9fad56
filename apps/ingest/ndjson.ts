/** Streams of events (application/x-ndjson) ↔ their answers: from the request to the last byte of the connection. */
import type { IncomingMessage } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { preferredType } from "#lib/accept.ts";
import type { Clock } from "#lib/clock.ts";
import type { Position } from "#lib/cursor.ts";
import type { Event } from "#lib/event.ts";
import { withoutHurry } from "#lib/faults.ts";
import type { Log } from "#lib/log.ts";
import type { Metrics } from "#lib/metrics.ts";
import { NDJSON } from "#lib/ndjson.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { NotAcknowledged } from "#lib/publish-request.ts";
import { LogFull } from "#lib/retention-guard.ts";
import type { Room } from "#lib/room.ts";
import { EventStream } from "./stream.ts";
import { type EarlyEnd, LineByLine, Summary } from "./stream-answers.ts";

/** A stream waits for so long while too much is in flight: others' appends end within seconds. Then it is told to come again. */
const CROWDED_MS_MAX = 5_000;
const CROWDED_STEP_MS = 20;
/** A sender that was told of an early end hears of it within so long, and stops. */
const CLOSE_MS_MAX = 2_000;

const LEAVING: EarlyEnd = {
  code: "shutting-down",
  why: "This node is shutting down: ask another, or this one in a moment.",
  stored: "no",
  retryAfterSeconds: 1,
};

export interface StreamsParts {
  /** @throws NotAcknowledged */
  publish(events: readonly Event[]): Promise<readonly Position[]>;
  readonly bodies: Room;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** All streams of a node. */
export class Streams {
  readonly #parts: StreamsParts;
  readonly #open = new Set<EventStream>();

  constructor(parts: StreamsParts) {
    this.#parts = parts;
  }

  /** What they have sent so far is appended and told. */
  stop(): void {
    for (const stream of this.#open) stream.stop(LEAVING);
  }

  /** Takes over the request until it is answered. @throws ProblemError forbidden, for a key that may not append at all */
  async receive(request: FastifyRequest, payload: IncomingMessage, reply: FastifyReply): Promise<void> {
    const { bodies: room, clock, metrics } = this.#parts;
    const { access, headers } = request;
    if (!access.holds("append"))
      throw new ProblemError(problem("forbidden", "This key lacks the verb append: use the client's own key."));
    const byLine = preferredType(headers, ["application/json", NDJSON]) === NDJSON;
    const hurry = withoutHurry(request);
    const answer = byLine ? new LineByLine(reply, room) : new Summary(reply);
    const append = this.#append.bind(this);
    const stream = new EventStream({ payload, access, answer, append, room, clock, metrics });
    this.#open.add(stream);
    try {
      const ended = await stream.run();
      if (ended !== "whole" && ended !== "broken") await this.#thrownAway(payload);
      answer.close();
      if (ended !== "whole") payload.socket.destroySoon();
    } finally {
      this.#open.delete(stream);
      hurry();
    }
  }

  /** A crowd is waited out, since whoever streams can wait. @returns positions, or why it ends here */
  async #append(events: readonly Event[], gaveUp: () => boolean): Promise<readonly Position[] | EarlyEnd> {
    if (events.length === 0) return [];
    const { publish, clock, log } = this.#parts;
    const untilMs = clock.elapsed() + CROWDED_MS_MAX;
    for (;;) {
      try {
        return await publish(events);
      } catch (error) {
        if (!isCrowd(error) || gaveUp() || clock.elapsed() >= untilMs) return endBy(error, log);
      }
      await clock.sleep(CROWDED_STEP_MS);
    }
  }

  /** What still comes after an early answer: a connection that is closed before its sender stops may lose the answer. */
  #thrownAway(payload: IncomingMessage): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#parts.clock.after(CLOSE_MS_MAX, resolve);
    payload.once("end", resolve).once("close", resolve).resume();
    if (payload.readableEnded || payload.destroyed) resolve();
    return promise.finally(cancel);
  }
}

const isCrowd = (error: unknown): boolean =>
  error instanceof NotAcknowledged && error.reason === "overloaded" && !(error instanceof LogFull);

function endBy(error: unknown, log: Log): EarlyEnd {
  if (error instanceof NotAcknowledged && error.reason !== "refused")
    return {
      code: error.reason,
      why: `The append failed: ${error.message}.`,
      stored: error.stored,
      retryAfterSeconds: retryAfterSeconds(error),
    };
  log.error("stream failed", { error });
  const stored = error instanceof NotAcknowledged ? error.stored : "unknown";
  return { code: "internal-error", why: "It is in this node's log.", stored, retryAfterSeconds: 1 };
}

/** When to come again. */
export function retryAfterSeconds(error: NotAcknowledged): number {
  if (error instanceof LogFull) return error.retryAfterSeconds;
  return error.reason === "overloaded" ? 1 : 5;
}
