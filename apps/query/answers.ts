/** Pages on their way to their readers: a reader that takes none of its page holds the node's memory all the while. */
import type { FastifyReply } from "fastify";
import type { Clock } from "#lib/clock.ts";
import { BEGINNING } from "#lib/cursor.ts";
import { ProblemError, problem } from "#lib/problem.ts";
import { Room } from "#lib/room.ts";
import type { ClientOrder } from "./places.ts";
import type { Page } from "./read.ts";

/** Of all pages that are not taken yet: 16 of the largest, 8 MiB, or 6,000 of a hundred usual events. */
const ANSWERS_BYTES_MAX = 128 * 1024 * 1024;

export class Answers {
  readonly room: Room;

  constructor(clock: Clock) {
    this.room = new Room(ANSWERS_BYTES_MAX, clock);
  }

  /**
   * The page's body. It counts until the reader has taken it or is gone; a reader that is slow loses its connection when others
   * need the room.
   * @throws ProblemError overloaded
   */
  print({ events, next, hasMore }: Page, order: ClientOrder, reply: FastifyReply): Buffer {
    const end = `],"next":"${order.cursor(next)}","hasMore":${hasMore}}`;
    const bytes = events.reduce((sum, event) => sum + Buffer.byteLength(event) + 1, BEGIN.length + end.length);
    const { raw } = reply;
    const hold = this.room.take(bytes, () => reply.request.raw.socket.destroy());
    if (hold === null)
      throw new ProblemError(
        problem(
          "overloaded",
          `Pages of ${this.room.bytes} bytes wait for their readers on this node, of ${this.room.bytesMax} allowed: try again in a moment, or another node.`,
        ),
      );
    if (raw.destroyed) hold.release();
    else raw.once("close", hold.release);
    // As bytes: a string of this size would stay in memory next to the bytes that are made of it.
    return Buffer.from(`${BEGIN}${events.join(",")}${end}`);
  }
}

/** What a header tells; the body is the same however much is saved. */
export const savedThrough = (page: Page, order: ClientOrder): { readonly "spillway-saved-through": string } => ({
  "spillway-saved-through": page.savedThrough === null ? BEGINNING : order.cursor(page.savedThrough),
});

/** What an answer depends on besides its address: another key's answer is none of this caller's. */
export const VARY = "accept, authorization";

const BEGIN = '{"events":[';
