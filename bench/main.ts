/** `npm run bench -- QUESTION [options]`: one question a file, figures that can be repeated. */
import { parseArgs } from "node:util";
import { benchConnections } from "./connections/connections.ts";
import { benchCosts } from "./costs.ts";
import { benchGrowth, POSTGRES as SMALL_POSTGRES } from "./growth/growth.ts";
import { benchIngest } from "./ingest.ts";
import { benchLive } from "./live/live.ts";
import { benchOverload } from "./overload/overload.ts";
import { benchPath } from "./path.ts";
import { benchRead } from "./read/read.ts";
import { benchRelay } from "./relay/relay.ts";
import { type Report, tell } from "./report.ts";
import { benchSink } from "./sink/sink.ts";
import { type BenchStack, type Needs, startStack } from "./stack.ts";
import { benchTail } from "./tail/tail.ts";
import { benchHour, POSTGRES as HOUR_POSTGRES } from "./throttle/hour.ts";
import { benchThrottle } from "./throttle/throttle.ts";

const USAGE = `npm run bench -- QUESTION [--rounds n] [--seconds n] [--events n] [--out FOLDER] [--json FILE]

  ingest    acknowledged events/s, next to a route that answers at once and next to kafkajs alone
  live      what a live frame and an idle socket cost, next to a bare ws loop that writes the same frames
  costs     processor time of an event in each part, from its POST until it is saved
  overload  2,000 events/s on a far database of 20 connections: by INSERTs, PgBouncer, a queue, and Spillway
  path      from the acknowledgement until an event is readable, saved, and in a live frame
  sink      rows/s of a backlog, next to a bare COPY loop and to one INSERT an event; several sinks; repeated ids
  read      pages/s, next to Fastify and pg doing the plain SELECT; near and 30 ms away; what the read barrier costs
  relay     rows/s from an application's event buffer to the log, next to a naive loop; what emit costs; commit to readable
  connections
            what the database has open while 10,000 clients are connected: readers of a query node, and clients of PgBouncer
  tail      pages of a node with millions of unsaved events, next to one that has them all in memory; its memory and stops
  throttle  what the sink leaves to others who use the database, next to fixed batches and a latency limiter
  hour      the same over an hour of checkpoints, autovacuum and a growing table; Ctrl-C reports what it has so far
  growth    what a row costs while the table grows, as it is and in 16 hash partitions; Ctrl-C reports what it has so far

  --rounds   how often the settings take turns (ingest: default 5; throttle: 5; sink: 3; read: 3; relay: 5)
  --events   in the backlog (sink; default 400000; tail: 10000000), in each table (growth; default 20000000)
  --seconds  of each turn (ingest: default 4; throttle: 5; read: 2; relay: 4), or of the whole measurement (live: 10 each; costs: 15 each; overload: 120 each; path: 20; connections: 20 each; hour: 3600)
  --out      folder for plots (connections, throttle, hour, growth, overload)
  --json     writes everything measured into FILE too
`;

interface Order {
  readonly rounds: string | undefined;
  readonly seconds: string | undefined;
  readonly events: string | undefined;
  readonly out: string | undefined;
}

/** As an operator with some memory would have it, and without a checkpoint in every turn. */
const POSTGRES = { shared_buffers: "1GB", max_wal_size: "4GB" };

interface Question {
  readonly needs: Needs;
  /** On Ctrl-C it reports what it has so far, instead of nothing. */
  readonly endsEarly?: boolean;
  ask(stack: BenchStack, order: Order, over: AbortSignal): Promise<Report>;
}

const QUESTIONS: Readonly<Record<string, Question>> = {
  ingest: {
    needs: { kafka: true },
    ask: (stack, { rounds, seconds }) => benchIngest(stack, count(rounds, 5), count(seconds, 4)),
  },
  costs: {
    needs: { kafka: true, postgres: POSTGRES },
    ask: (stack, { seconds }) => benchCosts(stack, count(seconds, 15)),
  },
  overload: {
    needs: { kafka: true, postgres: { ...POSTGRES, max_connections: "20" } },
    ask: (stack, { seconds, out }) => benchOverload(stack, count(seconds, 120), out),
  },
  path: { needs: { kafka: true, postgres: {} }, ask: (stack, { seconds }) => benchPath(stack, count(seconds, 20)) },
  live: {
    needs: { kafka: true, postgres: {} },
    ask: (stack, { seconds }) => benchLive(stack, count(seconds, 10)),
  },
  sink: {
    needs: { kafka: true, postgres: POSTGRES },
    ask: (stack, { rounds, events }) => benchSink(stack, count(rounds, 3), count(events, 400_000)),
  },
  read: {
    needs: { kafka: true, postgres: POSTGRES },
    ask: (stack, { rounds, seconds }) => benchRead(stack, count(rounds, 3), count(seconds, 2)),
  },
  relay: {
    needs: { kafka: true, postgres: POSTGRES },
    ask: (stack, { rounds, seconds }) => benchRelay(stack, count(rounds, 5), count(seconds, 4)),
  },
  tail: {
    needs: { kafka: true, postgres: {} },
    ask: (stack, { events, seconds }) => benchTail(stack, count(events, 10_000_000), count(seconds, 10)),
  },
  connections: {
    needs: { kafka: true, postgres: { max_connections: "20" } },
    ask: (stack, { seconds, out }) => benchConnections(stack, count(seconds, 20), out),
  },
  throttle: {
    needs: { postgres: POSTGRES },
    ask: (stack, { rounds, seconds, out }) => benchThrottle(stack, count(rounds, 5), count(seconds, 5), out),
  },
  hour: {
    needs: { postgres: HOUR_POSTGRES },
    endsEarly: true,
    ask: (stack, { seconds, out }, over) => benchHour(stack, count(seconds, 3_600) / 60, out, over),
  },
  growth: {
    needs: { postgres: SMALL_POSTGRES },
    endsEarly: true,
    ask: (stack, { events, out }, over) => benchGrowth(stack, count(events, 20_000_000), out, over),
  },
};

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: "string" },
      seconds: { type: "string" },
      events: { type: "string" },
      out: { type: "string" },
      json: { type: "string" },
    },
  });
  const question = QUESTIONS[positionals[0] ?? ""];
  if (positionals.length !== 1 || question === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const stack = await startStack(question.needs);
  const over = new AbortController();
  const stop = (): void => void stack.close().finally(() => process.exit(1));
  const endEarly = (): void => {
    over.abort();
    process.once("SIGINT", stop);
  };
  process.once("SIGINT", question.endsEarly ? endEarly : stop).once("SIGTERM", stop);
  try {
    for (const line of stack.what) process.stderr.write(`${line}\n`);
    const { rounds, seconds, events, out } = values;
    tell(await question.ask(stack, { rounds, seconds, events, out }, over.signal), stack, values.json);
    return 0;
  } finally {
    await stack.close();
  }
}

/** @throws Error unless it is a positive whole number */
function count(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  throw new Error(`${text} must be a whole number above 0`);
}

await main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
