/**
 * Sends events at a rate over several lanes. A client's events all go through one lane, which sends the next only when the
 * last was acknowledged: so their order on the log is the order here, whatever must be sent again.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Acknowledged, SpillwayClient } from "../../clients/typescript/src/index.ts";
import type { Sent } from "./compare.ts";

export interface Target {
  readonly url: string;
  readonly token: string | undefined;
  /** How long what cannot be done yet is tried again. */
  readonly timeoutMs: number;
}

export interface SendOrder {
  /** Where to, and the token of a key where there are keys. */
  readonly target: Target;
  /** In the order of sending. */
  readonly events: readonly Sent[];
  /** Events a second. */
  readonly rate: number;
  readonly lanes: number;
  readonly signal: AbortSignal;
  /** Called after every acknowledgement. */
  progress(acknowledged: number, resends: number): void;
}

export interface SendFigures {
  readonly seconds: number;
  /** From handing a request over until it was acknowledged, repetitions included; one for each request. */
  readonly ackMs: readonly number[];
  /** Requests that had to be sent again. */
  readonly resends: number;
}

/** What is due goes in one array; that many at most. */
const ARRAY_EVENTS_MAX = 500;

/** @throws Refused when the node refuses an event for good; Error when it stays away for too long */
export async function sendAll(order: SendOrder): Promise<SendFigures> {
  const ackMs: number[] = [];
  const figures = { acknowledged: 0, resends: 0 };
  const begin = performance.now();
  // The first lane that fails stops the others.
  const failed = new AbortController();
  const signal = AbortSignal.any([order.signal, failed.signal]);
  const onRetry = (): void => {
    figures.resends += 1;
  };
  const run = async (lane: readonly Due[]): Promise<void> => {
    const client = new SpillwayClient({ ...order.target, onRetry });
    for (let next = 0; next < lane.length; ) {
      const batch = await due(lane, next, begin, signal);
      next += batch.length;
      const asked = performance.now();
      const events = batch.map(({ event }) => event);
      note(batch, await client.post(events, { signal }));
      ackMs.push(performance.now() - asked);
      figures.acknowledged += batch.length;
      order.progress(figures.acknowledged, figures.resends);
    }
  };
  const lanes = divide(order).map((lane) => run(lane).catch((error: unknown) => failed.abort(error)));
  await Promise.all(lanes);
  signal.throwIfAborted();
  return { seconds: (performance.now() - begin) / 1_000, ackMs, resends: figures.resends };
}

interface Due {
  readonly sent: Sent;
  /** After the beginning. */
  readonly dueMs: number;
}

/** A client's events stay together; clients go to the lane that has fewest events so far. */
function divide({ events, rate, lanes }: SendOrder): Due[][] {
  const byClient = Map.groupBy(events.entries(), ([, { event }]) => event.clientId);
  const divided: Due[][] = Array.from({ length: lanes }, () => []);
  for (const own of [...byClient.values()].toSorted((a, b) => b.length - a.length)) {
    const fewest = divided.reduce((least, lane) => (lane.length < least.length ? lane : least));
    fewest.push(...own.map(([row, sent]) => ({ sent, dueMs: (row / rate) * 1_000 })));
  }
  return divided.map((lane) => lane.sort((a, b) => a.dueMs - b.dueMs));
}

/** Waits for the lane's next event, and takes what else is due by then. */
async function due(lane: readonly Due[], from: number, begin: number, signal: AbortSignal): Promise<Sent[]> {
  const waitMs = (lane[from]?.dueMs ?? 0) - (performance.now() - begin);
  if (waitMs > 0) await delay(waitMs, undefined, { signal });
  const now = Math.max(performance.now() - begin, lane[from]?.dueMs ?? 0);
  const batch: Sent[] = [];
  for (let at = from; batch.length < ARRAY_EVENTS_MAX; at++) {
    const next = lane[at];
    if (next === undefined || next.dueMs > now) break;
    batch.push(next.sent);
  }
  return batch;
}

/** Writes down what was acknowledged. */
function note(batch: readonly Sent[], receipts: readonly Acknowledged[]): void {
  for (const [at, sent] of batch.entries()) {
    const receipt = receipts[at];
    if (receipt?.id !== sent.event.id)
      throw new Error(`event ${sent.event.id} was acknowledged as ${receipt?.id ?? "nothing"}`);
    sent.cursor = receipt.cursor;
    sent.resent = receipt.attempts > 1;
  }
}
