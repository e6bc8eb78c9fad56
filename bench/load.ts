/** Loads one URL with POSTs for some seconds, from a process of its own; prints what came of it as one JSON line. */
import autocannon from "autocannon";
import { benchEvents } from "./events.ts";

export interface LoadOrder {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  /** Events in a body; 1 sends an object, more an array. */
  readonly eventsPerBody: number;
  /** Different bodies, sent in turn. */
  readonly bodies: number;
  /** All connections together; as fast as they go if left out. */
  readonly requestsPerSecond?: number;
}

export interface LoadResult {
  readonly eventsPerSecond: number;
  /** Of a request; a stream has none. */
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  /** Answers other than 2xx, lost connections, and lines of streams that were not taken. */
  readonly failures: number;
}

const order = JSON.parse(process.argv[2] ?? "null") as LoadOrder;
const { url, connections, seconds, eventsPerBody, bodies, requestsPerSecond } = order;
const body = (n: number): string => {
  const events = benchEvents(n * eventsPerBody, eventsPerBody);
  return JSON.stringify(eventsPerBody === 1 ? events[0] : events);
};
const result = await autocannon({
  url,
  connections,
  duration: seconds,
  ...(requestsPerSecond !== undefined && { overallRate: requestsPerSecond }),
  method: "POST",
  headers: { "content-type": "application/json" },
  requests: Array.from({ length: bodies }, (_, n) => ({ body: body(n) })),
});
const printed: LoadResult = {
  eventsPerSecond: (result["2xx"] * eventsPerBody) / result.duration,
  p50Ms: result.latency.p50,
  p99Ms: result.latency.p99,
  failures: result.non2xx + result.errors + result.timeouts,
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
