/** Answers of lines (application/x-ndjson) that are written while they come about, no faster than they are read. */
import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";
import type { Room } from "./room.ts";

export const NDJSON = "application/x-ndjson";

export class LineAnswer {
  readonly #raw: ServerResponse;
  readonly #room: Room;

  /** Sends the status 200 at once. @param room where the lines count that the reader has not taken */
  constructor(reply: FastifyReply, room: Room, headers: OutgoingHttpHeaders = {}) {
    reply.hijack();
    this.#raw = reply.raw;
    this.#room = room;
    this.#raw.writeHead(200, { "content-type": NDJSON, ...headers });
    this.#raw.flushHeaders();
  }

  /** Whether nobody reads any more. */
  get gone(): boolean {
    return this.#raw.destroyed;
  }

  /**
   * Resolves when the connection has taken the lines, or is gone. A reader that is slow loses its connection when others need
   * the room.
   * @param lines with their ends; none: what is told next takes time, and the connection is not idle
   * @returns false: there was no room, and nothing was written
   */
  async write(lines: string): Promise<boolean> {
    if (this.gone) return true;
    if (lines === "") {
      this.#stillAtWork();
      return true;
    }
    // As bytes: a string of this size would stay in memory next to the bytes that are made of it.
    const bytes = Buffer.from(lines);
    const hold = this.#room.take(bytes.length, () => this.cut());
    if (hold === null) return false;
    if (!this.#raw.write(bytes)) await this.#taken();
    hold.release();
    return true;
  }

  /** Resolves at once: nothing comes after it. */
  last(line: string): void {
    if (!this.gone) this.#raw.write(line);
  }

  end(): void {
    this.#raw.end();
  }

  /** Without a word: an answer that lacks its end is not complete. */
  cut(): void {
    this.#raw.destroy();
  }

  /** The time without a byte begins anew. */
  #stillAtWork(): void {
    const { socket } = this.#raw;
    socket?.setTimeout(socket.timeout ?? 0);
  }

  #taken(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#raw.once("drain", resolve).once("close", resolve);
    return promise.finally(() => this.#raw.off("drain", resolve).off("close", resolve));
  }
}
