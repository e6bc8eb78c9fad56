/** What happens once: a load that comes and goes, a lock, a frozen server, a restart; and how the sink comes through. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { median } from "../../infra/figures.ts";
import type { PostgresServer } from "../../infra/server.ts";
import type { Arena, Turn } from "./arena.ts";
import { CALM } from "./disturbance.ts";
import { type Setting, UNITS_PER_RECORD } from "./scenarios.ts";

/** Something that begins, and is over when its promise resolves. */
export interface Event {
  readonly name: string;
  readonly happen: (server: PostgresServer, arena: Arena) => Promise<void>;
}

/** How one setting came through one event. */
export interface Passage {
  readonly setting: string;
  readonly event: string;
  readonly turn: Turn;
  /** ms since 1970. */
  readonly beganAtMs: number;
  readonly endedAtMs: number;
  readonly freeRowsPerSecond: number;
  readonly rowsPerSecondDuring: number;
  /** From the event's end until a second of at least 80 % of the free rate; Infinity: not within the turn. */
  readonly backAfterMs: number;
}

const BEFORE_MS = 8_000;
const SETTLE_MS = 3_000;
const AFTER_MS = 8_000;
const LOCK_S = 5;
const FREEZE_MS = 10_000;
const LOAD_MS = 10_000;
const RAMP_MS = 4_000;

export const EVENTS: readonly Event[] = [
  {
    name: "six aggregations come and go",
    happen: async (_, arena) => {
      arena.disturb({ ...CALM, aggregations: 6 });
      await delay(LOAD_MS);
      arena.disturb(CALM);
    },
  },
  {
    name: "aggregations one by one to six",
    happen: async (_, arena) => {
      for (let aggregations = 1; aggregations <= 6; aggregations++) {
        arena.disturb({ ...CALM, aggregations });
        await delay(RAMP_MS);
      }
      arena.disturb(CALM);
    },
  },
  {
    name: `table locked for ${LOCK_S} s`,
    happen: async ({ url }) => {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      await client.query(
        `BEGIN; LOCK TABLE spillway.event IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(${LOCK_S}); COMMIT`,
      );
      await client.end();
    },
  },
  {
    name: `server frozen for ${FREEZE_MS / 1_000} s`,
    happen: async (server) => {
      const pids = familyOf(server.pid);
      for (const pid of pids) process.kill(pid, "SIGSTOP");
      await delay(FREEZE_MS);
      for (const pid of pids) process.kill(pid, "SIGCONT");
    },
  },
  { name: "server restarted", happen: (server) => server.restart() },
];

/** Lets a setting save while the event happens. */
export async function passage(
  event: Event,
  { name, make }: Setting,
  server: PostgresServer,
  arena: Arena,
): Promise<Passage> {
  const happening = delay(BEFORE_MS).then(async () => {
    const began = Date.now();
    await event.happen(server, arena);
    return [began, Date.now()] as const;
  });
  const over = new AbortController();
  const running = arena.turn(name, make?.(), over.signal);
  const [beganAtMs, endedAtMs] = await happening;
  await delay(AFTER_MS);
  over.abort();
  const turn = await running;
  const free = rate(turn, turn.fromMs + SETTLE_MS, beganAtMs);
  return {
    setting: name,
    event: event.name,
    turn,
    beganAtMs,
    endedAtMs,
    freeRowsPerSecond: free,
    rowsPerSecondDuring: rate(turn, beganAtMs + 1_000, endedAtMs),
    backAfterMs: backAfter(turn, endedAtMs, 0.8 * free),
  };
}

/** The server's processes: the one that was started, and its children. Linux only. */
function familyOf(parent: number | undefined): number[] {
  if (parent === undefined)
    throw new Error("The server's processes are not known here: this needs one started by the bench.");
  const children = readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0 && parentOf(pid) === parent);
  return [parent, ...children];
}

function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return 0;
  }
}

const rate = ({ batches }: Turn, fromMs: number, toMs: number): number =>
  batches
    .filter(({ endedAtMs }) => endedAtMs >= fromMs && endedAtMs < toMs)
    .reduce((sum, { units }) => sum + units / UNITS_PER_RECORD, 0) /
  ((toMs - fromMs) / 1_000);

function backAfter(turn: Turn, endedAtMs: number, enough: number): number {
  for (let at = endedAtMs; at + 1_000 <= turn.toMs; at += 100)
    if (rate(turn, at, at + 1_000) >= enough) return at - endedAtMs + 1_000;
  return Number.POSITIVE_INFINITY;
}

/** Of several passages of one setting through one event: the middle of each figure. */
export const middle = (passages: readonly Passage[], figure: (passage: Passage) => number): number =>
  median(passages.map(figure));
