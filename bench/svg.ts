/** A picture as an SVG file. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** Writes it into the folder, which is made when it is missing. */
export async function writeSvg(folder: string, name: string, spec: TopLevelSpec): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const view = new View(parse(compile(spec).spec), { renderer: "none" });
  writeFileSync(join(folder, name), `${await view.toSVG()}\n`);
  view.finalize();
}
