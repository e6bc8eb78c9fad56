/** What a bench prints: a table with ratios and bars, and all that is needed to judge and repeat it. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, totalmem } from "node:os";
import { KAFKA_VERSION } from "../infra/kafka-jars.ts";
import type { BenchStack } from "./stack.ts";

/** A line of the table; every cell is printed as it is. */
interface Row {
  readonly what: string;
  readonly figure: string;
  readonly detail: string;
}

/** A demand of the design: `value` against `least` (or `most`). */
export interface Bar {
  readonly what: string;
  readonly value: number;
  readonly least?: number;
  readonly most?: number;
  readonly goal?: number;
  readonly unit: "ratio" | "ms";
}

export interface Report {
  readonly title: string;
  readonly rows: readonly Row[];
  readonly bars: readonly Bar[];
  readonly notes: readonly string[];
  /** Raw figures, for `--json`. */
  readonly raw: unknown;
}

export const meets = ({ value, least, most }: Bar): boolean =>
  (least === undefined || value >= least) && (most === undefined || value <= most);

/** `ratio 0.41, bar ≥ 0.35, goal ≥ 0.5: met` */
export function barLine(bar: Bar): string {
  const { value, least, most, goal, unit } = bar;
  const show = (number: number): string => (unit === "ms" ? `${number.toFixed(1)} ms` : number.toFixed(2));
  const sign = least === undefined ? "≤" : "≥";
  const aim = goal === undefined ? "" : `, goal ${sign} ${show(goal)}`;
  return `${bar.what}: ${show(value)}, bar ${sign} ${show(least ?? most ?? Number.NaN)}${aim}: ${meets(bar) ? "met" : "MISSED"}`;
}

/** Prints the report and, with a file name, writes it as JSON too. */
export function tell(report: Report, stack: BenchStack, jsonFile: string | undefined): void {
  const machine = `${cpus()[0]?.model ?? "unknown"}, ${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB`;
  const versions = versionsOf(stack);
  const command = `npm run bench -- ${process.argv.slice(2).join(" ")}`;
  const date = new Date().toISOString();
  const lines = [
    "",
    report.title,
    "",
    ...table(report.rows),
    "",
    ...report.bars.map(barLine),
    ...report.notes,
    "",
    `machine   ${machine}`,
    `versions  ${Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(", ")}`,
    `date      ${date}`,
    `command   ${command}`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
  if (jsonFile === undefined) return;
  const bars = report.bars.map((bar) => ({ ...bar, met: meets(bar) }));
  const whole = { ...report, bars, machine, versions, date, command, stack: stack.what };
  writeFileSync(jsonFile, `${JSON.stringify(whole, undefined, 2)}\n`);
}

function table(rows: readonly Row[]): string[] {
  const wide = Math.max(...rows.map(({ what }) => what.length));
  const figures = Math.max(...rows.map(({ figure }) => figure.length));
  return rows.map(({ what, figure, detail }) =>
    `  ${what.padEnd(wide)}  ${figure.padStart(figures)}  ${detail}`.trimEnd(),
  );
}

function versionsOf(stack: BenchStack): Record<string, string> {
  const require = createRequire(import.meta.url);
  const of = (name: string): string => (require(`${name}/package.json`) as { version: string }).version;
  const own = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
  return {
    spillway: `${own.version} ${commit()}`.trim(),
    node: process.versions.node,
    ...(stack.brokers && { kafka: process.env["KAFKA_BROKERS"] ? "(given)" : KAFKA_VERSION }),
    ...(stack.postgresVersion && { postgres: stack.postgresVersion }),
    kafkajs: of("kafkajs"),
    fastify: of("fastify"),
  };
}

/** Empty outside a git checkout. */
function commit(): string {
  try {
    const run = (...args: string[]): string => execFileSync("git", args, { encoding: "utf8", stdio: "pipe" }).trim();
    return `(${run("rev-parse", "--short", "HEAD")}${run("status", "--porcelain") === "" ? "" : ", changed"})`;
  } catch {
    return "";
  }
}
