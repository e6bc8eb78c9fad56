/**
 * What do pages cost, next to Fastify and pg doing the plain SELECT of the same rows: saved, unsaved and half of each; one
 * reader and many; near and 30 ms away? And what does it cost to ask the log how far it reaches, before each?
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { median, ms, whole } from "../../infra/figures.ts";
import { proxiedPostgres } from "../../infra/proxy.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BenchStack } from "../stack.ts";
import { clientIdOf, GROUPS, type Group } from "./events.ts";
import type { FillOrder } from "./fill.ts";
import type { ReadOrder, ReadResult } from "./load.ts";
import { CLIENTS, type Cursors, compare, cursorsOf, EVENTS, type Paths, pathsOf } from "./settings.ts";

const PAGE_EVENTS = [1, 10, 100, 1_000];
const READERS = [1, 64];
const BARRIER_READERS = [1, 64, 1_000];
/** There and back. */
const AWAY_MS = 30;
const PAGE_CONNECTIONS = 3;
/** For all that is unsaved: what the disk costs is the question of `tail`. */
const SPILLWAY_TAIL_BYTES = String(256 * 1024 * 1024);
const SAVE_LIMIT_MS = 300_000;

interface Servers {
  readonly spillway: string;
  readonly plain: string;
  readonly far: { readonly spillway: string; readonly plain: string };
}

/** One way of reading; with `plain`, its rounds take turns with the plain one's. */
interface Setting {
  readonly what: string;
  readonly readers: number;
  readonly spillway: Target;
  readonly plain: Target | null;
}

interface Target {
  readonly url: string;
  readonly paths: readonly string[];
}

type Results = { readonly spillway: ReadResult[]; readonly plain: ReadResult[] };

/** @param rounds of `seconds` each, for every setting */
export async function benchRead(stack: BenchStack, rounds: number, seconds: number): Promise<Report> {
  const begun = createProgress(2);
  begun.step(`${whole(GROUPS.length * CLIENTS * EVENTS)} events: the log, the sink, and a plain table`);
  await fill(stack);
  begun.step("starting query nodes, near and far");
  const { proxy, url: farUrl } = await proxiedPostgres(stack.databaseUrl ?? "");
  await using _proxy = proxy;
  proxy.delayMs = AWAY_MS / 2;
  const servers = await serve(stack, farUrl);
  const cursors = await allCursors(servers.spillway);
  begun.end();
  const settings = settingsOf(servers, cursors);
  const progress = createProgress(settings.length * rounds);
  const results: Results[] = settings.map(() => ({ spillway: [], plain: [] }));
  for (const { spillway, plain } of settings)
    if (plain) await compare(`${spillway.url}${spillway.paths[0]}`, `${plain.url}${plain.paths[0]}`);
  for (let round = 0; round < rounds; round++)
    for (const [at, { what, readers, spillway, plain }] of settings.entries()) {
      progress.step(`round ${round + 1}: ${what}`);
      const load = ({ url, paths }: Target): Promise<ReadResult> => {
        const order: ReadOrder = { url, paths, readers, seconds };
        return stack.measure<ReadResult>("bench/read/load.ts", order);
      };
      // Who is first alternates: what the machine does besides hits both alike.
      if (plain && round % 2 === 0) results[at]?.plain.push(await load(plain));
      results[at]?.spillway.push(await load(spillway));
      if (plain && round % 2 === 1) results[at]?.plain.push(await load(plain));
    }
  progress.end();
  return report(settings, results, rounds, seconds);
}

/** One client after the other: a node keeps nobody waiting for a connection longer than two seconds. */
async function allCursors(url: string): Promise<Cursors> {
  const cursors = new Map<string, readonly string[]>();
  for (const group of GROUPS)
    for (const nth of Array(CLIENTS).keys()) {
      const clientId = clientIdOf(group, nth);
      cursors.set(clientId, await cursorsOf(url, clientId));
    }
  return cursors;
}

/** Saved is what the sink saves before it is stopped. */
async function fill(stack: BenchStack): Promise<void> {
  const { brokers, topic, partitions, databaseUrl = "" } = stack;
  const { stop } = await stack.serve("apps/sink/main.ts");
  const add = (parts: FillOrder["parts"]): Promise<{ events: number }> => {
    const order: FillOrder = { brokers, topic, partitions, databaseUrl, clients: CLIENTS, parts };
    return stack.measure("bench/read/fill.ts", order);
  };
  const { events } = await add([
    { group: "saved", from: 0, to: EVENTS },
    { group: "mixed", from: 0, to: EVENTS / 2 },
  ]);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    for (let waitedMs = 0, saved = 0; saved < events; waitedMs += 200) {
      if (waitedMs > SAVE_LIMIT_MS) throw new Error(`the sink saved ${saved} of ${events} events`);
      await delay(200);
      const { rows } = await client.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.event");
      saved = rows[0]?.n ?? 0;
    }
    await stop();
    await client.query("VACUUM ANALYZE");
  } finally {
    await client.end();
  }
  await add([
    { group: "mixed", from: EVENTS / 2, to: EVENTS },
    { group: "unsaved", from: 0, to: EVENTS },
  ]);
}

