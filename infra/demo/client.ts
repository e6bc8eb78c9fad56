/** HTTP as the demo uses it: kept connections, and a patient repetition of what may be repeated. */
import { Agent, type IncomingMessage, request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

export interface Answer {
  readonly status: number;
  readonly header: (name: string) => string | undefined;
  readonly text: string;
}

/** A server that is frozen does not even refuse. */
const ANSWER_LIMIT_MS = 30_000;
/** Longer than any single process needs to come back. */
const PATIENCE_MS = 180_000;
const PAUSE_MS = 250;
const PAUSE_MS_MAX = 5_000;
/** "Not now", in HTTP. */
const PASSING = new Set([429, 502, 503, 504]);

/** What the node answered that no repetition will change. */
class Refused extends Error {}

export class Client {
  readonly #url: string;
  readonly #agent: Agent;
  readonly #headers: Readonly<Record<string, string>>;

  /**
   * @param connections at most so many are open at a time
   * @param token of a key, where the node has keys
   */
  constructor(url: string, connections: number, token?: string) {
    this.#url = url;
    this.#headers = authorization(token);
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  /** One attempt. @throws Error when the connection or the answer is lost */
  once(path: string, body?: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const post = body !== undefined;
      const content = post ? { "content-type": "application/json", "content-length": Buffer.byteLength(body) } : {};
      const headers = { ...this.#headers, ...content };
      const sent = request(`${this.#url}${path}`, { agent: this.#agent, method: post ? "POST" : "GET", headers });
      sent.setTimeout(ANSWER_LIMIT_MS, () => sent.destroy(new Error(`no answer within ${ANSWER_LIMIT_MS} ms`)));
      sent.on("error", reject);
      sent.on("response", (incoming) => void read(incoming).then(resolve, reject));
      sent.end(body);
    });
  }

  /**
   * Repeats until it is answered with 2xx.
   * @param again called before each repetition
   * @throws Refused when the answer is final; Error after 180 s without any
   */
  async insist(path: string, body: string | undefined, signal: AbortSignal, again: () => void): Promise<Answer> {
    const deadline = performance.now() + PATIENCE_MS;
    for (let pauseMs = PAUSE_MS; ; pauseMs = Math.min(PAUSE_MS_MAX, pauseMs * 2)) {
      signal.throwIfAborted();
      let why: unknown;
      let pause = pauseMs;
      try {
        const answer = await this.once(path, body);
        if (answer.status < 300) return answer;
        why = new Refused(`${path.split("?")[0]} answered ${answer.status}: ${reason(answer.text)}${remedy(answer)}`);
        if (!PASSING.has(answer.status)) throw why;
        pause = Math.min(PAUSE_MS_MAX, Number(answer.header("retry-after") ?? 0) * 1_000 || pauseMs);
      } catch (error) {
        if (error instanceof Refused) throw error;
        why = error;
      }
      if (performance.now() > deadline)
        throw new Error(`given up after ${PATIENCE_MS / 1_000} s: ${(why as Error).message}`, { cause: why });
      again();
      await delay(pause, undefined, { signal });
    }
  }

  close(): void {
    this.#agent.destroy();
  }
}

async function read(incoming: IncomingMessage): Promise<Answer> {
  incoming.setEncoding("utf8");
  let text = "";
  for await (const part of incoming) text += part;
  const header = (name: string): string | undefined => [incoming.headers[name]].flat()[0];
  return { status: incoming.statusCode ?? 0, header, text };
}

/** The header that shows a key's token; none without one. */
export const authorization = (token: string | undefined): Readonly<Record<string, string>> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` };

const remedy = ({ status }: Answer): string =>
  status === 401 || status === 403
    ? "\nThe demo wants a key for every client: npm run keys -- --name demo --prefix '' --verbs append,read --file FILE " +
      "adds one to the node's key file (which it reads at its next start); npm run demo -- --token TOKEN uses it."
    : "";

/** A problem's detail, or the answer's beginning. */
export function reason(text: string): string {
  try {
    return String((JSON.parse(text) as { detail?: unknown }).detail ?? text.slice(0, 200));
  } catch {
    return text.slice(0, 200);
  }
}
