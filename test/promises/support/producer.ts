/** A producer over HTTP that writes down what it tried and what it was told. */
import { decodeCursor } from "#lib/cursor.ts";
import { until } from "../../support/until.ts";
import { contentOf, type NewEvent } from "./content.ts";
import { type Append, type History, now, type Outcome } from "./history.ts";

/** Longer than any answer that the contract allows; a frozen process is left then. */
const GIVE_UP_MS = 20_000;

export interface Answered {
  readonly outcome: Outcome;
  /** 0: no answer. */
  readonly status: number;
  /** By event, when acknowledged. */
  readonly cursors: readonly string[];
  readonly body: unknown;
}

/** Where to, and as whom. A `Role` of the system under test is one. */
export interface Node {
  readonly name: string;
  readonly url: string;
}

export class Producer {
  /** Requests that were sent and not answered yet. */
  inFlight = 0;
  readonly #history: History;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(history: History, token?: string) {
    this.#history = history;
    this.#headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  }

  /** One request: one event as an object, several as an array. Never throws for what the network does. */
  async append(node: Node, events: readonly NewEvent[]): Promise<Answered> {
    const body = JSON.stringify(events.length === 1 ? events[0] : events);
    const tInv = now();
    this.inFlight++;
    const answered = await this.#post(node.url, body);
    this.inFlight--;
    const tRet = now();
    const request = this.#history.newId();
    const entries = events.map((event, index): Append => {
      const position = answered.outcome === "ok" ? decodeCursor(answered.cursors[index] ?? "") : null;
      const { clientId, id } = event;
      const type = answered.outcome;
      const content = contentOf(event);
      return { f: "append", node: node.name, request, index, clientId, id, content, tInv, tRet, type, position };
    });
    this.#history.add(...entries);
    return answered;
  }

  /** Sends again, with the same ids, until acknowledged; `nodes` in turn. @throws when told that the events are wrong */
  async deliver(nodes: Node | readonly Node[], events: readonly NewEvent[], limitMs = 60_000): Promise<Answered> {
    const all = [nodes].flat();
    let attempt = 0;
    let last: Answered | undefined;
    const done = await until(
      `an acknowledgement of ${events[0]?.id} and ${events.length - 1} more`,
      async () => {
        const node = all[attempt++ % all.length];
        if (node === undefined) throw new Error("no node to send to");
        last = await this.append(node, events);
        const settled = last.outcome === "ok" || (last.status >= 400 && last.status < 500);
        return settled && last;
      },
      { limitMs },
    );
    if (done.outcome !== "ok") throw new Error(`refused with ${done.status}: ${JSON.stringify(done.body)}`);
    return done;
  }

  async #post(url: string, body: string): Promise<Answered> {
    try {
      const signal = AbortSignal.timeout(GIVE_UP_MS);
      const response = await fetch(`${url}/api/v1/events`, { method: "POST", headers: this.#headers, body, signal });
      const text = await response.text();
      const answer = text === "" ? null : (JSON.parse(text) as unknown);
      if (response.status === 201) return { outcome: "ok", status: 201, cursors: cursorsOf(answer), body: answer };
      const outcome = response.status >= 400 && response.status < 500 ? "fail" : "info";
      return { outcome, status: response.status, cursors: [], body: answer };
    } catch (error) {
      return { outcome: wasRefused(error) ? "fail" : "info", status: 0, cursors: [], body: String(error) };
    }
  }
}

function cursorsOf(answer: unknown): string[] {
  const { cursor, events } = answer as { cursor?: string; events?: { cursor: string }[] };
  return events ? events.map((one) => one.cursor) : [cursor ?? ""];
}

const wasRefused = (error: unknown): boolean => (error as { cause?: { code?: string } }).cause?.code === "ECONNREFUSED";
