/** What a row costs while the table grows, as a picture. */
import type { TopLevelSpec } from "vega-lite";
import { writeSvg } from "../svg.ts";
import type { Piece } from "./growth.ts";

/** Writes `growth.svg`. */
export async function writePlot(folder: string, pieces: readonly Piece[]): Promise<void> {
  const of = (measure: string, value: (piece: Piece) => number): object[] =>
    pieces.map((piece) => ({ measure, layout: piece.layout, millions: piece.rowsAfter / 1e6, value: value(piece) }));
  const measures = [
    { title: "processor time, µs a row", values: of("time", ({ microsPerRow }) => microsPerRow) },
    { title: "WAL, bytes a row", values: of("wal", ({ walBytesPerRow }) => walBytesPerRow) },
  ];
  const spec: TopLevelSpec = {
    vconcat: measures.map(({ title, values }) => ({
      width: 640,
      height: 220,
      data: { values },
      mark: { type: "line", point: { size: 20 } },
      encoding: {
        x: { field: "millions", type: "quantitative", title: "million rows in the table" },
        y: { field: "value", type: "quantitative", scale: { zero: true }, title },
        color: { field: "layout", type: "nominal", title: "table" },
      },
    })),
  };
  await writeSvg(folder, "growth.svg", spec);
}
