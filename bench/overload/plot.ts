/** The load over time as a picture: what each design acknowledges and refuses, how late, on how many connections, in how much memory. */
import type { TopLevelSpec } from "vega-lite";
import { writeSvg } from "../svg.ts";
import type { Told } from "./overload.ts";

const LATENCY = "p99, ms";
const MEASURES = ["acknowledged/s", "refused/s", LATENCY, "connections", "memory, MiB"] as const;

/** Writes `overload.svg` into the folder. @returns its name */
export async function writePlot(folder: string, told: readonly Told[]): Promise<string[]> {
  const values = told.flatMap(({ design, samples, load }) => [
    ...load.seconds.flatMap(({ second, acknowledged, errors, p99Ms }) => [
      { design, second, measure: MEASURES[0], value: acknowledged },
      { design, second, measure: MEASURES[1], value: errors },
      ...(p99Ms === null ? [] : [{ design, second, measure: MEASURES[2], value: p99Ms }]),
    ]),
    ...samples.flatMap(({ second, connections, memoryMiB }) => [
      { design, second, measure: MEASURES[3], value: connections },
      { design, second, measure: MEASURES[4], value: memoryMiB },
    ]),
  ]);
  const spec: TopLevelSpec = {
    data: { values },
    vconcat: MEASURES.map((measure) => ({
      transform: [{ filter: { field: "measure", equal: measure } }],
      width: 760,
      height: 130,
      mark: { type: "line", strokeWidth: 1.4 },
      encoding: {
        x: { field: "second", type: "quantitative", title: "" },
        y: {
          field: "value",
          type: "quantitative",
          title: measure,
          ...(measure === LATENCY && { scale: { type: "log" } }),
        },
        color: {
          field: "design",
          type: "nominal",
          sort: told.map(({ design }) => design),
          title: "",
          legend: { labelLimit: 400, orient: "top", columns: 2 },
        },
      },
    })),
  };
  await writeSvg(folder, "overload.svg", spec);
  return ["overload.svg"];
}
