/** The dead letters of a node over HTTP. */
import { setTimeout as delay } from "node:timers/promises";

/** As the list shows it. */
export interface Letter {
  readonly position: string;
  readonly reason: string;
  readonly detail: string;
  readonly clientId: string | null;
  readonly id: string | null;
  readonly setAsideAt: string;
  readonly redriven: { readonly at: string; readonly cursor: string } | null;
}

export interface LetterPage {
  readonly deadLetters: readonly Letter[];
  readonly next: string;
  readonly hasMore: boolean;
}

export interface Refusal {
  readonly position: string;
  readonly reason: string;
  readonly detail: string;
}

export interface Outcome {
  readonly redriven: readonly { readonly position: string; readonly cursor: string }[];
  readonly refused: readonly Refusal[];
  readonly next: string;
  readonly hasMore: boolean;
}

/** Parameters by their names in the address. */
export type Filters = Readonly<Record<string, string>>;

const ANSWER_LIMIT_MS = 40_000;
/** "Not now" is asked again so often, a few seconds apart; all that is asked for here may be repeated. */
const ATTEMPTS = 6;
const PAUSE_MS_MAX = 5_000;

export class Api {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  /** @param token of a key, where the node has keys */
  constructor(url: string, token: string | undefined) {
    this.#url = url.replace(/\/+$/, "");
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  list(filters: Filters): Promise<LetterPage> {
    return this.#ask(`?${new URLSearchParams(filters)}`) as Promise<LetterPage>;
  }

  show(position: string): Promise<Readonly<Record<string, unknown>>> {
    return this.#ask(`/${encodeURIComponent(position)}`) as Promise<Readonly<Record<string, unknown>>>;
  }

  redrive(order: object): Promise<Outcome> {
    return this.#ask("/redrive", JSON.stringify(order)) as Promise<Outcome>;
  }

  /** @throws Error in words for a person */
  async #ask(path: string, body?: string): Promise<unknown> {
    const content = body === undefined ? {} : { "content-type": "application/json" };
    const init = { method: body === undefined ? "GET" : "POST", headers: { ...this.#headers, ...content } };
    for (let attempt = 1; ; attempt++) {
      const answer = await this.#once(path, { ...init, ...(body !== undefined && { body }) });
      const text = await answer.text();
      if (answer.ok) return JSON.parse(text);
      const again = answer.status === 503 && attempt < ATTEMPTS;
      if (!again) throw new Error(`${this.#url} answered ${answer.status}: ${reason(text)}${remedy(answer.status)}`);
      await delay(Math.min(PAUSE_MS_MAX, Number(answer.headers.get("retry-after") ?? 1) * 1_000));
    }
  }

  async #once(path: string, init: RequestInit): Promise<Response> {
    try {
      const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
      return await fetch(`${this.#url}/api/v1/dead-letters${path}`, { ...init, signal });
    } catch (cause) {
      const { message, cause: why } = cause as Error;
      const told = why instanceof Error ? why.message : message;
      throw new Error(
        `${this.#url} does not answer (${told}): is npm start running there? Another is named with --url.`,
        {
          cause,
        },
      );
    }
  }
}

const remedy = (status: number): string =>
  status === 401 || status === 403
    ? "\nnpm run keys -- --name NAME --prefix '' --verbs operate --file FILE makes a key for every client's dead letters; --token TOKEN shows it."
    : "";

/** A problem's detail, or the answer's beginning. */
function reason(text: string): string {
  try {
    return String((JSON.parse(text) as { detail?: unknown }).detail ?? text.slice(0, 200));
  } catch {
    return text.slice(0, 200);
  }
}
