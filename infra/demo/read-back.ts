/** Reads clients page by page: where they end, what they hold, how far they are saved. */
import { setTimeout as delay } from "node:timers/promises";
import type { Page, SpillwayClient } from "../../clients/typescript/src/index.ts";
import { add, Comparison, type Findings, noFindings, type Sent } from "./compare.ts";

/** Before the first event of all. */
const BEGINNING = "0";
const PARALLEL = 8;
const LOOK_MS = 500;

export interface ReadOrder {
  readonly client: SpillwayClient;
  readonly run: string;
  readonly signal: AbortSignal;
  /** By clientId: its events in the order of sending. */
  readonly sent: ReadonlyMap<string, readonly Sent[]>;
  /** By clientId: the cursor before the run's first event. */
  readonly starts: ReadonlyMap<string, string>;
}

export interface ReadFigures {
  readonly findings: Findings;
  readonly examples: readonly string[];
  readonly saved: number;
  readonly unsaved: number;
}

/** The last cursor of every client that has one, "0" for the others. */
export async function readStarts(
  client: SpillwayClient,
  clientIds: Iterable<string>,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const starts = new Map<string, string>();
  await inParallel(clientIds, async (clientId) => {
    const { events } = await newest(client, clientId, signal);
    starts.set(clientId, events[0]?.cursor ?? BEGINNING);
  });
  return starts;
}

/** Compares every client with what was sent, one page in memory for each that is being read. */
export async function readBack(order: ReadOrder, progress: (events: number) => void): Promise<ReadFigures> {
  const { client, run, signal, sent, starts } = order;
  const findings = noFindings();
  const examples: string[] = [];
  const counts = { saved: 0, unsaved: 0 };
  await inParallel(sent.keys(), async (clientId) => {
    const comparison = new Comparison(run, sent.get(clientId) ?? []);
    const after = starts.get(clientId) ?? BEGINNING;
    for await (const { events, savedThrough } of client.pages(clientId, { after, signal })) {
      const own = events.filter((event) => comparison.take(event));
      const saved = own.filter(({ cursor }) => cursor <= savedThrough).length;
      counts.saved += saved;
      counts.unsaved += own.length - saved;
      progress(counts.saved + counts.unsaved);
    }
    add(findings, comparison.finish());
    examples.push(...comparison.examples);
  });
  return { findings, examples, ...counts };
}

/** How patient the wait for the sink is, and who hears of it. */
export interface SavedWait {
  /** Without any progress. */
  readonly limitMs: number;
  /** Without any progress; `stands` is called once then. */
  readonly hintMs: number;
  progress(clients: number): void;
  stands(): void;
}

/**
 * Waits until everything that was acknowledged is saved.
 * @throws Error when saving stands still for too long
 */
export async function allSaved({ client, sent, signal }: ReadOrder, wait: SavedWait): Promise<void> {
  const { limitMs, hintMs } = wait;
  const waiting = new Set(sent.keys());
  let progressed = performance.now();
  let told = false;
  while (waiting.size > 0) {
    const before = waiting.size;
    await inParallel([...waiting], async (clientId) => {
      const last = sent.get(clientId)?.at(-1)?.cursor ?? BEGINNING;
      const { savedThrough } = await newest(client, clientId, signal);
      if (savedThrough >= last) waiting.delete(clientId);
    });
    wait.progress(sent.size - waiting.size);
    if (waiting.size < before) progressed = performance.now();
    const stoodMs = performance.now() - progressed;
    if (stoodMs > limitMs)
      throw new Error(`nothing was saved for ${limitMs / 1_000} s, and ${waiting.size} airports wait`);
    if (stoodMs >= hintMs && !told) {
      told = true;
      wait.stands();
    }
    if (waiting.size > 0) await delay(LOOK_MS, undefined, { signal });
  }
}

/** The page with a client's last event. */
async function newest(client: SpillwayClient, clientId: string, signal: AbortSignal): Promise<Page> {
  const { value } = await client.pages(clientId, { order: "desc", limit: 1, signal }).next();
  if (value === undefined) throw new Error(`${clientId} has no page`);
  return value;
}

/** A few at a time; the first failure ends all. */
async function inParallel<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const rest = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = rest.next(); !next.done; next = rest.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
