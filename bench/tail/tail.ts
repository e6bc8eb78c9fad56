/**
 * What a large unsaved tail costs: a node that memory is enough for, and one that finds millions of unsaved events when it
 * starts. Pages of 100 events, at random places of random clients; no sink runs, so that nothing is saved.
 */
import { setTimeout as delay } from "node:timers/promises";
import { encodeCursor } from "#lib/cursor.ts";
import { ms, whole } from "../../infra/figures.ts";
import { createProgress } from "../progress.ts";
import type { Report } from "../report.ts";
import type { BacklogOrder } from "../sink/backlog.ts";
import { clientAt, partitionFor } from "../sink/rows.ts";
import type { BenchStack } from "../stack.ts";
import type { PagesOrder, PagesResult } from "./load.ts";

const CLIENTS = 1_000;
const FEW_EVENTS = 200_000;
const PATHS = 1_000;
const READERS = [1, 16];
const LOOK_MS = 250;
const MIB = 1024 * 1024;

/** What a node was seen to take, at most. */
interface Seen {
  residentMiB: number;
  stopMs: number;
}

/** @param events unsaved in the end. @param seconds of each round of reading */
export async function benchTail(stack: BenchStack, events: number, seconds: number): Promise<Report> {
  const progress = createProgress(5);
  progress.step("a node that makes the topic");
  await (await stack.serve("apps/query/main.ts")).stop();
  progress.step(`${whole(FEW_EVENTS)} events, all in memory`);
  await fill(stack, 0, FEW_EVENTS);
  const small = await stack.serve("apps/query/main.ts", { SPILLWAY_TAIL_BYTES: String(512 * MIB) });
  const inMemory = await read(stack, small.url, FEW_EVENTS, seconds);
  await small.stop();
  progress.step(`${whole(events)} events into the log`);
  await fill(stack, FEW_EVENTS, events - FEW_EVENTS);
  progress.step("a node reads them");
  const begin = performance.now();
  const large = await stack.serve("apps/query/main.ts", {}, false);
  const seen: Seen = { residentMiB: 0, stopMs: 0 };
  while (!(await fetch(`${large.url}/readyz`)).ok) {
    await look(large.url, seen);
    await delay(LOOK_MS);
  }
  const readSeconds = (performance.now() - begin) / 1_000;
  const stopMs = seen.stopMs;
  progress.step("pages from it");
  const watch = setInterval(() => void look(large.url, seen), LOOK_MS);
  const onDisk = await read(stack, large.url, events, seconds);
  clearInterval(watch);
  const held = await metrics(large.url);
  progress.end();
  const row = ({ readers, result }: Round, what: string) => ({
    what: `${what}, ${readers} at once`,
    figure: `p50 ${ms(result.p50Ms)}, p99 ${ms(result.p99Ms)}`,
    detail: `${whole(result.pages / seconds)} a second, ${whole(result.bytesMean)} bytes each${result.failures ? `, ${result.failures} failed` : ""}`,
  });
  const diskMiB = whole((held("query_tail_disk_bytes") ?? 0) / MIB);
  return {
    title: `Tail: ${whole(events)} unsaved events of ${whole(CLIENTS)} clients, ${whole(held("query_tail_disk_records") ?? 0)} of them on disk (${diskMiB} MiB in ${held("query_tail_segments")} segments)`,
    rows: [
      ...inMemory.map((round) => row(round, `pages, ${whole(FEW_EVENTS)} events in memory`)),
      ...onDisk.map((round) => row(round, `pages, ${whole(events)} events, most on disk`)),
      {
        what: "start until ready",
        figure: `${readSeconds.toFixed(1)} s`,
        detail: `${whole(events / readSeconds)} events a second`,
      },
      { what: "longest stop of the event loop meanwhile", figure: ms(stopMs), detail: "" },
      { what: "resident at its most", figure: `${whole(seen.residentMiB)} MiB`, detail: "seen four times a second" },
    ],
    bars: [
      ...onDisk.map(({ readers, result }, nth) => ({
        what: `p99 with most on disk / all in memory, ${readers} at once`,
        value: result.p99Ms / (inMemory[nth]?.result.p99Ms ?? Number.NaN),
        most: 5,
        unit: "ratio" as const,
      })),
      { what: "resident, of 400 MB", value: (seen.residentMiB * MIB) / 400e6, most: 1, unit: "ratio" },
    ],
    notes: ["Load, node, broker and database share the cores."],
    raw: { inMemory, onDisk, ...seen, readSeconds, stopMs },
  };
}

async function fill({ brokers, topic, partitions, measure }: BenchStack, from: number, events: number): Promise<void> {
  const order: BacklogOrder = { brokers, topic, partitions, from, events, clients: CLIENTS, kind: "clean" };
  await measure("bench/sink/backlog.ts", order);
}

interface Round {
  readonly readers: number;
  readonly result: PagesResult;
}

async function read(
  { measure, partitions }: BenchStack,
  url: string,
  events: number,
  seconds: number,
): Promise<Round[]> {
  const ofClient = events / CLIENTS;
  const partitionOf = (nth: number): number => partitionFor(clientAt(nth), partitions);
  const clients = Map.groupBy(Array(CLIENTS).keys(), partitionOf);
  const paths = Array.from({ length: PATHS }, (_, n) => {
    const client = n % CLIENTS;
    const partition = partitionOf(client);
    // So many of a client lie behind it that every page is full.
    const offsets = (clients.get(partition)?.length ?? 0) * (ofClient - 120);
    const after = encodeCursor({
      epoch: 1,
      partition,
      offset: BigInt(Math.floor((offsets * ((n * 7_919) % PATHS)) / PATHS)),
    });
    return `/api/v1/events?clientId=${clientAt(client)}&limit=100&after=${after}`;
  });
  const rounds: Round[] = [];
  for (const readers of READERS) {
    const order: PagesOrder = { url, paths, readers, seconds };
    await measure("bench/tail/load.ts", { ...order, seconds: 1 });
    rounds.push({ readers, result: await measure<PagesResult>("bench/tail/load.ts", order) });
  }
  return rounds;
}

async function metrics(url: string): Promise<(name: string) => number | undefined> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return (name) => {
    const found = new RegExp(`^(?:spillway_)?${name} (\\S+)$`, "m").exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
}

async function look(url: string, seen: Seen): Promise<void> {
  const of = await metrics(url);
  seen.residentMiB = Math.max(seen.residentMiB, (of("process_resident_memory_bytes") ?? 0) / MIB);
  seen.stopMs = Math.max(seen.stopMs, (of("nodejs_eventloop_lag_max_seconds") ?? 0) * 1_000);
}
