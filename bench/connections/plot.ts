/** Both numbers over time: clients' connections, and the server's. */
import type { TopLevelSpec } from "vega-lite";
import type { CrowdResult } from "./load.ts";

export interface Counted {
  readonly what: string;
  readonly result: CrowdResult;
  /** Sessions of the server, times since 1970. */
  readonly server: readonly { readonly atMs: number; readonly count: number }[];
  readonly most: { readonly clients: number; readonly pooled: number; readonly server: number };
}

export function plot(phases: readonly Counted[]): TopLevelSpec {
  const values = phases.flatMap(({ what, result, server }) => {
    const begin = result.open[0]?.atMs ?? 0;
    const series = { "clients' connections": result.open, "connections of the server": server };
    return Object.entries(series).flatMap(([name, counts]) =>
      counts.map(({ atMs, count }) => ({ what, name, seconds: (atMs - begin) / 1_000, count: Math.max(count, 0.5) })),
    );
  });
  return {
    data: { values },
    facet: { field: "what", type: "nominal", sort: phases.map(({ what }) => what), title: "" },
    columns: 2,
    spec: {
      width: 320,
      height: 220,
      mark: { type: "line", interpolate: "step-after" },
      encoding: {
        x: { field: "seconds", type: "quantitative", title: "seconds" },
        y: { field: "count", type: "quantitative", scale: { type: "log", domain: [0.5, 20_000] }, title: "open" },
        color: { field: "name", type: "nominal", title: "" },
      },
    },
  };
}
