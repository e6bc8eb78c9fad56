/** What does a live frame cost, next to a bare `ws` loop that writes the same frames? And an idle socket? */
import { ms, whole } from "../../infra/figures.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BenchStack } from "../stack.ts";
import type { BareOrder } from "./bare-ws.ts";
import type { LiveOrder, LiveResult } from "./load.ts";

interface Shape extends Omit<BareOrder, "seconds"> {
  readonly what: string;
  readonly followers: number;
}

/** Both write 2,000 or 20,000 frames a second where each event goes by itself. */
const SHAPES: readonly Shape[] = [
  { what: "1 follower of each of 1,000 clients", clients: 1_000, followers: 1, eventsPerSecond: 2_000 },
  { what: "1,000 followers of one client", clients: 1, followers: 1_000, eventsPerSecond: 20 },
  { what: "10,000 idle sockets", clients: 10_000, followers: 1, eventsPerSecond: 0 },
];

interface Pair {
  readonly shape: Shape;
  readonly ours: LiveResult;
  readonly bare: LiveResult;
}

/** @param seconds of each measurement, after a warm-up */
export async function benchLive(stack: BenchStack, seconds: number): Promise<Report> {
  const progress = createProgress(2 * SHAPES.length + 1);
  progress.step("starting ingest and sink");
  const ingest = await stack.serve("apps/ingest/main.ts");
  await stack.serve("apps/sink/main.ts");
  const pairs: Pair[] = [];
  for (const shape of SHAPES) {
    const measure = async (program: string, ingestUrl: string | null): Promise<LiveResult> => {
      progress.step(`${shape.what}: ${program}`);
      // Each with a server of its own: memory that was given back once is not asked for again.
      const server = await stack.serve(program);
      const { what: _, ...load } = shape;
      const order: LiveOrder = { url: server.url, ingestUrl, seconds, ...load };
      const result = await stack.measure<LiveResult>("bench/live/load.ts", order);
      await server.stop();
      return result;
    };
    const ours = await measure("apps/query/main.ts", ingest.url);
    pairs.push({ shape, ours, bare: await measure("bench/live/bare-ws.ts", null) });
  }
  progress.end();
  return reportOf(pairs, seconds);
}

function reportOf(pairs: readonly Pair[], seconds: number): Report {
  const idle = (shape: Shape): boolean => shape.eventsPerSecond === 0;
  const rows = pairs.flatMap(({ shape, ours, bare }) =>
    (["ours", "bare"] as const).map((who) => {
      const { shown, frames, p50Ms, p99Ms, cpuMicros, bytesPerSocket } = who === "ours" ? ours : bare;
      const what = `${shape.what}, ${who === "ours" ? "Spillway" : "bare ws"}`;
      if (idle(shape)) return { what, figure: `${(bytesPerSocket / 1024).toFixed(1)} KiB a socket`, detail: "" };
      return {
        what,
        figure: `p50 ${ms(p50Ms)}, p99 ${ms(p99Ms)}`,
        detail: `${whole(shown)} shown in ${whole(frames)} frames, ${cpuMicros.toFixed(1)} µs CPU each`,
      };
    }),
  );
  const [each, one] = pairs;
  const missing = pairs.reduce((sum, { ours }) => sum + ours.missing, 0);
  return {
    title: `Live: frames, next to a bare ws loop, ${seconds} s each`,
    rows,
    bars: [
      { what: "acknowledged → live frame, p50", value: each?.ours.p50Ms ?? Number.NaN, most: 5, unit: "ms" },
      { what: "acknowledged → live frame, p99", value: each?.ours.p99Ms ?? Number.NaN, most: 50, unit: "ms" },
    ],
    notes: [
      `CPU a frame next to bare: ${ratio(each)} and ${ratio(one)}; ${whole(missing)} frames missing.`,
      "Spillway's CPU is the query node's: reading the log, look-ups and frames; the loop's is making its events and writing.",
      "Spillway's times begin at the acknowledgement, the loop's when it writes. Load, processes, broker and database share the cores.",
    ],
    raw: pairs,
  };
}

const ratio = (pair: Pair | undefined): string =>
  pair === undefined ? "-" : (pair.ours.cpuMicros / pair.bare.cpuMicros).toFixed(2);
