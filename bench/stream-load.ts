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

async function stream(untilMs: number): Promise<Told> {
  const sent = request(url, { method: "POST", headers: { "content-type": "application/x-ndjson" } });
  const answer = once(sent, "response").then(([response]) => json(response as IncomingMessage) as Promise<Told>);
  for (let n = 0; performance.now() < untilMs; n++)
    if (!sent.write(pieces[n % pieces.length])) await once(sent, "drain");
  sent.end();
  return answer;
}

const begin = performance.now();
const told = await Promise.all(Array.from({ length: connections }, () => stream(begin + seconds * 1_000)));
const sum = (count: (one: Told) => number | undefined): number => told.reduce((all, one) => all + (count(one) ?? 0), 0);
const printed: LoadResult = {
  eventsPerSecond: sum(({ accepted }) => accepted) / ((performance.now() - begin) / 1_000),
  failures: sum(({ rejected }) => rejected ?? 1),
};
process.stdout.write(`${JSON.stringify(printed)}\n`);
