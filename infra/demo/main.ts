/** `npm run demo`: replays 20,000 real flights, follows one airport live, reads all back and compares. */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { SpillwayClient } from "../../clients/typescript/src/index.ts";
import { whole } from "../figures.ts";
import { refusedFlag } from "../flags.ts";
import type { Say } from "../server.ts";
import { Comparison, type Sent } from "./compare.ts";
import { departure, readFlights } from "./flights.ts";
import { Follower } from "./follow.ts";
import { inWords } from "./in-words.ts";
import { findNode } from "./node.ts";
import { createProgress } from "./progress.ts";
import { allSaved, type ReadFigures, type ReadOrder, readBack, readStarts } from "./read-back.ts";
import { type SendFigures, sendAll, type Target } from "./send.ts";
import { type Outcome, verdict } from "./verdict.ts";

const USAGE = `npm run demo -- [--url http://127.0.0.1:3000] [--token TOKEN] [--rate 2000] [--wait-saved]

  --url         a running Spillway; without it that of npm start, which is started if none runs
  --token       where it has keys: of one that may append and read every client
  --rate        events a second
  --wait-saved  waits until everything is saved, then reads and compares once more
`;
const LANES = 16;
/** Longer than any single process needs to come back. */
const TIMEOUT_MS = 180_000;
/** What was acknowledged is readable at once; a live frame may wait for a process that is coming back. */
const LIVE_LIMIT_MS = 120_000;
/** A sink that was killed is missed after its session timeout of 45 s; only then another takes its partitions. */
const SAVED_LIMIT_MS = 120_000;
const SAVED_HINT_MS = 5_000;
const SAVED_HINT = `nothing is being saved: does a sink run? Start one; this waits for it for ${SAVED_LIMIT_MS / 1_000} s.
  npm start, without --without-sink, runs one. By itself, with the addresses that npm start has said:
  KAFKA_BROKERS=… DATABASE_URL=… npx node apps/sink/main.ts
  One that was killed is replaced when its session is over: after 10 s under npm start, else 45 s.`;

const say: Say = (line) => void process.stdout.write(`${line}\n`);

interface Options {
  readonly url: string | undefined;
  readonly token: string | undefined;
  readonly rate: number;
  readonly waitSaved: boolean;
}

/** @throws Error when it cannot be run to its end */
async function demo(url: string, { token, rate, waitSaved }: Options, signal: AbortSignal): Promise<Outcome> {
  const run = randomBytes(4).toString("hex");
  const events: Sent[] = readFlights().map((flight, row) => ({ event: departure(flight, row, run), resent: false }));
  const sent = Map.groupBy(events, ({ event }) => event.clientId);
  const [airport, own] = [...sent].reduce((most, next) => (next[1].length > most[1].length ? next : most));
  const target = { url, token, timeoutMs: TIMEOUT_MS };
  const client = new SpillwayClient(target);
  say(`run ${run}: ${whole(events.length)} flights of ${sent.size} airports to ${url}, following ${airport}`);
  const starts = await readStarts(client, sent.keys(), signal);
  const order: ReadOrder = { client, run, signal, sent, starts };
  const comparison = new Comparison(run, own);
  const follower = new Follower(client, airport, starts.get(airport) ?? "0", comparison);
  const following = follower.run();
  const live = async (): Promise<Outcome["live"]> => {
    const trouble = await follower.complete(LIVE_LIMIT_MS);
    const { examples } = comparison;
    return { airport, events: own.length, ...follower.figures, findings: comparison.finish(), examples, trouble };
  };
  try {
    const figures = await send({ target, events, rate, signal });
    const seen = await live();
    const reads = [{ when: "read at once", figures: await read("reading", order, events.length) }];
    if (waitSaved) {
      const progress = createProgress("saving", sent.size);
      await allSaved(order, {
        limitMs: SAVED_LIMIT_MS,
        hintMs: SAVED_HINT_MS,
        progress: (airports) => progress.at(airports, "airports"),
        stands: () => say(`\n${SAVED_HINT}`),
      });
      progress.end();
      reads.push({ when: "read saved", figures: await read("reading", order, events.length) });
    }
    return { run, events: events.length, airports: sent.size, rate, sent: figures, live: seen, reads };
  } finally {
    follower.close();
    await following;
  }
}

async function send(order: {
  target: Target;
  events: Sent[];
  rate: number;
  signal: AbortSignal;
}): Promise<SendFigures> {
  const progress = createProgress("sending", order.events.length);
  const begin = performance.now();
  try {
    return await sendAll({
      ...order,
      lanes: LANES,
      progress: (acknowledged, resends) => {
        const rate = acknowledged / ((performance.now() - begin) / 1_000);
        progress.at(acknowledged, `${whole(rate)}/s, ${resends} resends`);
      },
    });
  } finally {
    progress.end();
  }
}

async function read(what: string, order: ReadOrder, total: number): Promise<ReadFigures> {
  const progress = createProgress(what, total);
  try {
    return await readBack(order, (events) => progress.at(events));
  } finally {
    progress.end();
  }
}

/** @throws Error that says what is wrong with the command line */
function readOptions(): Options {
  const values = readFlags();
  const rate = Number(values.rate);
  if (!(rate > 0 && rate <= 1_000_000)) throw new Error(`--rate ${values.rate} must be a number of events a second`);
  return { url: values.url, token: values.token, rate, waitSaved: values["wait-saved"] };
}

function readFlags() {
  try {
    const { values } = parseArgs({
      options: {
        url: { type: "string" },
        token: { type: "string" },
        rate: { type: "string", default: "2000" },
        "wait-saved": { type: "boolean", default: false },
      },
    });
    return values;
  } catch (error) {
    throw refusedFlag(error, USAGE);
  }
}

async function main(): Promise<number> {
  if (process.argv.includes("--help")) {
    say(USAGE);
    return 0;
  }
  const options = readOptions();
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => stop.abort(new Error("stopped")));
  const node = await findNode(options.url, say, stop.signal);
  try {
    const { clean, lines } = verdict(await demo(node.url, options, stop.signal));
    for (const line of lines) say(line);
    return clean ? 0 : 1;
  } catch (error) {
    // What was under way fails in its own words; the person who pressed Ctrl-C knows why.
    throw stop.signal.aborted ? stop.signal.reason : error;
  } finally {
    await node.stop();
  }
}

await main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`demo: ${inWords(error)}\n`);
    process.exit(1);
  },
);
