/**
 * Events that come as lines, for as long as they come: read → judged → appended → answered, one batch after the other. A batch
 * is appended once the one before is acknowledged, so that nothing of a stream is stored behind what was not; meanwhile the
 * next one is read and judged. Nothing is read while enough waits: memory is bounded, and the sender feels how fast the log is.
 */
import type { IncomingMessage } from "node:http";
import type { Access } from "#lib/access.ts";
import type { Clock } from "#lib/clock.ts";
import { encodeCursor, type Position } from "#lib/cursor.ts";
import type { Event } from "#lib/event.ts";
import type { Metrics } from "#lib/metrics.ts";
import type { Hold, Room } from "#lib/room.ts";
import { type Judged, judge } from "./judge.ts";
import { Lines } from "./lines.ts";
import type { Answered, EarlyEnd, StreamAnswer } from "./stream-answers.ts";

export interface StreamParts {
  readonly payload: IncomingMessage;
  readonly access: Access;
  readonly answer: StreamAnswer;
  /** Appends in the order given. @returns positions, or why it could not */
  append(events: readonly Event[], gaveUp: () => boolean): Promise<readonly Position[] | EarlyEnd>;
  /** Where bytes count that were read and not yet appended. */
  readonly room: Room;
  readonly clock: Clock;
  readonly metrics: Metrics;
}

/** Read ahead while a batch is being appended: about as much as one. */
const AHEAD_BYTES_MAX = 512 * 1024;
/** One send to the log carries 1,000 records and 768 KiB of a partition. Judging them takes about 10 ms. */
const BATCH_LINES_MAX = 1_000;
const BATCH_BYTES_MAX = 768 * 1024;
/** An event in memory, besides its bytes, as lib/publish.ts reckons. */
const EVENT_BYTES = 400;

const SLOW: EarlyEnd = {
  code: "overloaded",
  why: "The stream was slow, and others needed its room, or there was none.",
  stored: "no",
  retryAfterSeconds: 1,
};
const SILENT: EarlyEnd = {
  code: "request-timeout",
  why: "Nothing came for too long: an empty line now and then keeps a quiet stream open.",
  stored: "no",
  retryAfterSeconds: 1,
};

export class EventStream {
  readonly #parts: StreamParts;
  readonly #lines = new Lines();
  #batch: Judged[] = [];
  #batchBytes = 0;
  #hold: Hold | null = null;
  /** Why nothing more is read; null: more may come. */
  #ended: End | null = null;
  /** The first line that was to be appended, and is not acknowledged. */
  #left: number | null = null;
  /** The sender is being told, and takes its time. */
  #telling = false;
  #changed = Promise.withResolvers<void>();

