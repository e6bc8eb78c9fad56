/** What was measured as pictures: SVG files beside a table in Markdown. */
import type { TopLevelSpec } from "vega-lite";
import { quantile } from "../../infra/figures.ts";
import { writeSvg } from "../svg.ts";
import type { Request } from "./disturbance.ts";
import type { Passage } from "./events.ts";
import type { Block } from "./hour.ts";
import type { Figures } from "./paired.ts";
import { ADAPTIVE, UNITS_PER_RECORD } from "./scenarios.ts";

/** A scenario's figures by setting. */
export interface Plotted {
  readonly steady: readonly { readonly name: string; readonly figures: readonly Figures[] }[];
  readonly passages: readonly Passage[];
  readonly requests: readonly Request[];
}

const SLICE_MS = 500;

/** Writes `summary.svg` and one `<event>.svg` each into the folder. @returns the files' names */
export async function writePlots(folder: string, { steady, passages, requests }: Plotted): Promise<string[]> {
  const files = new Map<string, TopLevelSpec>([["summary.svg", summary(steady)]]);
  for (const event of new Set(passages.map((passage) => passage.event)))
    files.set(
      `${event.replaceAll(/\W+/g, "-")}.svg`,
      timeline(event, firstOfEach(passages.filter((passage) => passage.event === event)), requests),
    );
  for (const [name, spec] of files) await writeSvg(folder, name, spec);
  return [...files.keys()];
}

const firstOfEach = (passages: readonly Passage[]): Passage[] =>
  passages.filter(({ setting }, at) => passages.findIndex((other) => other.setting === setting) === at);

/** How much harm for how many rows: right is fast, low is gentle. */
function summary(steady: Plotted["steady"]): TopLevelSpec {
  const values = steady.flatMap(({ name, figures }) =>
    figures
      .filter(({ rowsPerSecond }) => rowsPerSecond > 0)
      .map(({ setting, rowsPerSecond, p99Ratio: [middle, low, high] }) => ({
        scenario: name,
        setting,
        rowsPerSecond,
        middle,
        low,
        high,
      })),
  );
  const y = { type: "quantitative", scale: { type: "log" }, title: "p99 of reads, times that without a sink" } as const;
  const x = { field: "rowsPerSecond", type: "quantitative", title: "rows/s saved" } as const;
  const color = { field: "setting", type: "nominal", title: "sink" } as const;
  return {
    data: { values },
    facet: { field: "scenario", type: "nominal", sort: steady.map(({ name }) => name), title: "" },
    columns: 3,
    spec: {
      width: 220,
      height: 180,
      layer: [
        { mark: { type: "rule" }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color } },
        { mark: { type: "point", filled: true, size: 70 }, encoding: { x, y: { ...y, field: "middle" }, color } },
        { mark: { type: "rule", strokeDash: [4, 3] }, encoding: { y: { datum: 1.25 } } },
      ],
    },
    resolve: { scale: { x: "independent" } },
  };
}

const MEASURES = ["rows/s", "batch, units", "rest, ms", "stretch", "reads p50, ms", "reads p95, ms", "reads p99, ms"];

/** One event over time, a row for each measure. */
function timeline(event: string, passages: readonly Passage[], requests: readonly Request[]): TopLevelSpec {
  const values = passages.flatMap((passage) => slices(passage, requests));
  const marks = passages.slice(0, 1).flatMap((one) => [0, (one.endedAtMs - one.beganAtMs) / 1_000]);
  return {
    title: event,
    vconcat: MEASURES.map((measure) => ({
      width: 640,
      height: 70,
      layer: [
        {
          data: { values: values.filter((value) => value.measure === measure) },
          mark: { type: "line", interpolate: "step" },
          encoding: {
            x: { field: "seconds", type: "quantitative", title: measure === MEASURES.at(-1) ? "s" : "" },
            y: { field: "value", type: "quantitative", title: measure },
            color: { field: "setting", type: "nominal", title: "sink" },
          },
        },
        {
          data: { values: marks.map((seconds) => ({ seconds })) },
          mark: { type: "rule", strokeDash: [4, 3] },
          encoding: { x: { field: "seconds", type: "quantitative" } },
        },
      ],
    })),
  };
}

interface Value {
  readonly setting: string;
  readonly seconds: number;
  readonly measure: string;
  readonly value: number;
}

function slices({ setting, turn, beganAtMs }: Passage, requests: readonly Request[]): Value[] {
  const values: Value[] = [];
  for (let at = turn.fromMs; at + SLICE_MS <= turn.toMs; at += SLICE_MS) {
    const put = (measure: string, value: number | undefined): void => {
      if (value !== undefined && Number.isFinite(value))
        values.push({ setting, seconds: (at - beganAtMs) / 1_000, measure, value });
    };
    const batches = turn.batches.filter(({ endedAtMs }) => endedAtMs >= at && endedAtMs < at + SLICE_MS);
    const reads = requests
      .filter(({ kind, atMs }) => kind === "read" && atMs >= at && atMs < at + SLICE_MS)
      .map(({ tookMs }) => tookMs);
    const saved = batches.reduce((sum, { units }) => sum + units / UNITS_PER_RECORD, 0);
    put("rows/s", saved / (SLICE_MS / 1_000));
    put("batch, units", batches.at(-1)?.unitsMax);
    put("rest, ms", batches.at(-1)?.restMs);
    put("stretch", batches.at(-1)?.stretch);
    for (const [name, q] of [
      ["reads p50, ms", 0.5],
      ["reads p95, ms", 0.95],
      ["reads p99, ms", 0.99],
    ] as const)
      put(name, quantile(reads, q));
  }
  return values;
}

/** Writes `hour.svg`: every block's figures over time, with its checkpoints. */
export async function writeHour(folder: string, blocks: readonly Block[]): Promise<void> {
  const of = (value: (figures: Figures) => number): object[] =>
    blocks.flatMap(({ minutes, figures }) =>
      figures.map((one) => ({ minutes, setting: one.setting, value: value(one) })).filter((one) => one.value > 0),
    );
  const measures = [
    { title: "rows/s", values: of(({ rowsPerSecond }) => rowsPerSecond) },
    { title: "batch, units", values: of(({ unitsMax }) => unitsMax) },
    { title: "stretch", values: of(({ setting, stretch }) => (setting === ADAPTIVE ? stretch : 0)) },
    { title: "reads p50, ms", values: of(({ p50Ms }) => p50Ms) },
    { title: "reads p95, ms", values: of(({ p95Ms }) => p95Ms) },
    { title: "reads p99, ms", values: of(({ p99Ms }) => p99Ms) },
  ];
  const marks = blocks.filter(({ checkpoints }) => checkpoints > 0).map(({ minutes }) => ({ minutes }));
  await writeSvg(folder, "hour.svg", {
    title: "an hour; dotted: checkpoints",
    vconcat: measures.map(({ title, values }) => ({
      width: 900,
      height: 90,
      layer: [
        {
          data: { values },
          mark: { type: "line", interpolate: "step" },
          encoding: {
            x: { field: "minutes", type: "quantitative", title: title === "reads p99, ms" ? "minutes" : "" },
            y: { field: "value", type: "quantitative", title },
            color: { field: "setting", type: "nominal", title: "sink" },
          },
        },
        {
          data: { values: marks },
          mark: { type: "rule", strokeDash: [1, 5], opacity: 0.5 },
          encoding: { x: { field: "minutes", type: "quantitative" } },
        },
      ],
    })),
  });
}
