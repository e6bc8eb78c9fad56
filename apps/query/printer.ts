/** Frames as bytes. The followers of one client are sent the same ones one after the other: those are printed once. */
import { cursorOf, type Frame } from "./live.ts";
import type { ClientOrder } from "./places.ts";

/** An `events` frame in both forms. */
interface Printed {
  readonly clientId: string;
  readonly events: readonly string[];
  readonly json: Buffer;
  sse: Buffer | null;
}

export class Printer {
  #last: Printed | null = null;

  /** As a WebSocket's message. */
  json(order: ClientOrder, frame: Frame): Buffer {
    if (frame.type === "events") return this.#events(order, frame.events).json;
    return Buffer.from(markJson(order, frame));
  }

  /** As a server-sent event, whose id is the cursor to resume from. */
  sse(order: ClientOrder, frame: Frame): Buffer {
    if (frame.type !== "events")
      return Buffer.from(sseText(frame.type, order.cursor(frame.place), markJson(order, frame)));
    const printed = this.#events(order, frame.events);
    printed.sse ??= Buffer.concat([
      Buffer.from(`event: events\nid: ${cursorOf(frame.events.at(-1) ?? "")}\ndata: `),
      printed.json,
      Buffer.from("\n\n"),
    ]);
    return printed.sse;
  }

  #events({ clientId }: ClientOrder, events: readonly string[]): Printed {
    const last = this.#last;
    if (last !== null && last.clientId === clientId && isSame(last.events, events)) return last;
    const text = `{"type":"events","clientId":${JSON.stringify(clientId)},"events":[${events.join(",")}]}`;
    this.#last = { clientId, events, json: Buffer.from(text), sse: null };
    return this.#last;
  }
}

const markJson = (order: ClientOrder, { type, place }: Exclude<Frame, { type: "events" }>): string =>
  `{"type":"${type}","clientId":${JSON.stringify(order.clientId)},"cursor":"${order.cursor(place)}"}`;

/** @param data one line, as all JSON of ours. @param id null: the cursor to resume from stays */
export const sseText = (event: string, id: string | null, data: string): string =>
  `event: ${event}\n${id === null ? "" : `id: ${id}\n`}data: ${data}\n\n`;

/** Followers get the tail's own texts: what is the same text is mostly the same object, which is told at once. */
function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((text, at) => text === other[at]);
}
