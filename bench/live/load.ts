/**
 * Follows, has events sent at a steady pace, and times their frames. A process of its own, so that one clock measures all;
 * prints one JSON line.
 */
import { Agent, request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import WebSocket from "ws";
import { quantile } from "../../infra/figures.ts";
import { benchEvents } from "../events.ts";

export interface LiveOrder {
  /** Who is followed. */
  readonly url: string;
  /** Where to post; null: whoever is followed makes the events itself. */
  readonly ingestUrl: string | null;
  readonly clients: number;
  /** Of each client. */
  readonly followers: number;
  /** 0: nothing is sent, and the memory of the connections is measured. */
  readonly eventsPerSecond: number;
  readonly seconds: number;
}

export interface LiveResult {
  /** Sent within the measurement. */
  readonly events: number;
  /** Times an event was shown to a follower. */
  readonly shown: number;
  readonly frames: number;
  /** From the acknowledgement until the frame; from writing it where nobody acknowledges. A frame that is earlier counts as 0. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The server's, per event shown. */
  readonly cpuMicros: number;
  /** The server's, that connections added. */
  readonly bytesPerSocket: number;
  readonly missing: number;
}

const order = JSON.parse(process.argv[2] ?? "null") as LiveOrder;

const WARM_UP_MS = 2_000;
const TICK_MS = 5;
const OPENING_MAX = 100;
const CONNECTIONS = 64;
const IN_FLIGHT_MAX = 1_000;
const REST_MS = 5_000;
const LAST_LIMIT_MS = 20_000;

/** By event id: its acknowledgement's time once there, and how many frames came before. */
const acknowledged = new Map<string, number>();
const early = new Map<string, number>();
const latencies: number[] = [];
const counts = { frames: 0, shown: 0, acknowledged: 0, inFlight: 0, failed: 0 };
let measuring = false;

const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });

function post(n: number): Promise<string> {
  const [event] = benchEvents(n, 1);
  const body = JSON.stringify({ ...event, clientId: `client-${n % order.clients}` });
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const sent = request(`${order.ingestUrl}/api/v1/events`, { method: "POST", agent, headers }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (piece: string) => {
        text += piece;
      });
      answer.on("end", () =>
        answer.statusCode === 201
          ? resolve((JSON.parse(text) as { id: string }).id)
          : reject(new Error(`${answer.statusCode}`)),
      );
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

async function send(n: number): Promise<void> {
  counts.inFlight++;
  const counted = measuring;
  try {
    const id = await post(n);
    if (!counted) return;
    counts.acknowledged++;
    acknowledged.set(id, performance.now());
    for (let frames = early.get(id) ?? 0; frames > 0; frames--) latencies.push(0);
    early.delete(id);
  } catch {
    counts.failed++;
  } finally {
    counts.inFlight--;
  }
}

function shown(id: string, at: number): void {
  if (!measuring) return;
  counts.shown++;
  const [, written] = id.split("@");
  if (written !== undefined) latencies.push(performance.timeOrigin + at - Number(written));
  else {
    const since = acknowledged.get(id);
    if (since === undefined) early.set(id, (early.get(id) ?? 0) + 1);
    else latencies.push(at - since);
  }
}

async function follow(n: number): Promise<void> {
  const address = `${order.url.replace("http", "ws")}/api/v1/events/live?clientId=client-${n % order.clients}`;
  const socket = new WebSocket(address, { perMessageDeflate: false });
  const ready = Promise.withResolvers<void>();
  socket.on("error", ready.reject);
  socket.on("message", (data: Buffer) => {
    const at = performance.now();
    const frame = JSON.parse(data.toString("utf8")) as { type: string; events?: readonly { id: string }[] };
    if (frame.type === "caughtUp") ready.resolve();
    if (measuring && frame.type === "events") counts.frames++;
    for (const { id } of frame.events ?? []) shown(id, at);
  });
  await ready.promise;
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${order.url}/metrics`)).text();
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, "m").exec(text)?.[1]);
}

async function feed(): Promise<number> {
  const { ingestUrl, clients, eventsPerSecond, seconds } = order;
  if (ingestUrl === null) {
    const body = JSON.stringify({ clients, eventsPerSecond, seconds: seconds + WARM_UP_MS / 1_000 });
    await fetch(`${order.url}/begin`, { method: "POST", body });
  }
  const begin = performance.now();
  let cpu = 0;
  let n = 0;
  for (let now = begin; now < begin + WARM_UP_MS + seconds * 1_000; now = performance.now()) {
    if (!measuring && now - begin > WARM_UP_MS) {
      cpu = await metric("process_cpu_seconds_total");
      measuring = true;
    }
    const due = ingestUrl === null ? 0 : Math.floor(((now - begin) / 1_000) * eventsPerSecond);
    for (; n < due && counts.inFlight < IN_FLIGHT_MAX; n++) void send(n);
    await delay(TICK_MS);
  }
  for (let waitedMs = 0; waitedMs < LAST_LIMIT_MS && counts.inFlight > 0; waitedMs += TICK_MS) await delay(TICK_MS);
  const wanted = (): number => counts.acknowledged * order.followers;
  for (let waitedMs = 0; waitedMs < LAST_LIMIT_MS && counts.shown < wanted(); waitedMs += TICK_MS) await delay(TICK_MS);
  return (await metric("process_cpu_seconds_total")) - cpu;
}

async function main(): Promise<void> {
  const sockets = order.clients * order.followers;
  const bytes = await metric("process_resident_memory_bytes");
  for (let n = 0; n < sockets; n += OPENING_MAX)
    await Promise.all(Array.from({ length: Math.min(OPENING_MAX, sockets - n) }, (_, nth) => follow(n + nth)));
  if (order.eventsPerSecond === 0) await delay(REST_MS);
  const bytesPerSocket = ((await metric("process_resident_memory_bytes")) - bytes) / sockets;
  const cpuSeconds = order.eventsPerSecond === 0 ? 0 : await feed();
  const events = order.ingestUrl === null ? order.eventsPerSecond * order.seconds : counts.acknowledged;
  const result: LiveResult = {
    events,
    shown: counts.shown,
    frames: counts.frames,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    cpuMicros: (cpuSeconds * 1e6) / Math.max(1, counts.shown),
    bytesPerSocket,
    missing: order.ingestUrl === null ? 0 : Math.max(0, events * order.followers - counts.shown),
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
