/** Does the sink feel what the database can bear? Real PostgreSQL, real writer; settings take turns in paired blocks. */
import { setTimeout as delay } from "node:timers/promises";
import { whole } from "../../infra/figures.ts";
import { proxiedPostgres } from "../../infra/proxy.ts";
import type { PostgresServer } from "../../infra/server.ts";
import { createProgress, type Progress } from "../progress.ts";
import type { Bar, Report } from "../report.ts";
import type { BenchStack } from "../stack.ts";
import { type Arena, openArena, type Turn } from "./arena.ts";
import { CALM } from "./disturbance.ts";
import { EVENTS, middle, type Passage, passage } from "./events.ts";
import { type Figures, figures, rowsRatio, shuffled } from "./paired.ts";
import { writePlots } from "./plots.ts";
import { ADAPTIVE, FAR, FIXED_HIGH, FIXED_LOW, FREE, SETTINGS, STEADY, type Steady } from "./scenarios.ts";

interface Measured {
  readonly steady: readonly {
    readonly scenario: Steady;
    readonly figures: readonly Figures[];
    readonly blocks: readonly (readonly Turn[])[];
  }[];
  readonly passages: readonly Passage[];
}

/** Of each setting through each event: they take long, and differ more from one another than blocks do. */
const passagesOf = (rounds: number): number => Math.ceil(rounds / 3);
const THROUGH_EVENTS = SETTINGS.filter(({ name }) => [ADAPTIVE, FIXED_LOW, FIXED_HIGH].includes(name));
const WARM_MS = 20_000;
const LEARN_MS = 3_000;
/** So long the load needs to send its last figures. */
const REPORT_MS = 1_500;

/** @param rounds blocks of each scenario, and passages of each event; @param seconds of a turn; @param folder for plots */
export async function benchThrottle(
  stack: BenchStack,
  rounds: number,
  seconds: number,
  folder: string | undefined,
): Promise<Report> {
  const server = stack.postgres as PostgresServer;
  const progress = createProgress(1 + STEADY.length * rounds + EVENTS.length * passagesOf(rounds));
  const { proxy, url } = await proxiedPostgres(server.url);
  await using _proxy = proxy;
  const arena = await openArena(server.url, url);
  try {
    progress.step("a million rows to begin with");
    await arena.turn(
      "warming",
      SETTINGS.find(({ name }) => name === FIXED_HIGH)?.make?.(),
      AbortSignal.timeout(WARM_MS),
    );
    const steady = [];
    for (const scenario of STEADY) {
      proxy.delayMs = scenario.delayMs / 2;
      steady.push(await inBlocks(arena, scenario, rounds, seconds * 1_000, progress));
    }
    proxy.delayMs = 0;
    const passages = await inPassages(server, arena, passagesOf(rounds), progress);
    progress.end();
    if (folder !== undefined) {
      const named = steady.map(({ scenario: { name }, figures: all }) => ({ name, figures: all }));
      await writePlots(folder, { steady: named, passages, requests: arena.requests });
    }
    return report({ steady, passages }, rounds, seconds);
  } finally {
    await arena.close();
  }
}

async function inBlocks(
  arena: Arena,
  scenario: Steady,
  rounds: number,
  turnMs: number,
  progress: Progress,
): Promise<Measured["steady"][number]> {
  // Controllers keep what they have learned from turn to turn, as a sink that runs does; first of all a free database.
  const controllers = new Map(SETTINGS.map(({ name, make }) => [name, make?.()]));
  for (const [name, controller] of controllers)
    if (controller) await arena.turn(name, controller, AbortSignal.timeout(LEARN_MS));
  arena.disturb(scenario.disturbance);
  const blocks: Turn[][] = [];
  for (let round = 0; round < rounds; round++) {
    progress.step(`${scenario.name}, block ${round + 1} of ${rounds}`);
    const block: Turn[] = [];
    for (const { name } of shuffled(SETTINGS))
      block.push(await arena.turn(name, controllers.get(name), AbortSignal.timeout(turnMs)));
    blocks.push(block);
  }
  arena.disturb(CALM);
  await delay(REPORT_MS);
  return { scenario, blocks, figures: figures(blocks, arena.requests) };
}

