/** How fast does the sink save a backlog, next to a bare COPY loop of the same rows and to one INSERT an event? */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { median, whole } from "../../infra/figures.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BenchStack } from "../stack.ts";
import type { BacklogOrder } from "./backlog.ts";
import type { PlainOrder, PlainResult } from "./plain.ts";
import type { Kind } from "./rows.ts";

const CLIENTS = 10_000;
const COPY_ROWS = 5_000;
const POOL = 10;
/** One INSERT an event is slow: fewer tell as much. */
const INSERT_EVENTS = 20_000;
const LOOK_MS = 50;
const DRAIN_LIMIT_MS = 300_000;
/** Joining a group with one member more takes some seconds, by Kafka's own rules. */
const JOINED_MS = 8_000;

/** @param events in the backlog; @param rounds of all settings, in turn */
export async function benchSink(stack: BenchStack, rounds: number, events: number): Promise<Report> {
  const { databaseUrl: url = "", brokers, partitions } = stack;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const plain = (way: PlainOrder["way"], count: number, batch: number) => async (): Promise<number> => {
    const order: PlainOrder = { url, way, events: count, clients: CLIENTS, batch };
    return (await stack.measure<PlainResult>("bench/sink/plain.ts", order)).rowsPerSecond;
  };
  const topics = { clean: stack.topic, repeats: `${stack.topic}.repeats`, poison: `${stack.topic}.poison` };
  const sinks = (topic: string, count: number) => () => drain(stack, client, topic, count, events);
  const settings = [
    { what: "bare COPY loop, one connection, 5,000 rows", run: plain("copy", events, COPY_ROWS) },
    { what: `one INSERT an event, pool of ${POOL}`, run: plain("insert", INSERT_EVENTS, POOL) },
    { what: "one sink", run: sinks(topics.clean, 1) },
    { what: "one sink, a tenth repeated", run: sinks(topics.repeats, 1) },
    { what: "one sink, one in a thousand is no event", run: sinks(topics.poison, 1) },
    { what: "two sinks", run: sinks(topics.clean, 2) },
    { what: "four sinks", run: sinks(topics.clean, 4) },
  ];
  const progress = createProgress(Object.keys(topics).length + rounds * settings.length);
  try {
    for (const [kind, topic] of Object.entries(topics) as [Kind, string][]) {
      progress.step(`a backlog of ${whole(events)} events (${kind})`);
      // The sink itself makes its topic and its tables.
      const { stop } = await stack.serve("apps/sink/main.ts", { SPILLWAY_TOPIC: topic });
      await stop();
      await forgetLog(client);
      const order: BacklogOrder = { brokers, topic, partitions, events, clients: CLIENTS, kind };
      await stack.measure("bench/sink/backlog.ts", order);
    }
    const rates: number[][] = settings.map(() => []);
    for (let round = 0; round < rounds; round++)
      for (const [at, { what, run }] of settings.entries()) {
        progress.step(`round ${round + 1}: ${what}`);
        await empty(client);
        rates[at]?.push(await run());
      }
    progress.end();
    return report(settings, rates, rounds, events);
  } finally {
    await client.end();
  }
}

/** As if nothing had ever been saved; the log keeps its backlog. */
async function empty(client: pg.Client): Promise<void> {
  await client.query("TRUNCATE spillway.event, spillway.dead_letter");
  await client.query("UPDATE spillway.checkpoint SET next_offset = 0, last_offset = NULL, last_hash = NULL");
  await client.query("CHECKPOINT");
}

/** The store belongs to one log; here two share it, one after the other. */
const forgetLog = async (client: pg.Client): Promise<void> =>
  void (await client.query("DELETE FROM spillway.log_identity"));

/**
 * Starts the sinks behind a locked table, so that all are there when it is opened.
 * @returns rows/s between a tenth and nine tenths of the backlog
 */
async function drain(
  stack: BenchStack,
  client: pg.Client,
  topic: string,
  count: number,
  events: number,
): Promise<number> {
  await forgetLog(client);
  await client.query("BEGIN; LOCK TABLE spillway.event IN EXCLUSIVE MODE");
  const served = [];
  try {
    for (let n = 0; n < count; n++)
      served.push(await stack.serve("apps/sink/main.ts", { SPILLWAY_TOPIC: topic }, false));
    await delay(JOINED_MS);
    await client.query("COMMIT");
    const seen: { readonly atMs: number; readonly done: number }[] = [];
    for (let done = 0; done < events; await delay(LOOK_MS)) {
      const { rows } = await client.query<{ done: string }>("SELECT sum(next_offset) AS done FROM spillway.checkpoint");
      done = Number(rows[0]?.done);
      seen.push({ atMs: performance.now(), done });
      if (seen.length > DRAIN_LIMIT_MS / LOOK_MS)
        throw new Error(`the sinks stand at ${whole(done)} of ${whole(events)}`);
    }
    const inside = seen.filter(({ done }) => done >= 0.1 * events && done <= 0.9 * events);
    const [first, last] = [inside[0], inside.at(-1)];
    if (first === undefined || last === undefined || first === last)
      throw new Error("the backlog is too small to measure");
    return (last.done - first.done) / ((last.atMs - first.atMs) / 1_000);
  } finally {
    await client.query("ROLLBACK");
    await Promise.all(served.map(({ stop }) => stop()));
  }
}

function report(
  settings: readonly { readonly what: string }[],
  rates: readonly (readonly number[])[],
  rounds: number,
  events: number,
): Report {
  const ratio = (at: number, to: number): number =>
    median((rates[at] ?? []).map((rate, round) => rate / (rates[to]?.[round] ?? Number.NaN)));
  return {
    title: `Sink: a backlog of ${whole(events)} events of ${whole(CLIENTS)} clients, medians of ${rounds} rounds`,
    rows: settings.map(({ what }, at) => ({
      what,
      figure: `${whole(median(rates[at] ?? []))} rows/s`,
      detail: `${ratio(at, 0).toFixed(2)} of the COPY loop`,
    })),
    bars: [
      { what: "one sink to the bare COPY loop", value: ratio(2, 0), least: 0.75, unit: "ratio" },
      { what: "one sink to one INSERT an event", value: ratio(2, 1), least: 10, unit: "ratio" },
      { what: "one poison record in a thousand to none", value: ratio(4, 2), least: 0.8, unit: "ratio" },
      { what: "two sinks to one", value: ratio(5, 2), least: 1.5, unit: "ratio" },
    ],
    notes: [
      "Sinks, broker and database share the cores; the COPY loop has its rows printed beforehand and no log to read.",
    ],
    raw: settings.map(({ what }, at) => ({ what, rates: rates[at] })),
  };
}