  constructor(parts: StreamParts) {
    this.#parts = parts;
    const { payload } = parts;
    payload.on("data", this.#onData);
    payload.on("end", () => this.#end("whole"));
    for (const broken of ["error", "close"]) payload.on(broken, () => this.#end("broken"));
    // Left to Node, the connection would be closed without a word.
    payload.on("timeout", () => (this.#telling ? payload.destroy() : this.#end(SILENT)));
  }

  /** Reads no more. What was read whole is still appended and told. */
  stop(why: EarlyEnd): void {
    this.#end(why);
  }

  /** Resolves when the sender was told all there is to tell, or is gone. @returns how the stream ended */
  async run(): Promise<End> {
    const { answer } = this.#parts;
    for (;;) {
      this.#judge();
      const batch = this.#takeBatch();
      if (batch.length > 0) {
        const appending = this.#append(batch);
        this.#judge();
        await this.#settle(batch, await appending);
      } else if (this.#ended !== null) break;
      else await this.#more();
    }
    this.#hold?.release();
    const early = this.#ended === "whole" ? null : this.#ended;
    if (early !== "broken") answer.end(early, this.#left ?? this.#lines.nextNumber);
    return this.#ended;
  }

  readonly #onData = (chunk: Buffer): void => {
    const before = this.#lines.bytes;
    this.#lines.push(chunk);
    if (!this.#grow(this.#lines.bytes - before)) this.#end(SLOW);
    else if (this.#lines.bytes > AHEAD_BYTES_MAX && !this.#lines.starved) this.#parts.payload.pause();
    this.#changed.resolve();
  };

  #end(why: End): void {
    if (this.#ended !== null) return;
    this.#ended = why;
    // A line that broke off is none.
    if (why === "whole") this.#lines.end();
    this.#parts.payload.off("data", this.#onData);
    this.#changed.resolve();
  }

  async #more(): Promise<void> {
    await this.#changed.promise;
    this.#changed = Promise.withResolvers<void>();
  }

  /** What has come, as far as the batch has room for it. */
  #judge(): void {
    const { access, clock, metrics, payload } = this.#parts;
    const stamp = { receivedAtMs: clock.now(), newId: clock.newId };
    while (this.#batch.length < BATCH_LINES_MAX && this.#batchBytes < BATCH_BYTES_MAX) {
      const line = this.#lines.take();
      if (line === null) break;
      const judged = judge(line, stamp, access);
      if ("faults" in judged) metrics.ingestRefusedEvents.inc({ code: judged.faults[0]?.code ?? "invalid-event" });
      this.#batch.push(judged);
      this.#batchBytes += (line.bytes?.length ?? 0) + EVENT_BYTES;
    }
    if (this.#batch.length > 0) this.#recount();
    if (this.#lines.starved || this.#lines.bytes <= AHEAD_BYTES_MAX) payload.resume();
  }

  #takeBatch(): readonly Judged[] {
    const batch = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    return batch;
  }

  #append(batch: readonly Judged[]): Promise<readonly Position[] | EarlyEnd> {
    const events = batch.flatMap((judged) => ("event" in judged ? [judged.event] : []));
    const appending = this.#parts.append(events, () => this.#ended === "broken");
    // What has moved on counts there.
    this.#recount();
    return appending;
  }

  async #settle(batch: readonly Judged[], outcome: readonly Position[] | EarlyEnd): Promise<void> {
    if (!("code" in outcome)) {
      const positions = outcome.values();
      return this.#tell(batch.map((judged) => acknowledged(judged, positions)));
    }
    // Nothing may be stored behind it.
    this.#lines.drop();
    const begun = failed(this.#takeBatch(), { ...outcome, stored: "no" });
    const lines = [...failed(batch, outcome), ...begun];
    this.#left = lines.find((one) => "end" in one)?.line ?? null;
    this.#end(outcome);
    if (this.#ended !== "broken") this.#ended = outcome;
    return this.#tell(lines);
  }

  async #tell(lines: readonly Answered[]): Promise<void> {
    this.#telling = true;
    await this.#parts.answer.tell(lines);
    this.#telling = false;
  }

  #grow(bytes: number): boolean {
    return this.#hold?.grow(bytes) ?? this.#recount();
  }

  /** Who moves on is not slow: its time begins anew. @returns false: there is no room */
  #recount(): boolean {
    this.#hold?.release();
    const bytes = this.#lines.bytes + this.#batchBytes;
    this.#hold = bytes === 0 ? null : this.#parts.room.take(bytes, () => this.#end(SLOW));
    return bytes === 0 || this.#hold !== null;
  }
}

type End = "whole" | "broken" | EarlyEnd;

function acknowledged(judged: Judged, positions: Iterator<Position>): Answered {
  if ("faults" in judged) return judged;
  const { line, event } = judged;
  return { line, id: event.id, cursor: encodeCursor(positions.next().value as Position) };
}

const failed = (batch: readonly Judged[], end: EarlyEnd): Answered[] =>
  batch.map((judged) => ("faults" in judged ? judged : { line: judged.line, id: judged.event.id, end }));
