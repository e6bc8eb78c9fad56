/** A reader of pages that writes down what it was shown. */
import { until } from "../../support/until.ts";
import { eventTexts, placeOf, seen } from "./content.ts";
import { type History, now, type Page } from "./history.ts";
import type { Node } from "./producer.ts";

export interface Wanted {
  readonly clientId: string;
  /** As given by Spillway, or "0". */
  readonly after?: string;
  readonly before?: string;
  readonly limit?: number;
  readonly order?: "asc" | "desc";
  readonly type?: readonly string[];
  readonly view?: "merged" | "saved" | "unsaved";
  readonly consistency?: "latest" | "known";
  readonly atLeast?: string;
  readonly timeoutMs?: number;
}

/** `page` and `texts` only with status 200. */
export interface Shown {
  readonly status: number;
  readonly page: Page | null;
  /** The events as they were printed. */
  readonly texts: readonly string[];
  readonly next: string;
  readonly savedThrough: string;
  readonly body: string;
}

const GIVE_UP_MS = 40_000;
const WALK_PAGES_MAX = 100_000;

export class Reader {
  readonly #history: History;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(history: History, token?: string) {
    this.#history = history;
    this.#headers = token ? { authorization: `Bearer ${token}` } : {};
  }

  /** One page. Status 0: no answer. */
  async page(node: Node, wanted: Wanted, walk = this.#history.newId()): Promise<Shown> {
    const tInv = now();
    try {
      const signal = AbortSignal.timeout(GIVE_UP_MS);
      const response = await fetch(pageUrl(node, wanted), { headers: this.#headers, signal });
      const body = await response.text();
      const none = { status: response.status, page: null, texts: [], next: "", savedThrough: "", body };
      if (response.status !== 200) return none;
      const savedThrough = response.headers.get("spillway-saved-through") ?? "";
      return this.#shown(node, wanted, { walk, tInv, tRet: now(), body, savedThrough });
    } catch (error) {
      if (!(error instanceof TypeError || (error as Error).name === "TimeoutError")) throw error;
      return { status: 0, page: null, texts: [], next: "", savedThrough: "", body: String(error) };
    }
  }

  /** The page, once it is answered 200: what cannot be told truthfully yet (503) and broken connections are asked again. */
  async patientPage(
    node: Node,
    wanted: Wanted,
    { walk = this.#history.newId(), limitMs = 60_000 } = {},
  ): Promise<Shown> {
    const shown = await until(
      `a page of ${wanted.clientId} from ${node.name}`,
      async () => {
        const answer = await this.page(node, wanted, walk);
        if (answer.status >= 500 || answer.status === 0) throw new Error(`answered ${answer.status}: ${answer.body}`);
        return answer;
      },
      { limitMs },
    );
    if (shown.status !== 200) throw new Error(`refused with ${shown.status}: ${shown.body}`);
    return shown;
  }

  /** All pages of a client, one after the other, joined in reading order. Waits out 503. */
  async walk(node: Node, wanted: Wanted, limitMs?: number): Promise<{ pages: Page[]; texts: string[] }> {
    const walk = this.#history.newId();
    const pages: Page[] = [];
    const texts: string[] = [];
    let at: Wanted = wanted;
    for (let i = 0; i < WALK_PAGES_MAX; i++) {
      const shown = await this.patientPage(node, at, { walk, ...(limitMs && { limitMs }) });
      if (shown.page === null) throw new Error("a page without a page");
      pages.push(shown.page);
      texts.push(...shown.texts);
      if (!shown.page.hasMore) return { pages, texts };
      at = { ...wanted, ...(wanted.order === "desc" ? { before: shown.next } : { after: shown.next }) };
    }
    throw new Error(`the walk of ${wanted.clientId} does not end`);
  }

  #shown(
    node: Node,
    wanted: Wanted,
    got: { walk: number; tInv: bigint; tRet: bigint; body: string; savedThrough: string },
  ): Shown {
    const texts = eventTexts(got.body);
    const { next, hasMore } = JSON.parse(got.body) as { next: string; hasMore: boolean };
    const { walk, tInv, tRet } = got;
    const page: Page = {
      f: "page",
      node: node.name,
      walk,
      clientId: wanted.clientId,
      order: wanted.order ?? "asc",
      after: offsetOf(wanted.after),
      before: offsetOf(wanted.before),
      types: wanted.type ?? null,
      view: wanted.view ?? "merged",
      consistency: wanted.consistency ?? "latest",
      atLeast: offsetOf(wanted.atLeast),
      tInv,
      tRet,
      events: texts.map((text) => seen(text, tRet)),
      next: offsetOf(next),
      hasMore,
      savedThrough: offsetOf(got.savedThrough),
    };
    this.#history.add(page);
    return { status: 200, page, texts, next, savedThrough: got.savedThrough, body: got.body };
  }
}

/** The address of a page. */
function pageUrl(node: Pick<Node, "url">, wanted: Wanted): string {
  const url = new URL("/api/v1/events", node.url);
  for (const [name, value] of Object.entries(wanted))
    for (const one of [value as string | number | readonly string[]].flat()) url.searchParams.append(name, String(one));
  return url.href;
}

/** "0" and nothing are null. @throws for text that is no cursor */
export function offsetOf(cursor: string | undefined): bigint | null {
  if (cursor === undefined || cursor === "0" || cursor === "") return null;
  const position = placeOf(cursor);
  if (position === null) throw new Error(`not a cursor: ${cursor}`);
  return position.offset;
}
