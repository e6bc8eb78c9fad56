/**
 * Sends single events at a steady rate, follows all their clients, and looks for samples of them by reading and in the
 * database. A process of its own, so that one clock measures all; prints one JSON line.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import WebSocket from "ws";
import { quantile } from "../infra/figures.ts";
import { Client } from "./client.ts";
import { benchEvents } from "./events.ts";

export interface PathOrder {
  readonly ingestUrl: string;
  readonly queryUrl: string;
  readonly databaseUrl: string;
  readonly eventsPerSecond: number;
  readonly subscribers: number;
  readonly seconds: number;
}

export interface Times {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface PathResult {
  readonly acknowledgedPerSecond: number;
  /** From sending until the acknowledgement. */
  readonly acknowledged: Times;
  /** From the acknowledgement until a read that shows the event was answered. */
  readonly readable: Times;
  /** Reads, begun after the acknowledgement, that did not show the event. */
  readonly stale: number;
  /** From the acknowledgement until the row was seen in the database. */
  readonly saved: Times;
  /** From the acknowledgement until the frame; a frame that is earlier counts as 0. */
  readonly live: Times;
  /** Events and reads that went wrong, by what went wrong. */
  readonly failures: Readonly<Record<string, number>>;
}

const order = JSON.parse(process.argv[2] ?? "null") as PathOrder;

const TICK_MS = 5;
const CONNECTIONS = 64;
const IN_FLIGHT_MAX = 1_000;
const WARM_UP_MS = 3_000;
const READS_AT_ONCE_MAX = 8;
const SAVED_LOOK_MS = 5;
const SAVED_LIMIT_MS = 30_000;
/** Of all events, one in so many is looked for in this way. */
const READ_EVERY = 20;
const SAVED_EVERY = 100;

interface Receipt {
  readonly id: string;
  readonly cursor: string;
}

const times = { acknowledged: [] as number[], readable: [] as number[], saved: [] as number[], live: [] as number[] };
const counts = { acknowledged: 0, inFlight: 0, reads: 0, stale: 0 };
const failures: Record<string, number> = {};
/** By event id: when its acknowledgement or its frame came, whichever was first. */
const halves = new Map<string, { readonly kind: "ack" | "frame"; readonly at: number }>();
const ingest = new Client(order.ingestUrl, CONNECTIONS);
const query = new Client(order.queryUrl, READS_AT_ONCE_MAX);
const database = new pg.Client({ connectionString: order.databaseUrl });
let measuring = false;

function failed(what: string): void {
  failures[what] = (failures[what] ?? 0) + 1;
}

function half(kind: "ack" | "frame", id: string, at: number): void {
  const other = halves.get(id);
  if (other === undefined) {
    halves.set(id, { kind, at });
    return;
  }
  halves.delete(id);
  if (measuring) times.live.push(Math.max(0, kind === "frame" ? at - other.at : other.at - at));
}

async function follow(clientId: string): Promise<WebSocket> {
  const address = `${order.queryUrl.replace("http", "ws")}/api/v1/events/live?${new URLSearchParams({ clientId })}`;
  const socket = new WebSocket(address, { perMessageDeflate: false });
  const ready = Promise.withResolvers<void>();
  socket.on("error", ready.reject);
  socket.on("message", (data: Buffer) => {
    const at = performance.now();
    const frame = JSON.parse(data.toString("utf8")) as { type: string; events?: readonly Receipt[] };
    if (frame.type === "caughtUp") ready.resolve();
    else for (const { id } of frame.events ?? []) half("frame", id, at);
  });
  await ready.promise;
  return socket;
}

async function post(n: number): Promise<void> {
  const [event] = benchEvents(n, 1);
  const clientId = event?.clientId ?? "";
  counts.inFlight += 1;
  const begin = performance.now();
  try {
    const answer = await ingest.once("/api/v1/events", JSON.stringify(event));
    const at = performance.now();
    if (answer.status !== 201) {
      failed(`POST answered ${answer.status}`);
      return;
    }
    const { id } = JSON.parse(answer.text) as Receipt;
    half("ack", id, at);
    if (!measuring) return;
    counts.acknowledged += 1;
    times.acknowledged.push(at - begin);
    if (n % READ_EVERY === 0 && counts.reads < READS_AT_ONCE_MAX) void read(clientId, id, at);
    if (n % SAVED_EVERY === 0) void see(clientId, id, at);
  } catch (error) {
    failed(`POST: ${(error as Error).message}`);
  } finally {
    counts.inFlight -= 1;
  }
}

/** The event must be among the client's newest. */
async function read(clientId: string, id: string, acknowledgedAt: number): Promise<void> {
  counts.reads += 1;
  try {
    const parameters = new URLSearchParams({ clientId, order: "desc", limit: "20" });
    const answer = await query.once(`/api/v1/events?${parameters}`);
    times.readable.push(performance.now() - acknowledgedAt);
    if (answer.status !== 200) failed(`GET answered ${answer.status}`);
    else if (!answer.text.includes(`"${id}"`)) counts.stale += 1;
  } catch (error) {
    failed(`GET: ${(error as Error).message}`);
  } finally {
    counts.reads -= 1;
  }
}

async function see(clientId: string, id: string, acknowledgedAt: number): Promise<void> {
  const text = "SELECT 1 FROM spillway.event WHERE client_id = $1 AND id = $2";
  while (performance.now() - acknowledgedAt < SAVED_LIMIT_MS) {
    const { rowCount } = await database.query({ name: "see", text, values: [clientId, id] });
    if (rowCount === 1) {
      times.saved.push(performance.now() - acknowledgedAt);
      return;
    }
    await delay(SAVED_LOOK_MS);
  }
  failed("not saved in time");
}

const timesOf = (values: readonly number[]): Times => ({
  count: values.length,
  p50Ms: quantile(values, 0.5),
  p99Ms: quantile(values, 0.99),
});

async function main(): Promise<void> {
  await database.connect();
  const clientIds = [...new Set(benchEvents(0, order.subscribers).map(({ clientId }) => clientId))];
  const sockets: WebSocket[] = [];
  for (const clientId of clientIds) sockets.push(await follow(clientId));
  const begin = performance.now();
  const end = begin + WARM_UP_MS + order.seconds * 1_000;
  for (let n = 0, now = begin; now < end; now = performance.now()) {
    measuring = now - begin > WARM_UP_MS;
    const due = Math.floor(((now - begin) / 1_000) * order.eventsPerSecond);
    for (; n < due && counts.inFlight < IN_FLIGHT_MAX; n++) void post(n);
    await delay(TICK_MS);
  }
  const acknowledgedPerSecond = counts.acknowledged / order.seconds;
  // What is under way is waited for, as long as anything moves within the limit.
  for (let waitedMs = 0; waitedMs < SAVED_LIMIT_MS && counts.inFlight + halves.size > 0; waitedMs += TICK_MS)
    await delay(TICK_MS);
  for (const socket of sockets) socket.terminate();
  for (const { kind } of halves.values()) failed(kind === "ack" ? "no live frame" : "frame without acknowledgement");
  const result: PathResult = {
    acknowledgedPerSecond,
    acknowledged: timesOf(times.acknowledged),
    readable: timesOf(times.readable),
    stale: counts.stale,
    saved: timesOf(times.saved),
    live: timesOf(times.live),
    failures,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

await main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  },
);
