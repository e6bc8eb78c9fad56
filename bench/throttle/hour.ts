/** Does it stay right for an hour? Checkpoints, autovacuum and a table that grows by millions of rows, in paired turns. */
import pg from "pg";
import { whole } from "../../infra/figures.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BenchStack } from "../stack.ts";
import { type Arena, openArena, type Turn } from "./arena.ts";
import { type Figures, figures, shuffled } from "./paired.ts";
import { writeHour } from "./plots.ts";
import { ADAPTIVE, FIXED_MIDDLE, NO_SINK, SETTINGS, UNITS_PER_RECORD } from "./scenarios.ts";

/** PostgreSQL's own pace of checkpoints and autovacuum: five minutes or 1 GB of WAL. */
export const POSTGRES = { shared_buffers: "1GB" };

const THROUGH = SETTINGS.filter(({ name }) => [NO_SINK, ADAPTIVE, FIXED_MIDDLE].includes(name));
const TURN_MS = 10_000;
/** More than a block has: 170 a second. */
const REQUESTS_OF_A_BLOCK = 10_000;
const PARTS = 4;

/** One turn of every setting, and what the server did meanwhile. */
export interface Block {
  readonly turns: readonly Turn[];
  readonly figures: readonly Figures[];
  /** From the first block's begin, at this one's end. */
  readonly minutes: number;
  readonly checkpoints: number;
  readonly vacuums: number;
  readonly rowsAfter: number;
}

/** Since the server was started. */
interface Chores {
  readonly checkpoints: number;
  readonly vacuums: number;
}

/** @param minutes of all turns together; @param folder for the plot; @param over ends it after the turn under way */
export async function benchHour(
  stack: BenchStack,
  minutes: number,
  folder: string | undefined,
  over: AbortSignal,
): Promise<Report> {
  const url = stack.databaseUrl as string;
  const arena = await openArena(url);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const blocks = await inBlocks(arena, client, (minutes * 60_000) / (TURN_MS * THROUGH.length), over);
    if (folder !== undefined) await writeHour(folder, blocks);
    return report(blocks, arena);
  } finally {
    await client.end();
    await arena.close();
  }
}

async function inBlocks(arena: Arena, client: pg.Client, count: number, over: AbortSignal): Promise<Block[]> {
  const progress = createProgress(Math.ceil(count));
  const controllers = new Map(THROUGH.map(({ name, make }) => [name, make?.()]));
  const blocks: Block[] = [];
  const beganAtMs = Date.now();
  let rowsAfter = 0;
  let before = await chores(client);
  while (blocks.length < count && !over.aborted) {
    progress.step(`block ${blocks.length + 1}, ${whole(rowsAfter)} rows`);
    const turns: Turn[] = [];
    for (const { name } of shuffled(THROUGH))
      turns.push(await arena.turn(name, controllers.get(name), AbortSignal.timeout(TURN_MS)));
    const now = await chores(client);
    rowsAfter += turns.flatMap(({ batches }) => batches).reduce((sum, { units }) => sum + units / UNITS_PER_RECORD, 0);
    blocks.push({
      turns,
      figures: figures([turns], arena.requests.slice(-REQUESTS_OF_A_BLOCK)),
      minutes: (Date.now() - beganAtMs) / 60_000,
      checkpoints: now.checkpoints - before.checkpoints,
      vacuums: now.vacuums - before.vacuums,
      rowsAfter,
    });
    before = now;
  }
  progress.end();
  return blocks;
}

async function chores(client: pg.Client): Promise<Chores> {
  const { rows } = await client.query<Chores>(
    `SELECT (num_timed + num_requested)::int AS checkpoints,
       (SELECT sum(autovacuum_count + autoanalyze_count) FROM pg_stat_all_tables)::int AS vacuums
       FROM pg_stat_checkpointer`,
  );
  return rows[0] as Chores;
}

function report(blocks: readonly Block[], arena: Arena): Report {
  const turns = blocks.map((block) => block.turns);
  const lines = (what: string, some: readonly (readonly Turn[])[]): Report["rows"] =>
    figures(some, arena.requests).map((one) => ({
      what: `${what}: ${one.setting}`,
      figure: `${whole(one.rowsPerSecond)} rows/s`,
      detail: `reads p50 ${one.p50Ms.toFixed(1)}, p95 ${one.p95Ms.toFixed(1)}, p99 ${one.p99Ms.toFixed(1)} ms; to no sink p95 ${one.p95Ratio.map((x) => x.toFixed(2)).join(" ")}, p99 ${one.p99Ratio.map((x) => x.toFixed(2)).join(" ")}; x ${one.stretch.toFixed(2)}, ${whole(one.unitsMax)} units, duty ${one.duty.toFixed(2)}`,
    }));
  const share = Math.ceil(turns.length / PARTS);
  const parts = Array.from({ length: PARTS }, (_, n) => turns.slice(n * share, (n + 1) * share)).filter(
    (part) => part.length > 0,
  );
  const sum = (of: (block: Block) => number): string => whole(blocks.reduce((total, block) => total + of(block), 0));
  const failed = turns.flat().reduce((total, turn) => total + turn.failed, 0);
  return {
    title: `An hour: ${blocks.length} blocks of ${THROUGH.length} settings, ${TURN_MS / 1_000} s each`,
    rows: [...lines("all", turns), ...parts.flatMap((part, n) => lines(`part ${n + 1} of ${PARTS}`, part))],
    bars: [],
    notes: [
      `${sum(({ checkpoints }) => checkpoints)} checkpoints, ${sum(({ vacuums }) => vacuums)} runs of autovacuum, ${whole(blocks.at(-1)?.rowsAfter ?? 0)} rows at the end, ${failed} failed transactions.`,
    ],
    raw: blocks.map(({ turns: _, ...rest }) => rest),
  };
}
