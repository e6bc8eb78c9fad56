/** Loads pages from one server for some seconds, from a process of its own; prints what came of it as one JSON line. */
import autocannon from "autocannon";

export interface ReadOrder {
  readonly url: string;
  /** Asked for in turn, each reader beginning at another one: no two ask for the same at once, unless there is but one. */
  readonly paths: readonly string[];
  readonly readers: number;
  readonly seconds: number;
}

export interface ReadResult {
  readonly pagesPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of the server's process, for each page. */
  readonly cpuMicros: number;
  /** Answers other than 2xx, and lost connections. */
  readonly failures: number;
}

const order = JSON.parse(process.argv[2] ?? "null") as ReadOrder;
const { url, paths, readers, seconds } = order;
const requests = paths.map((path) => ({ method: "GET" as const, path }));
let reader = 0;
const before = await cpuSeconds();
const result = await autocannon({
  url,
  connections: readers,
  duration: seconds,
  setupClient: (client) => {
    const from = Math.floor((reader++ * requests.length) / readers);
    client.setRequests([...requests.slice(from), ...requests.slice(0, from)]);
  },
});
const printed: ReadResult = {
  pagesPerSecond: result["2xx"] / result.duration,
  p50Ms: result.latency.p50,
  p99Ms: result.latency.p99,
  cpuMicros: ((await cpuSeconds()) - before) / (result["2xx"] / 1e6),
  failures: result.non2xx + result.errors + result.timeouts,
};
process.stdout.write(`${JSON.stringify(printed)}\n`);

async function cpuSeconds(): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return Number(/^process_cpu_seconds_total (\S+)$/m.exec(metrics)?.[1]);
}
