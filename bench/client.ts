/** HTTP over kept connections, as thin as Node has it: what is measured is the server. */
import { Agent, type IncomingMessage, request } from "node:http";

export interface Answer {
  readonly status: number;
  readonly text: string;
}

/** A server that is frozen does not even refuse. */
const ANSWER_LIMIT_MS = 30_000;

export class Client {
  readonly #url: string;
  readonly #agent: Agent;

  /** @param connections at most so many are open at a time */
  constructor(url: string, connections: number) {
    this.#url = url;
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  /** @throws Error when the connection or the answer is lost */
  once(path: string, body?: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const post = body !== undefined;
      const headers = post ? { "content-type": "application/json", "content-length": Buffer.byteLength(body) } : {};
      const sent = request(`${this.#url}${path}`, { agent: this.#agent, method: post ? "POST" : "GET", headers });
      sent.setTimeout(ANSWER_LIMIT_MS, () => sent.destroy(new Error(`no answer within ${ANSWER_LIMIT_MS} ms`)));
      sent.on("error", reject);
      sent.on("response", (incoming) => void read(incoming).then(resolve, reject));
      sent.end(body);
    });
  }
}

async function read(incoming: IncomingMessage): Promise<Answer> {
  incoming.setEncoding("utf8");
  let text = "";
  for await (const part of incoming) text += part;
  return { status: incoming.statusCode ?? 0, text };
}
