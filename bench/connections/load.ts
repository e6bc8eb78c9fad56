/**
 * Holds many connections for some seconds, most of them idle, and asks on the others in turn, from a process of its own; prints
 * what came of it as one JSON line.
 */
import { Agent, request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import WebSocket from "ws";
import { quantile } from "../../infra/figures.ts";

export interface CrowdOrder {
  /** A query node: followers, and pages on connections that are kept. Or a PgBouncer: its clients. */
  readonly kind: "readers" | "database clients";
  readonly url: string;
  readonly idle: number;
  readonly active: number;
  /** Of each active one. */
  readonly everyMs: number;
  readonly seconds: number;
  /** Named `client-0` and so on. */
  readonly clients: number;
}

export interface CrowdResult {
  /** Connections that were open, every 100 ms; times since 1970. */
  readonly open: readonly { readonly atMs: number; readonly count: number }[];
  readonly answers: number;
  readonly failures: number;
  /** Connections that ended before they were let go. */
  readonly lost: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const order = JSON.parse(process.argv[2] ?? "null") as CrowdOrder;
const OPENING_MAX = 100;
const LOOK_MS = 100;

const counts = { open: 0, lost: 0, failures: 0 };
const latencies: number[] = [];
const open: { atMs: number; count: number }[] = [];
let over = false;

/** One connection. */
interface Held {
  ask(): Promise<unknown>;
  end(): void;
}

const client = (nth: number): string => `client-${nth % order.clients}`;

function lost(): void {
  counts.open--;
  if (!over) counts.lost++;
}

async function follower(nth: number): Promise<Held> {
  const address = `${order.url.replace("http", "ws")}/api/v1/events/live?clientId=${client(nth)}`;
  const socket = new WebSocket(address, { perMessageDeflate: false });
  const ready = Promise.withResolvers<void>();
  socket
    .on("error", ready.reject)
    .on("close", lost)
    .once("message", () => ready.resolve());
  await ready.promise;
  counts.open++;
  return { ask: () => Promise.resolve(), end: () => socket.terminate() };
}

async function reader(nth: number): Promise<Held> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let opened = false;
  const ask = (): Promise<unknown> =>
    new Promise<void>((resolve, reject) => {
      const sent = request(`${order.url}/api/v1/events?clientId=${client(nth)}&view=merged`, { agent }, (answer) => {
        answer
          .resume()
          .on("end", () => (answer.statusCode === 200 ? resolve() : reject(new Error(`${answer.statusCode}`))));
      });
      sent.on("error", reject).on("socket", (socket) => {
        if (opened) return;
        opened = true;
        socket.on("close", lost);
      });
      sent.end();
    });
  await ask();
  counts.open++;
  return { ask, end: () => agent.destroy() };
}

async function databaseClient(nth: number): Promise<Held> {
  const one = new pg.Client({ connectionString: order.url, application_name: "crowd" });
  one.on("error", () => undefined).on("end", lost);
  await one.connect();
  counts.open++;
  const text = `SELECT id, data::text FROM spillway.event WHERE client_id = $1 ORDER BY log_epoch, "offset" LIMIT 100`;
  return { ask: () => one.query(text, [client(nth)]), end: () => void one.end().catch(() => undefined) };
}

async function ask(held: Held): Promise<void> {
  const begun = performance.now();
  try {
    await held.ask();
    latencies.push(performance.now() - begun);
  } catch {
    counts.failures++;
  }
}

/** Asks again and again, beginning at a moment of its own, one at a time. */
async function keepAsking(held: Held, nth: number): Promise<void> {
  await delay((order.everyMs * nth) / order.active);
  while (!over) {
    const begun = performance.now();
    await ask(held);
    await delay(Math.max(0, order.everyMs - (performance.now() - begun)));
  }
}

async function openAll(make: (nth: number) => Promise<Held>, count: number): Promise<Held[]> {
  const all: Held[] = [];
  let next = 0;
  const opening = async (): Promise<void> => {
    while (next < count) all.push(await make(next++));
  };
  await Promise.all(Array.from({ length: Math.min(OPENING_MAX, count) }, opening));
  return all;
}

const look = setInterval(
  () => open.push({ atMs: performance.timeOrigin + performance.now(), count: counts.open }),
  LOOK_MS,
);
const http = order.kind === "readers";
const active = await openAll(http ? reader : databaseClient, order.active);
const asking = active.map(keepAsking);
const idle = await openAll(http ? follower : databaseClient, order.idle);
await delay(order.seconds * 1_000);
over = true;
await Promise.all(asking);
clearInterval(look);
for (const held of [...active, ...idle]) held.end();
const printed: CrowdResult = {
  open,
  answers: latencies.length,
  failures: counts.failures,
  lost: counts.lost,
  p50Ms: quantile(latencies, 0.5),
  p99Ms: quantile(latencies, 0.99),
};
process.stdout.write(`${JSON.stringify(printed)}\n`, () => process.exit(0));