async function inPassages(server: PostgresServer, arena: Arena, times: number, progress: Progress): Promise<Passage[]> {
  const passages: Passage[] = [];
  for (const event of EVENTS)
    for (let round = 0; round < times; round++) {
      progress.step(`${event.name}, ${round + 1} of ${times}`);
      for (const setting of shuffled(THROUGH_EVENTS)) passages.push(await passage(event, setting, server, arena));
    }
  return passages;
}

function report(measured: Measured, rounds: number, seconds: number): Report {
  const { steady, passages } = measured;
  const rows = steady.flatMap(({ scenario, figures: all }) =>
    all.map((one) => ({
      what: `${scenario.name}: ${one.setting}`,
      figure: `${whole(one.rowsPerSecond)} rows/s`,
      detail: `reads p50 ${one.p50Ms.toFixed(1)}, p95 ${one.p95Ms.toFixed(1)}, p99 ${one.p99Ms.toFixed(1)} ms; to no sink p95 ${one.p95Ratio[0].toFixed(2)} (${one.p95Ratio[1].toFixed(2)}–${one.p95Ratio[2].toFixed(2)}), p99 ${one.p99Ratio[0].toFixed(2)} (${one.p99Ratio[1].toFixed(2)}–${one.p99Ratio[2].toFixed(2)}); x ${one.stretch.toFixed(2)}, ${whole(one.unitsMax)} units, duty ${one.duty.toFixed(2)}`,
    })),
  );
  const events = EVENTS.flatMap(({ name }) =>
    THROUGH_EVENTS.map(({ name: setting }) => {
      const mine = passages.filter((one) => one.event === name && one.setting === setting);
      return {
        what: `${name}: ${setting}`,
        figure: `${whole(middle(mine, (one) => one.rowsPerSecondDuring))} rows/s meanwhile`,
        detail: `${whole(middle(mine, (one) => one.freeRowsPerSecond))} before; 80 % back after ${(middle(mine, (one) => one.backAfterMs) / 1_000).toFixed(1)} s; ${middle(mine, (one) => one.turn.failed)} failed transactions`,
      };
    }),
  );
  return {
    title: `Throttle: ${rounds} paired blocks of ${SETTINGS.length} settings, ${seconds} s each; 150 reads/s and 20 updates/s beside the sink`,
    rows: [...rows, ...events],
    bars: bars(measured),
    notes: [
      "Load, sink and database share the cores; the sink's process has the lowest priority, its session in the database the usual one.",
    ],
    raw: {
      steady: steady.map(({ scenario, figures: all }) => ({ scenario, figures: all })),
      passages: passages.map(({ turn, ...rest }) => ({ ...rest, failed: turn.failed })),
    },
  };
}

function bars({ steady, passages }: Measured): Bar[] {
  const blocksOf = (name: string): readonly (readonly Turn[])[] =>
    steady.find(({ scenario }) => scenario.name === name)?.blocks ?? [];
  const best = SETTINGS.filter(({ name }) => name.startsWith("fixed")).map(({ name }) =>
    rowsRatio(blocksOf(FREE), ADAPTIVE, name),
  );
  const disturbed = steady.filter(({ scenario }) => scenario.name !== FREE && scenario.name !== FAR);
  const back = passages.filter(({ event, setting }) => event === EVENTS[0]?.name && setting === ADAPTIVE);
  return [
    { what: "free: rows/s to the best fixed setting", value: Math.min(...best), least: 0.85, unit: "ratio" },
    ...disturbed.flatMap(({ scenario: { name }, figures: all, blocks }): Bar[] => {
      const ours = all.find(({ setting }) => setting === ADAPTIVE);
      return [
        { what: `${name}: p95 of reads to no sink`, value: ours?.p95Ratio[0] ?? Number.NaN, most: 1.25, unit: "ratio" },
        { what: `${name}: p99 of reads to no sink`, value: ours?.p99Ratio[0] ?? Number.NaN, most: 1.25, unit: "ratio" },
        {
          what: `${name}: rows/s to ${FIXED_LOW}`,
          value: rowsRatio(blocks, ADAPTIVE, FIXED_LOW),
          least: 1,
          unit: "ratio",
        },
      ];
    }),
    {
      what: `${FAR}: rows/s to ${FIXED_HIGH}`,
      value: rowsRatio(blocksOf(FAR), ADAPTIVE, FIXED_HIGH),
      least: 0.8,
      unit: "ratio",
    },
    {
      what: "80 % of the free rate back after the load",
      value: middle(back, (one) => one.backAfterMs),
      most: 3_000,
      unit: "ms",
    },
  ];
}
