/** How much does an acknowledgement by the log cost, next to answering at once and next to kafkajs alone? */
import { median, ms, whole } from "../infra/figures.ts";
import type { LoadOrder, LoadResult } from "./load.ts";
import { createProgress } from "./progress.ts";
import type { RawOrder } from "./raw-kafkajs.ts";
import type { Report } from "./report.ts";
import type { BenchStack } from "./stack.ts";

const SINGLE_CONNECTIONS = 64;
/** As many arrays at a time: enough that one is being read while another is being sent. */
const ARRAY_CONNECTIONS = 8;
const ARRAY_EVENTS = 500;

type Shape = Pick<LoadOrder, "connections" | "eventsPerBody" | "bodies">;
type Program = "bench/load.ts" | "bench/stream-load.ts";

/** A way of taking events; its rounds take turns with the others'. */
interface Setting {
  readonly what: string;
  round(seconds: number): Promise<LoadResult>;
}

/** @param rounds of `seconds` each, for every setting; one more at the start is not counted */
export async function benchIngest(stack: BenchStack, rounds: number, seconds: number): Promise<Report> {
  const { url: ingest } = await stack.serve("apps/ingest/main.ts");
  const { url: bare } = await stack.serve("bench/bare-fastify.ts");
  const load =
    (url: string, shape: Shape, program: Program = "bench/load.ts") =>
    (time: number) =>
      stack.measure<LoadResult>(program, { url: `${url}/api/v1/events`, seconds: time, ...shape });
  const stream = (connections: number) => load(ingest, { ...arrays, connections }, "bench/stream-load.ts");
  const raw = (recordsPerSend: number, batches: number) => (time: number) => {
    const order: RawOrder = { ...stack, seconds: time, recordsPerSend, batches };
    return stack.measure<LoadResult>("bench/raw-kafkajs.ts", order);
  };
  const single = { connections: SINGLE_CONNECTIONS, eventsPerBody: 1, bodies: 32 };
  const arrays = { connections: ARRAY_CONNECTIONS, eventsPerBody: ARRAY_EVENTS, bodies: 8 };
  const sendMax = ARRAY_CONNECTIONS * ARRAY_EVENTS;
  const settings: Setting[] = [
    { what: `single POST, ${SINGLE_CONNECTIONS} connections: bare Fastify`, round: load(bare, single) },
    { what: `single POST, ${SINGLE_CONNECTIONS} connections: Spillway`, round: load(ingest, single) },
    { what: `raw kafkajs, ${whole(ARRAY_EVENTS)} records a send`, round: raw(ARRAY_EVENTS, 8) },
    { what: `raw kafkajs, ${whole(sendMax)} records a send`, round: raw(sendMax, 1) },
    { what: `arrays of ${ARRAY_EVENTS}, ${ARRAY_CONNECTIONS} connections: Spillway`, round: load(ingest, arrays) },
    { what: `ndjson, ${ARRAY_CONNECTIONS} streams: Spillway`, round: stream(ARRAY_CONNECTIONS) },
    { what: "ndjson, 1 stream: Spillway", round: stream(1) },
  ];
  const results = await takeTurns(settings, rounds, seconds);
  const rate = (at: number): number => median((results[at] ?? []).map(({ eventsPerSecond }) => eventsPerSecond));
  return {
    title: `Ingest: medians of ${rounds} rounds of ${seconds} s, settings taking turns`,
    rows: settings.map(({ what }, at) => ({
      what,
      figure: `${whole(rate(at))} events/s`,
      detail: detail(results[at]),
    })),
    bars: [
      { what: "single POST against bare Fastify", value: rate(1) / rate(0), least: 0.35, goal: 0.5, unit: "ratio" },
      {
        what: "arrays against the faster raw kafkajs",
        value: rate(4) / Math.max(rate(2), rate(3)),
        least: 0.5,
        unit: "ratio",
      },
      {
        what: `ndjson, ${ARRAY_CONNECTIONS} streams, against the faster raw kafkajs`,
        value: rate(5) / Math.max(rate(2), rate(3)),
        least: 0.5,
        unit: "ratio",
      },
    ],
    notes: ["Server, load and broker share the cores. Raw kafkajs sends records that were encoded beforehand."],
    raw: settings.map(({ what }, at) => ({ what, rounds: results[at] })),
  };
}

async function takeTurns(settings: readonly Setting[], rounds: number, seconds: number): Promise<LoadResult[][]> {
  const results: LoadResult[][] = settings.map(() => []);
  const progress = createProgress((rounds + 1) * settings.length);
  for (let round = 0; round <= rounds; round++) {
    for (const [at, { what, round: run }] of settings.entries()) {
      progress.step(round === 0 ? `warming up: ${what}` : `round ${round}: ${what}`);
      const result = await run(round === 0 ? 2 : seconds);
      if (round > 0) results[at]?.push(result);
    }
  }
  progress.end();
  return results;
}

function detail(rounds: readonly LoadResult[] = []): string {
  const failures = rounds.reduce((sum, round) => sum + round.failures, 0);
  const failed = failures === 0 ? "" : `${whole(failures)} FAILURES`;
  const timed = rounds.flatMap(({ p50Ms, p99Ms }) =>
    p50Ms === undefined || p99Ms === undefined ? [] : [{ p50Ms, p99Ms }],
  );
  if (timed.length === 0) return failed;
  const p50 = median(timed.map(({ p50Ms }) => p50Ms));
  const p99 = median(timed.map(({ p99Ms }) => p99Ms));
  return `a request p50 ${ms(p50)}, p99 ${ms(p99)}${failed && `; ${failed}`}`;
}
