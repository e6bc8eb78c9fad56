/** How long after its acknowledgement is an event readable, saved, and in a live frame? */
import { ms, whole } from "../infra/figures.ts";
import type { PathOrder, PathResult, Times } from "./path-load.ts";
import { createProgress } from "./progress.ts";
import type { Report } from "./report.ts";
import type { BenchStack } from "./stack.ts";

const EVENTS_PER_SECOND = 2_000;
const SUBSCRIBERS = 1_000;

/** @param seconds of measuring, after a warm-up */
export async function benchPath(stack: BenchStack, seconds: number): Promise<Report> {
  const progress = createProgress(2);
  progress.step("starting ingest, query and sink");
  const [ingest, query] = [await stack.serve("apps/ingest/main.ts"), await stack.serve("apps/query/main.ts")];
  const [ingestUrl, queryUrl] = [ingest.url, query.url];
  await stack.serve("apps/sink/main.ts");
  progress.step(`${EVENTS_PER_SECOND} events/s, ${SUBSCRIBERS} subscribers, for ${seconds} s`);
  const { databaseUrl = "" } = stack;
  const shape = { eventsPerSecond: EVENTS_PER_SECOND, subscribers: SUBSCRIBERS, seconds };
  const order: PathOrder = { ingestUrl, queryUrl, databaseUrl, ...shape };
  const result = await stack.measure<PathResult>("bench/path-load.ts", order);
  progress.end();
  const { acknowledged, readable, saved, live, stale, failures } = result;
  const row = (what: string, times: Times) => ({
    what,
    figure: `p50 ${ms(times.p50Ms)}, p99 ${ms(times.p99Ms)}`,
    detail: `${whole(times.count)} seen`,
  });
  const told = Object.entries(failures)
    .map(([what, times]) => `${times} × ${what}`)
    .join(", ");
  return {
    title: `Path: ${whole(EVENTS_PER_SECOND)} single events/s wanted (${whole(result.acknowledgedPerSecond)} acknowledged), ${whole(SUBSCRIBERS)} subscribers, ${seconds} s`,
    rows: [
      row("sent → acknowledged", acknowledged),
      row("acknowledged → read answered", readable),
      row("acknowledged → saved", saved),
      row("acknowledged → live frame", live),
    ],
    bars: [
      { what: "acknowledged → live frame, p50", value: live.p50Ms, most: 5, unit: "ms" },
      { what: "acknowledged → live frame, p99", value: live.p99Ms, most: 50, unit: "ms" },
      { what: "share of reads that show the event", value: 1 - stale / readable.count, least: 1, unit: "ratio" },
    ],
    notes: [
      `${whole(stale)} stale reads; failures: ${told === "" ? "none" : told}.`,
      "Load, processes, broker and database share the cores.",
    ],
    raw: result,
  };
}