async function serve(stack: BenchStack, farUrl: string): Promise<Servers> {
  const far = { DATABASE_URL: farUrl };
  return {
    spillway: (await stack.serve("apps/query/main.ts", { SPILLWAY_TAIL_BYTES })).url,
    plain: (await stack.serve("bench/read/plain.ts")).url,
    far: {
      spillway: (await stack.serve("apps/query/main.ts", far)).url,
      plain: (await stack.serve("bench/read/plain.ts", { ...far, PLAIN_CONNECTIONS: String(PAGE_CONNECTIONS) })).url,
    },
  };
}

function settingsOf({ spillway, plain, far }: Servers, cursors: Cursors): Setting[] {
  const at = (url: string, paths: readonly string[]): Target => ({ url, paths });
  const pages = (group: Group, events: number, readers: number): Setting => {
    const paths = pathsOf(group, events, cursors);
    const what = `${group}, ${whole(events)} events, ${readers} ${readers === 1 ? "reader" : "readers"}`;
    return { what, readers, spillway: at(spillway, paths.spillway), plain: at(plain, paths.plain) };
  };
  const hundred: Paths = pathsOf("saved", 100, cursors);
  const barrier = (consistency: string, readers: number): Setting => {
    const { spillway: paths } = pathsOf("unsaved", 1, cursors, { consistency, view: "unsaved" });
    return {
      what: `consistency=${consistency}, ${whole(readers)} readers`,
      readers,
      spillway: at(spillway, paths),
      plain: null,
    };
  };
  return [
    ...GROUPS.flatMap((group) =>
      PAGE_EVENTS.flatMap((events) => READERS.map((readers) => pages(group, events, readers))),
    ),
    {
      what: `saved, 100 events, 64 readers of one page`,
      readers: 64,
      spillway: at(spillway, hundred.spillway.slice(0, 1)),
      plain: at(plain, hundred.plain.slice(0, 1)),
    },
    {
      what: `saved, 100 events, 64 readers, database ${AWAY_MS} ms away`,
      readers: 64,
      spillway: at(far.spillway, hundred.spillway),
      plain: at(far.plain, hundred.plain),
    },
    ...BARRIER_READERS.flatMap((readers) => ["latest", "known"].map((consistency) => barrier(consistency, readers))),
  ];
}

function report(settings: readonly Setting[], results: readonly Results[], rounds: number, seconds: number): Report {
  const of = (at: number): Results => results[at] ?? { spillway: [], plain: [] };
  const find = (text: string): number => settings.findIndex(({ what }) => what.startsWith(text));
  const rate = (some: readonly ReadResult[]): number => median(some.map(({ pagesPerSecond }) => pagesPerSecond));
  const cpu = (some: readonly ReadResult[]): number => median(some.map(({ cpuMicros }) => cpuMicros));
  const meanMs = (at: number): number => ((settings[at]?.readers ?? 0) * 1_000) / rate(of(at).spillway);
  const ratio = (at: number): number =>
    median(
      of(at).spillway.map(({ pagesPerSecond }, n) => pagesPerSecond / (of(at).plain[n]?.pagesPerSecond ?? Number.NaN)),
    );
  const detail = (at: number): string => {
    const { spillway, plain } = of(at);
    const failures = [...spillway, ...plain].reduce((sum, one) => sum + one.failures, 0);
    return [
      `${plain.length > 0 ? `${ratio(at).toFixed(2)} of ${whole(rate(plain))}; ` : ""}mean ${ms(meanMs(at))}`,
      `p99 ${ms(median(spillway.map(({ p99Ms }) => p99Ms)))}`,
      `CPU ${whole(cpu(spillway))} µs${plain.length > 0 ? ` against ${whole(cpu(plain))}` : ""}`,
      ...(failures > 0 ? [`${whole(failures)} FAILURES`] : []),
    ].join(", ");
  };
  const far = find("saved, 100 events, 64 readers, database");
  const barriers = BARRIER_READERS.map((readers) => {
    const [latest, known] = ["latest", "known"].map((one) => find(`consistency=${one}, ${whole(readers)} `)) as [
      number,
      number,
    ];
    const micros = cpu(of(latest).spillway) - cpu(of(known).spillway);
    return `${whole(readers)}: ${whole(micros)} µs CPU and ${(meanMs(latest) - meanMs(known)).toFixed(2)} ms a read`;
  });
  const bar = (group: Group, least: number) => ({
    what: `${group}, 100 events, linearizable, 64 readers, to the plain SELECT`,
    value: ratio(find(`${group}, 100 events, 64 readers`)),
    least,
    unit: "ratio" as const,
  });
  return {
    title: `Read: medians of ${rounds} rounds of ${seconds} s, settings and the plain SELECT taking turns`,
    rows: settings.map(({ what }, at) => ({
      what,
      figure: `${whole(rate(of(at).spillway))} pages/s`,
      detail: detail(at),
    })),
    bars: [
      bar("saved", 0.95),
      bar("mixed", 0.95),
      bar("unsaved", 2),
      { what: `pages/s ${AWAY_MS} ms away, to 500`, value: rate(of(far).spillway) / 500, least: 1, unit: "ratio" },
    ],
    notes: [
      `What the read barrier costs, consistency=latest less known, by readers: ${barriers.join("; ")}.`,
      "CPU is the server process' alone. Servers, load, broker and database share the cores.",
      `The plain server has pg's usual pool of 10; ${AWAY_MS} ms away both have ${PAGE_CONNECTIONS} connections for pages.`,
    ],
    raw: settings.map(({ what }, at) => ({ what, ...of(at) })),
  };
}
