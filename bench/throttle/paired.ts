/** Paired blocks → figures: each setting against "no sink" of the same block, medians over blocks. */
import { median, quantile } from "../../infra/figures.ts";
import type { Turn } from "./arena.ts";
import type { Request } from "./disturbance.ts";
import { NO_SINK, UNITS_PER_RECORD } from "./scenarios.ts";

/** What one setting did in one scenario. Latencies are those of interactive reads, in ms. */
export interface Figures {
  readonly setting: string;
  readonly blocks: number;
  readonly rowsPerSecond: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  /** To "no sink" of the same block: median, lower and upper quartile. */
  readonly p95Ratio: Spread;
  readonly p99Ratio: Spread;
  readonly unitsMax: number;
  readonly stretch: number;
  /** Share of the time spent in batches. */
  readonly duty: number;
}

type Spread = readonly [middle: number, low: number, high: number];

/** Of each turn: what the setting before it left behind (dirty pages, a queue) is not its own doing. */
const DROPPED_MS = 1_500;

/** @param blocks of one scenario; each holds a turn of every setting */
export function figures(blocks: readonly (readonly Turn[])[], requests: readonly Request[]): Figures[] {
  const reads = requests.filter(({ kind }) => kind === "read");
  const settings = (blocks[0] ?? []).map(({ setting }) => setting).sort();
  return settings.map((setting) => {
    const turns = blocks.map((block) => turnOf(block, setting));
    const nobody = blocks.map((block) => turnOf(block, NO_SINK));
    const latencies = turns.map((turn) => latenciesOf(turn, reads));
    const reference = nobody.map((turn) => latenciesOf(turn, reads));
    const ratio = (q: number): Spread =>
      spread(latencies.map((some, at) => quantile(some, q) / quantile(reference[at] ?? [], q)));
    const batches = turns.flatMap((turn) => counted(turn));
    const pooled = latencies.flat();
    return {
      setting,
      blocks: blocks.length,
      rowsPerSecond: median(turns.map(rowsPerSecond)),
      p50Ms: median(pooled),
      p95Ms: quantile(pooled, 0.95),
      p99Ms: quantile(pooled, 0.99),
      p95Ratio: ratio(0.95),
      p99Ratio: ratio(0.99),
      unitsMax: median(batches.map(({ unitsMax }) => unitsMax)),
      stretch: median(batches.map(({ stretch }) => stretch)),
      duty: median(turns.map((turn) => counted(turn).reduce((sum, { totalMs }) => sum + totalMs, 0) / lengthMs(turn))),
    };
  });
}

/** Medians over blocks of one setting's rows/s as a share of another's in the same block. */
export function rowsRatio(blocks: readonly (readonly Turn[])[], setting: string, other: string): number {
  return median(blocks.map((block) => rowsPerSecond(turnOf(block, setting)) / rowsPerSecond(turnOf(block, other))));
}

const turnOf = (block: readonly Turn[], setting: string): Turn =>
  block.find((turn) => turn.setting === setting) as Turn;

const lengthMs = ({ fromMs, toMs }: Turn): number => toMs - fromMs - DROPPED_MS;

const counted = ({ fromMs, toMs, batches }: Turn): Turn["batches"] =>
  batches.filter(({ endedAtMs }) => endedAtMs >= fromMs + DROPPED_MS && endedAtMs < toMs);

const rowsPerSecond = (turn: Turn): number =>
  counted(turn).reduce((sum, { units }) => sum + units / UNITS_PER_RECORD, 0) / (lengthMs(turn) / 1_000);

const latenciesOf = ({ fromMs, toMs }: Turn, reads: readonly Request[]): number[] =>
  reads.filter(({ atMs }) => atMs >= fromMs + DROPPED_MS && atMs < toMs).map(({ tookMs }) => tookMs);

const spread = (values: readonly number[]): Spread => [median(values), quantile(values, 0.25), quantile(values, 0.75)];

/** In random order. */
export const shuffled = <T>(items: readonly T[]): T[] =>
  items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
