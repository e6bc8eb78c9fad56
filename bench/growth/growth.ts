/** What does a saved row cost as the table grows, as it is and divided by a hash of the client? Both get the same rows, in turn. */
import pg from "pg";
import { timeText } from "#lib/event.ts";
import { median, quantile, whole } from "../../infra/figures.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import { numbered } from "../sink/rows.ts";
import type { BenchStack } from "../stack.ts";
import {
  backendTime,
  createLayouts,
  HASH,
  type Layout,
  PLAIN,
  read,
  type Sizes,
  save,
  sizes,
  walBytes,
} from "./layouts.ts";
import { writePlot } from "./plots.ts";

/**
 * Nothing but the pieces may write: a checkpoint comes before each of them, and vacuum never. The indexes of both tables outgrow
 * 256 MB at a million rows each (140 bytes a row).
 */
export const POSTGRES = {
  shared_buffers: "256MB",
  max_wal_size: "16GB",
  checkpoint_timeout: "1h",
  autovacuum: "off",
};

const CLIENTS = 1_000_000;
const COPY_ROWS = 5_000;
/** What 1,000 events/s make within about four minutes: checkpoints are by default at most five apart. */
const PIECE_ROWS = 250_000;
const READS = 400;
/** The share of the pieces, the last ones, that the ratios are of. */
const LATE = 0.25;

/** One layout's share of a turn. */
export interface Piece {
  readonly layout: Layout["name"];
  readonly rowsAfter: number;
  readonly rowsPerSecond: number;
  /** Of the backend's processor time. */
  readonly microsPerRow: number;
  readonly walBytesPerRow: number;
  readonly readP50Ms: number;
  readonly readP99Ms: number;
}

type Both<T> = Readonly<Record<Layout["name"], T>>;

/** @param events in each table at the end; @param folder for the plot; @param over ends it after the turn under way */
export async function benchGrowth(
  stack: BenchStack,
  events: number,
  folder: string | undefined,
  over: AbortSignal,
): Promise<Report> {
  const { databaseUrl: url = "" } = stack;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await createLayouts(url, client);
    const usedMicros = await backendTime(client);
    const turns: Both<Piece>[] = [];
    const turnsMax = Math.ceil(events / PIECE_ROWS);
    const progress = createProgress(turnsMax);
    while (turns.length < turnsMax && !over.aborted) {
      progress.step(`rows from ${whole(turns.length * PIECE_ROWS)} on`);
      turns.push(await turn(client, usedMicros, turns.length));
    }
    progress.end();
    if (folder !== undefined)
      await writePlot(
        folder,
        turns.flatMap(({ plain, hash }) => [plain, hash]),
      );
    return report(turns, { plain: await sizes(client, PLAIN), hash: await sizes(client, HASH) });
  } finally {
    await client.end();
  }
}

/** The same rows into both tables, then the same reads from both. */
async function turn(client: pg.Client, usedMicros: () => number, at: number): Promise<Both<Piece>> {
  const from = at * PIECE_ROWS;
  const parts = Array.from({ length: PIECE_ROWS / COPY_ROWS }, (_, part) => lines(from + part * COPY_ROWS));
  const saved = new Map<Layout, Awaited<ReturnType<typeof savePiece>>>();
  for (const layout of at % 2 === 0 ? [PLAIN, HASH] : [HASH, PLAIN])
    saved.set(layout, await savePiece(client, layout, parts, usedMicros));
  const reads = new Map<Layout, number[]>([PLAIN, HASH].map((layout) => [layout, []]));
  for (let n = 0; n < READS; n++) {
    const { clientId } = numbered(Math.floor(Math.random() * (from + PIECE_ROWS)), CLIENTS);
    for (const [layout, tookMs] of reads) tookMs.push(await read(client, layout, clientId));
  }
  const piece = (layout: Layout): Piece => {
    const tookMs = reads.get(layout) ?? [];
    return {
      layout: layout.name,
      rowsAfter: from + PIECE_ROWS,
      ...(saved.get(layout) as Awaited<ReturnType<typeof savePiece>>),
      readP50Ms: median(tookMs),
      readP99Ms: quantile(tookMs, 0.99),
    };
  };
  return { plain: piece(PLAIN), hash: piece(HASH) };
}

