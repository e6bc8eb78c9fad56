/**
 * The yardstick for live frames: a bare `ws` loop that prints an event once and writes the frame to all who follow its client.
 * It makes the events itself, at a steady pace. A process of its own.
 */
import { createServer } from "node:http";
import { type WebSocket, WebSocketServer } from "ws";
import { benchEvents } from "../events.ts";

/** `POST /begin` with this: what to write from now on. */
export interface BareOrder {
  readonly clients: number;
  readonly eventsPerSecond: number;
  readonly seconds: number;
}

const TICK_MS = 5;
const CURSOR = "04002000001g000000000001";
const followers = new Map<string, Set<WebSocket>>();

const server = createServer((request, response) => {
  if (request.url === "/begin") {
    request.on("data", (body: Buffer) => begin(JSON.parse(body.toString("utf8")) as BareOrder));
    request.on("end", () => response.end());
    return;
  }
  if (request.url !== "/metrics") return void response.end("{}");
  const { user, system } = process.cpuUsage();
  const { rss } = process.memoryUsage();
  response.end(`process_cpu_seconds_total ${(user + system) / 1e6}\nprocess_resident_memory_bytes ${rss}\n`);
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: 16 * 1024 });
sockets.on("connection", (socket, { url }) => {
  const clientId = new URL(url ?? "", "http://bare").searchParams.get("clientId") ?? "";
  const others = followers.get(clientId) ?? new Set();
  followers.set(clientId, others.add(socket));
  socket.on("close", () => others.delete(socket));
  socket.send(JSON.stringify({ type: "caughtUp", clientId, cursor: CURSOR }));
});
server.listen(Number(process.env["PORT"]), "127.0.0.1");

function begin({ clients, eventsPerSecond, seconds }: BareOrder): void {
  const begun = performance.now();
  let n = 0;
  const timer = setInterval(() => {
    const elapsedMs = performance.now() - begun;
    for (const due = (Math.min(elapsedMs, seconds * 1_000) / 1_000) * eventsPerSecond; n < due; n++) write(n, clients);
    if (elapsedMs > seconds * 1_000) clearInterval(timer);
  }, TICK_MS);
}

function write(n: number, clients: number): void {
  const [event] = benchEvents(n, 1);
  const clientId = `client-${n % clients}`;
  const at = new Date().toISOString();
  const id = `bare-${n}@${performance.timeOrigin + performance.now()}`;
  const shown = { ...event, id, clientId, occurredAt: at, receivedAt: at, cursor: CURSOR };
  const frame = JSON.stringify({ type: "events", clientId, events: [shown] });
  for (const socket of followers.get(clientId) ?? []) socket.send(frame);
}
