/** Streams lines into one URL for some seconds over several connections, from a process of its own; prints one JSON line. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { json } from "node:stream/consumers";
import { benchEvents } from "./events.ts";
import type { LoadOrder, LoadResult } from "./load.ts";

/** What a stream is told at its end. */
interface Told {
  readonly accepted?: number;
  readonly rejected?: number;
  /** Of a problem. */
  readonly code?: string;
}

const { url, connections, seconds, eventsPerBody, bodies } = JSON.parse(process.argv[2] ?? "null") as LoadOrder;
/** Written one after the other, over and over. */
const pieces = Array.from({ length: bodies }, (_, n) =>
  Buffer.from(
    benchEvents(n * eventsPerBody, eventsPerBody)
      .map((event) => `${JSON.stringify(event)}\n`)
      .join(""),
  ),
);

/** @throws Error when it is ended early: what it did not take is no part of a rate */
async function stream(untilMs: number): Promise<Told> {
  const sent = request(url, { method: "POST", headers: { "content-type": "application/x-ndjson" } });
  const answered = new AbortController();
  const response = once(sent, "response");
  const enough = (): void => answered.abort();
  response.then(enough, enough);
  for (let n = 0; performance.now() < untilMs && !answered.signal.aborted; n++)
    if (!sent.write(pieces[n % pieces.length]))
      await once(sent, "drain", { signal: answered.signal }).catch(() => undefined);
  sent.end();
  const [incoming] = (await response) as [IncomingMessage];
  const told = (await json(incoming)) as Told;
  if (told.code !== undefined) throw new Error(`a stream was ended early: ${JSON.stringify(told).slice(0, 500)}`);
  return told;
}

const begin = performance.now();
const told = await Promise.all(Array.from({ length: connections }, () => stream(begin + seconds * 1_000)));
const sum = (count: (one: Told) => number | undefined): number => told.reduce((all, one) => all + (count(one) ?? 0), 0);
const printed: LoadResult = {
  eventsPerSecond: sum(({ accepted }) => accepted) / ((performance.now() - begin) / 1_000),
  failures: sum(({ rejected }) => rejected ?? 1),
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