async function savePiece(
  client: pg.Client,
  layout: Layout,
  parts: readonly Buffer[],
  usedMicros: () => number,
): Promise<Pick<Piece, "rowsPerSecond" | "microsPerRow" | "walBytesPerRow">> {
  await client.query("CHECKPOINT");
  const [beginMs, beginMicros, beginBytes] = [performance.now(), usedMicros(), await walBytes(client)];
  for (const part of parts) await save(client, layout, part);
  return {
    rowsPerSecond: PIECE_ROWS / ((performance.now() - beginMs) / 1_000),
    microsPerRow: (usedMicros() - beginMicros) / PIECE_ROWS,
    walBytesPerRow: ((await walBytes(client)) - beginBytes) / PIECE_ROWS,
  };
}

const lines = (from: number): Buffer =>
  Buffer.from(
    Array.from({ length: COPY_ROWS }, (_, at) => {
      const { clientId, id, type, occurredAtMs, receivedAtMs, data } = numbered(from + at, CLIENTS);
      return `${[clientId, 1, from + at, id, type, timeText(occurredAtMs), timeText(receivedAtMs), data].join("\t")}\n`;
    }).join(""),
  );

function report(turns: readonly Both<Piece>[], size: Both<Sizes>): Report {
  const rows = turns.length * PIECE_ROWS;
  const late = turns.slice(-Math.ceil(turns.length * LATE));
  const ratio = (of: (piece: Piece) => number): string =>
    median(late.map(({ plain, hash }) => of(hash) / of(plain))).toFixed(2);
  const perMillion = 1_000_000 / PIECE_ROWS;
  const millions = Array.from({ length: Math.ceil(turns.length / perMillion) }, (_, at) =>
    turns.slice(at * perMillion, (at + 1) * perMillion),
  );
  return {
    title: `Growth: two tables of ${whole(rows)} rows and ${whole(CLIENTS)} clients, in turns of ${whole(PIECE_ROWS)}; plain / hash`,
    rows: millions.map((some) => {
      const both = (of: (piece: Piece) => number, show: (value: number) => string): string =>
        (["plain", "hash"] as const).map((name) => show(median(some.map((pieces) => of(pieces[name]))))).join(" / ");
      const one = (value: number): string => value.toFixed(1);
      const two = (value: number): string => value.toFixed(2);
      return {
        what: `${((some.at(-1)?.plain.rowsAfter ?? 0) / 1e6).toFixed(1)} million rows`,
        figure: `${both((piece) => piece.microsPerRow, one)} µs a row`,
        detail:
          `WAL ${both((piece) => piece.walBytesPerRow, whole)} bytes a row; reads p50 ${both((piece) => piece.readP50Ms, two)}, ` +
          `p99 ${both((piece) => piece.readP99Ms, two)} ms; ${both((piece) => piece.rowsPerSecond, whole)} rows/s`,
      };
    }),
    bars: [],
    notes: [
      `hash to plain, medians of the last ${late.length} turns: processor time ${ratio((piece) => piece.microsPerRow)}, WAL ${ratio((piece) => piece.walBytesPerRow)}, ` +
        `reads p50 ${ratio((piece) => piece.readP50Ms)}, p99 ${ratio((piece) => piece.readP99Ms)}, rows/s ${ratio((piece) => piece.rowsPerSecond)}`,
      ...([PLAIN, HASH] as const).map(({ name }) => sizeLine(name, size[name], rows)),
      `Processor time is the backend's own. A checkpoint comes before each turn; shared_buffers ${POSTGRES.shared_buffers}, no vacuum; pages that are not there are mostly the system's.`,
    ],
    raw: { turns, size },
  };
}

function sizeLine(name: string, { tableBytes, primaryKeyBytes, identityBytes }: Sizes, rows: number): string {
  const part = (bytes: number): string => `${whole(bytes / 2 ** 20)} MiB (${whole(bytes / rows)} bytes a row)`;
  return `${name}: table ${part(tableBytes)}, primary key ${part(primaryKeyBytes)}, unique (client_id, id) ${part(identityBytes)}`;
}
