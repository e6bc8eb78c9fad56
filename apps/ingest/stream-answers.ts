/** What the sender of a stream is told: everything at its end, or line by line while it comes. */
import type { FastifyReply } from "fastify";
import { PROBLEM_TYPE } from "#lib/faults.ts";
import { LineAnswer } from "#lib/ndjson.ts";
import { type Problem, type ProblemCode, problem } from "#lib/problem.ts";
import type { Room } from "#lib/room.ts";
import type { EventFault } from "#lib/valid.ts";
import { PROBLEMS_LISTED_MAX } from "./accept.ts";
import { lineProblem } from "./judge.ts";

/** Why a stream ended before its sender ended it. */
export interface EarlyEnd {
  readonly code: ProblemCode;
  /** A sentence. */
  readonly why: string;
  /** Whether anything may be stored that is not acknowledged. */
  readonly stored: "no" | "unknown";
  readonly retryAfterSeconds: number;
}

/** What became of a line: acknowledged, refused, or neither, since the stream ended there. */
export type Answered =
  | { readonly line: number; readonly id: string; readonly cursor: string }
  | { readonly line: number; readonly faults: readonly EventFault[] }
  | { readonly line: number; readonly id: string; readonly end: EarlyEnd };

export interface StreamAnswer {
  /** In the order of their lines. Resolves when the sender can be told more, or is gone. */
  tell(lines: readonly Answered[]): Promise<void>;
  /**
   * The last word. After an early one the connection is the caller's to close.
   * @param from the first line that is neither acknowledged nor refused
   */
  end(early: EarlyEnd | null, from: number): void;
  /** Everything was written that will be. */
  close(): void;
}

/** One JSON object at the end: counts, and the first faults. */
export class Summary implements StreamAnswer {
  readonly #reply: FastifyReply;
  readonly #problems: object[] = [];
  readonly #left: { line: number; id: string }[] = [];
  #accepted = 0;
  #rejected = 0;

  constructor(reply: FastifyReply) {
    reply.hijack();
    this.#reply = reply;
  }

  tell(lines: readonly Answered[]): Promise<void> {
    for (const answered of lines) {
      if ("cursor" in answered) this.#accepted += 1;
      else if ("end" in answered) this.#left.push({ line: answered.line, id: answered.id });
      else this.#reject(answered.line, answered.faults);
    }
    return Promise.resolve();
  }

  #reject(line: number, faults: readonly EventFault[]): void {
    this.#rejected += 1;
    const room = PROBLEMS_LISTED_MAX - this.#problems.length;
    this.#problems.push(...faults.slice(0, room).map((fault) => ({ line, ...fault })));
  }

  end(early: EarlyEnd | null, from: number): void {
    const counts = { accepted: this.#accepted, rejected: this.#rejected, problems: this.#problems };
    if (early === null) {
      this.#send(200, "application/json", counts, {});
      return;
    }
    const left = { lines: this.#left.map(({ line }) => line), ids: this.#left.map(({ id }) => id) };
    const told = endProblem(early, from, { ...left, ...counts });
    const headers = { connection: "close", ...(told.status === 503 && { "retry-after": early.retryAfterSeconds }) };
    this.#send(told.status, PROBLEM_TYPE, told, headers);
  }

  /** `close` ends it: before, an early answer would close the connection under its sender. */
  #send(status: number, type: string, body: object, headers: Record<string, string | number>): void {
    const { raw } = this.#reply;
    const bytes = Buffer.from(JSON.stringify(body));
    raw.writeHead(status, { "content-type": type, "content-length": bytes.length, ...headers });
    raw.write(bytes);
  }

  close(): void {
    this.#reply.raw.end();
  }
}

/** A line for each line, as soon as it is known. */
export class LineByLine implements StreamAnswer {
  readonly #answer: LineAnswer;

  constructor(reply: FastifyReply, room: Room) {
    this.#answer = new LineAnswer(reply, room);
  }

  async tell(lines: readonly Answered[]): Promise<void> {
    // Without room it cannot be told: what is not answered is sent again.
    if (!(await this.#answer.write(lines.map(printed).join("")))) this.#answer.cut();
  }

  end(early: EarlyEnd | null, from: number): void {
    if (early !== null) this.#answer.last(`${JSON.stringify({ problem: endProblem(early, from) })}\n`);
  }

  close(): void {
    this.#answer.end();
  }
}

function printed(answered: Answered): string {
  const { line } = answered;
  if ("cursor" in answered)
    return `{"line":${line},"id":${JSON.stringify(answered.id)},"cursor":"${answered.cursor}"}\n`;
  if ("faults" in answered) return `${JSON.stringify({ line, problem: lineProblem(answered.faults) })}\n`;
  const { id, end } = answered;
  const detail = `${end.why} Send it again with the id given here, and it will be there once.`;
  return `${JSON.stringify({ line, id, problem: problem(end.code, detail, { stored: end.stored }) })}\n`;
}

function endProblem({ code, why, stored }: EarlyEnd, from: number, more: object = {}): Problem {
  const detail = `${why} Every line before line ${from} is acknowledged or refused: send the others again.`;
  return problem(code, detail, { stored, line: from, ...more });
}
