/** A producer over HTTP that writes down what it tried and what it was told. */
import { until } from "../../support/until.ts";
import { contentOf, type NewEvent, placeOf } from "./content.ts";
import { type Append, type History, now, type Outcome } from "./history.ts";

/** Longer than any answer that the contract allows; a frozen process is left then. */
const GIVE_UP_MS = 20_000;

export interface Answered {
  readonly outcome: Outcome;
  /** 0: no answer. */
  readonly status: number;
  /** By event; of lines, those that were not acknowledged are empty. */
  readonly cursors: readonly string[];
  /** By event, of lines. */
  readonly outcomes?: readonly Outcome[];
  readonly body: unknown;
}

/** As one JSON body, which is taken as a whole or not at all, or as a stream of lines that are told one by one. */
export type Form = "json" | "lines";

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
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  /**
   * One request: one event as an object, several as an array, or all as lines. Never throws for what the network does.
   * @param told with lines: how many were answered so far; true cuts the connection
   */
  async append(
    node: Node,
    events: readonly NewEvent[],
    form: Form = "json",
    told: (lines: number) => boolean = () => false,
  ): Promise<Answered> {
    const tInv = now();
    this.inFlight++;
    const answered = form === "json" ? await this.#post(node.url, events) : await this.#stream(node.url, events, told);
    this.inFlight--;
    const tRet = now();
    const request = this.#history.newId();
    const entries = events.map((event, index): Append => {
      const type = answered.outcomes?.[index] ?? answered.outcome;
      const position = type === "ok" ? placeOf(answered.cursors[index] ?? "") : null;
      const { clientId, id } = event;
      const content = contentOf(event);
      return { f: "append", node: node.name, request, index, clientId, id, content, tInv, tRet, type, position };
    });
    this.#history.add(...entries);
    return answered;
  }

  /** Sends again, with the same ids, until acknowledged; `nodes` in turn. @throws when told that the events are wrong */
  async deliver(
    nodes: Node | readonly Node[],
    events: readonly NewEvent[],
    limitMs = 60_000,
    form: Form = "json",
  ): Promise<Answered> {
    const all = [nodes].flat();
    let attempt = 0;
    let last: Answered | undefined;
    const done = await until(
      `an acknowledgement of ${events[0]?.id} and ${events.length - 1} more`,
      async () => {
        const node = all[attempt++ % all.length];
        if (node === undefined) throw new Error("no node to send to");
        last = await this.append(node, events, form);
        const settled = last.outcome === "ok" || (last.status >= 400 && last.status < 500);
        return settled && last;
      },
      { limitMs },
    );
    if (done.outcome !== "ok") throw new Error(`refused with ${done.status}: ${JSON.stringify(done.body)}`);
    return done;
  }

  async #post(url: string, events: readonly NewEvent[]): Promise<Answered> {
    try {
      const response = await this.#send(url, JSON.stringify(events.length === 1 ? events[0] : events), {
        "content-type": "application/json",
      });
      const text = await response.text();
      const answer = text === "" ? null : (JSON.parse(text) as unknown);
      if (response.status === 201) return { outcome: "ok", status: 201, cursors: cursorsOf(answer), body: answer };
      return { outcome: outcomeOf(response.status), status: response.status, cursors: [], body: answer };
    } catch (error) {
      return { outcome: wasRefused(error) ? "fail" : "info", status: 0, cursors: [], body: String(error) };
    }
  }

  async #stream(url: string, events: readonly NewEvent[], told: (lines: number) => boolean): Promise<Answered> {
    const outcomes = events.map((): Outcome => "info");
    const cursors = events.map(() => "");
    let status = 0;
    const answer = (): Answered => {
      const outcome = (["info", "fail"] as const).find((one) => outcomes.includes(one)) ?? "ok";
      return {
        outcome,
        outcomes,
        status: outcome === "fail" && status === 200 ? 400 : status,
        cursors,
        body: outcomes,
      };
    };
    try {
      const body = events.map((event) => `${JSON.stringify(event)}\n`).join("");
      const response = await this.#send(url, body, {
        "content-type": "application/x-ndjson",
        accept: "application/x-ndjson",
      });
      status = response.status;
      if (status !== 200)
        return { ...answer(), outcome: outcomeOf(status), outcomes: outcomes.fill(outcomeOf(status)) };
      let lines = 0;
      for await (const one of linesOf(response)) {
        const { line, cursor, problem } = JSON.parse(one) as {
          line?: number;
          cursor?: string;
          problem?: { status: number };
        };
        if (line === undefined) break;
        outcomes[line - 1] = cursor === undefined ? outcomeOf(problem?.status ?? 0) : "ok";
        cursors[line - 1] = cursor ?? "";
        if (told(++lines)) break;
      }
    } catch (error) {
      if (wasRefused(error)) outcomes.fill("fail");
    }
    return answer();
  }

  #send(url: string, body: string, headers: Readonly<Record<string, string>>): Promise<Response> {
    const signal = AbortSignal.timeout(GIVE_UP_MS);
    return fetch(`${url}/api/v1/events`, { method: "POST", headers: { ...this.#headers, ...headers }, body, signal });
  }
}

/** Whole ones only, as they come. Who stops reading cuts the connection. */
async function* linesOf(response: Response): AsyncGenerator<string> {
  let rest = "";
  for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const lines = `${rest}${text}`.split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

/** Surely not stored is only what was refused for what it is. */
const outcomeOf = (status: number): Outcome => (status >= 400 && status < 500 ? "fail" : "info");

function cursorsOf(answer: unknown): string[] {
  const { cursor, events } = answer as { cursor?: string; events?: { cursor: string }[] };
  return events ? events.map((one) => one.cursor) : [cursor ?? ""];
}

const wasRefused = (error: unknown): boolean => (error as { cause?: { code?: string } }).cause?.code === "ECONNREFUSED";
