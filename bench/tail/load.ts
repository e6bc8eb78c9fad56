/** Reads pages from one node for some seconds, from a process of its own; prints what came of it as one JSON line. */
import { Agent, get } from "node:http";
import { quantile } from "../../infra/figures.ts";

export interface PagesOrder {
  readonly url: string;
  /** Asked for in turn. */
  readonly paths: readonly string[];
  readonly readers: number;
  readonly seconds: number;
}

export interface PagesResult {
  readonly pages: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly bytesMean: number;
  /** Answers other than 200. */
  readonly failures: number;
}

const { url, paths, readers, seconds } = JSON.parse(process.argv[2] ?? "null") as PagesOrder;
const agent = new Agent({ keepAlive: true, maxSockets: readers });
const times: number[] = [];
let [next, bytes, failures] = [0, 0, 0];

async function ask(path: string): Promise<void> {
  const begin = performance.now();
  await new Promise<void>((resolve, reject) => {
    get(`${url}${path}`, { agent }, (answer) => {
      if (answer.statusCode !== 200) failures++;
      answer.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      answer.on("end", resolve).on("error", reject);
    }).on("error", reject);
  });
  times.push(performance.now() - begin);
}

const end = performance.now() + seconds * 1_000;
await Promise.all(
  Array.from({ length: readers }, async () => {
    while (performance.now() < end) await ask(paths[next++ % paths.length] ?? "/");
  }),
);
agent.destroy();
const printed: PagesResult = {
  pages: times.length,
  p50Ms: quantile(times, 0.5),
  p99Ms: quantile(times, 0.99),
  bytesMean: bytes / times.length,
  failures,
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
