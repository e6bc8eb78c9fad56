/** Request bodies, counted while they come. */
import type { IncomingMessage } from "node:http";
import type { FastifyRequest } from "fastify";
import { type Problem, ProblemError, problem } from "./problem.ts";
import type { Hold, Room } from "./room.ts";

type Done = (error: Error | null, body?: Buffer) => void;

/** What a chunk costs besides its bytes: bodies sent in chunks of one byte took 420 bytes for each. */
const CHUNK_BYTES = 512;
/** More become one: small ones that live for long are collected late. 4 MiB as Node reads them are 64. */
const CHUNKS_MAX = 256;

/** A content type's parser for Fastify: the bytes as they were sent. */
export const bodyParser =
  (room: Room, bytesMax: number) =>
  (request: FastifyRequest, payload: IncomingMessage, done: Done): void => {
    const declared = declaredBytes(request);
    if (declared > bytesMax) done(new ProblemError(tooLarge(bytesMax)));
    else new Receiving(payload, { declared, bytesMax, room, done });
  };

/** What content-length says; 0 without one. */
export const declaredBytes = ({ headers }: FastifyRequest): number => Number(headers["content-length"] ?? 0);

/** For a body that is not read, or not kept. */
export const noRoom = ({ bytes, bytesMax }: Room): Problem =>
  problem("overloaded", `Bodies of ${bytes} bytes are coming in, of ${bytesMax} allowed: try again in a moment.`, {
    stored: "no",
  });

const tooLarge = (bytesMax: number): Problem => problem("body-too-large", `Send at most ${bytesMax} bytes at a time.`);

const GAVE_WAY = problem(
  "overloaded",
  "The body was slow, and others needed its room: try again, in smaller parts if you can.",
  { stored: "no" },
);
const CUT = problem("malformed-request", "The connection ended before the body did.");

interface Parts {
  /** 0: it does not say. */
  readonly declared: number;
  readonly bytesMax: number;
  readonly room: Room;
  readonly done: Done;
}

class Receiving {
  readonly #payload: IncomingMessage;
  readonly #parts: Parts;
  #chunks: Buffer[] = [];
  #length = 0;
  #hold: Hold | null = null;
  /** Read to its end all the same: a connection that is closed before may lose the answer. */
  #refused = false;
  #settled = false;

  constructor(payload: IncomingMessage, parts: Parts) {
    this.#payload = payload;
    this.#parts = parts;
    payload.on("data", this.#take).on("end", this.#end).on("error", this.#cut);
    payload.resume();
  }

  readonly #take = (chunk: Buffer): void => {
    const { bytesMax, declared } = this.#parts;
    this.#length += chunk.length;
    if (this.#length > bytesMax) this.#settle(new ProblemError(tooLarge(bytesMax)));
    else if (this.#refused) return;
    // In one piece, as most are: it is handed on in this turn, and needs no room.
    else if (chunk.length === declared || this.#grow(chunk.length + CHUNK_BYTES)) this.#keep(chunk);
    else if (!this.#settled) this.#refuse();
  };

  readonly #end = (): void => this.#settle(this.#refused ? new ProblemError(noRoom(this.#parts.room)) : null);

  readonly #cut = (cause: Error): void => this.#settle(new ProblemError(CUT, { cause }));

  #keep(chunk: Buffer): void {
    this.#chunks.push(chunk);
    if (this.#chunks.length > CHUNKS_MAX) this.#chunks = [Buffer.concat(this.#chunks)];
  }

  #grow(bytes: number): boolean {
    if (this.#hold !== null) return this.#hold.grow(bytes);
    this.#hold = this.#parts.room.take(bytes, () => this.#settle(new ProblemError(GAVE_WAY)));
    return this.#hold !== null;
  }

  #refuse(): void {
    this.#refused = true;
    this.#drop();
  }

  #drop(): void {
    this.#hold?.release();
    this.#chunks = [];
  }

  #settle(error: Error | null): void {
    this.#settled = true;
    this.#payload.off("data", this.#take).off("end", this.#end).off("error", this.#cut);
    const chunks = this.#chunks;
    this.#drop();
    if (error !== null) this.#parts.done(error);
    else this.#parts.done(null, chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, this.#length));
  }
}
