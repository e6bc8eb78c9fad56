/**
 * A query node with little memory holds far more unsaved events than that fits: what it shows is as right as ever, while
 * they wait, while they are saved, after it was killed, and with a disk that is full.
 */
import { readdirSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { smallDisk } from "../../promises/support/small-disk.ts";
import { newFolder } from "../../support/folder.ts";
import type { App } from "../../support/process.ts";
import { until } from "../../support/until.ts";
import { Given, type Placed, page } from "./given.ts";

const CLIENTS = ["a", "b", "c", "d", "e"];
const RUN_EVENTS = 400;
const RUNS = 10;
/** The least that the setting takes: 1,300 of these events. */
const MEMORY_BYTES = 1024 * 1024;

/** A metric of the node. */
async function metric({ url }: App, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^spillway_query_tail_${name} (\\S+)$`, "m").exec(text)?.[1]);
}

/** Page after page. @param on where the next one begins */
async function walk(
  node: App,
  clientId: string,
  on: "after" | "before",
  more: Record<string, string> = {},
): Promise<string[]> {
  const texts: string[] = [];
  for (let at = {}; ; ) {
    const answer = await page(node, { clientId, order: on === "after" ? "asc" : "desc", limit: "300", ...more, ...at });
    expect(answer.status, answer.text).toBe(200);
    texts.push(...answer.events.map(({ cursor }) => cursor));
    if (!answer.hasMore) return texts;
    at = { [on]: answer.next };
  }
}

const readyz = async ({ url }: App): Promise<string> => (await fetch(`${url}/readyz`)).text();

describe("with memory for 1,300 events and 20,000 unsaved ones", () => {
  const folder = newFolder("events-on-disk");
  let given: Given;
  let node: App;
  beforeAll(async () => {
    given = await Given.create();
    for (let run = 0; run < RUNS; run++)
      for (const clientId of CLIENTS)
        await given.append(
          ...Array.from({ length: RUN_EVENTS }, (_, n) =>
            given.event(clientId, { type: n % 50 === 0 ? "rare" : "made" }),
          ),
        );
    node = await start();
  });
  afterAll(async () => {
    expect(await node.stop()).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
    rmSync(folder, { recursive: true });
    await given[Symbol.asyncDispose]();
  });

  async function start(): Promise<App> {
    const started = await given.node({
      SPILLWAY_TAIL_BYTES: String(MEMORY_BYTES),
      SPILLWAY_TAIL_FOLDER: folder,
    });
    await started.ready();
    return started;
  }

  /** First copies alone. */
  const truth = (clientId: string, type?: string): string[] => {
    const ids = new Set<string>();
    return given.placed
      .filter(({ event }) => event.clientId === clientId && !ids.has(event.id) && ids.add(event.id))
      .filter(({ event }) => type === undefined || event.type === type)
      .map(({ cursor }) => cursor);
  };

  async function showsAll(): Promise<void> {
    for (const clientId of CLIENTS) {
      expect(await walk(node, clientId, "after")).toEqual(truth(clientId));
      expect(await walk(node, clientId, "before")).toEqual(truth(clientId).reverse());
      expect(await walk(node, clientId, "after", { type: "rare" })).toEqual(truth(clientId, "rare"));
    }
  }

  test("every page shows what memory alone would", async () => {
    expect(await metric(node, "disk_records")).toBeGreaterThan(15_000);
    expect(await metric(node, "bytes")).toBeLessThan(MEMORY_BYTES);
    await showsAll();
    const [first] = given.placed as [Placed];
    const answer = await page(node, { clientId: first.event.clientId, limit: "1" });
    expect(answer.text).toContain(first.json);
  });

  test("an event that is sent again when the first copy is on disk is shown once", async () => {
    const again = CLIENTS.map((clientId) => given.placed.find(({ event }) => event.clientId === clientId) as Placed);
    await given.append(...again.map(({ event }) => ({ ...event, data: '"another"' })));
    await showsAll();
  });

  test("a follower from the beginning gets every event once, and those that come", async () => {
    const [clientId = ""] = CLIENTS;
    const socket = new WebSocket(`${node.url.replace("http", "ws")}/api/v1/events/live?clientId=${clientId}&after=0`);
    const cursors: string[] = [];
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(String(data)) as { readonly type: string; readonly events?: { cursor: string }[] };
      if (frame.type === "events") cursors.push(...(frame.events ?? []).map(({ cursor }) => cursor));
    };
    const wanted = truth(clientId);
    await until("all are there", () => cursors.length >= wanted.length);
    const [late] = await given.append(given.event(clientId));
    await until("the new one is there", () => cursors.includes(late?.cursor ?? ""));
    expect(cursors).toEqual([...wanted, late?.cursor]);
    socket.close();
  });

  test("a node that is killed leaves files behind, and the next one removes them and holds the same", async () => {
    const left = readdirSync(folder);
    await node.kill();
    expect(left.length).toBeGreaterThan(0);
    expect(readdirSync(folder)).toEqual(left);
    node = await start();
    expect(readdirSync(folder).filter((name) => left.includes(name))).toEqual([]);
    await showsAll();
  });

  test("what is saved leaves the disk, and pages stay what they were", async () => {
    const ends = new Map(given.placed.map(({ partition, offset }) => [partition, offset + 1n]));
    for (const [partition, end] of ends) await given.save(partition, end / 2n);
    await showsAll();
    for (const [partition, end] of ends) await given.save(partition, end);
    await showsAll();
    await until("the disk is empty", () => readdirSync(folder).length === 0);
    await until("its metrics say so", async () => (await metric(node, "disk_records")) === 0);
  });

  test("a checkpoint that goes back is read again from there, to disk", async () => {
    const ends = new Map(given.placed.map(({ partition, offset }) => [partition, offset + 1n]));
    for (const partition of ends.keys()) await given.rewind(partition, 0n);
    await until("it is read again", async () => (await metric(node, "disk_records")) > 15_000);
    await node.ready();
    await showsAll();
  });
});

test("a disk that is full stops reading, says so, and is used again when there is room", async ({ skip }) => {
  const disk = await smallDisk(process.pid, 32);
  if (typeof disk === "string") {
    console.log(`not run: a full disk: ${disk}`);
    return skip(disk);
  }
  await using _disk = disk;
  await using given = await Given.create();
  disk.fill();
  await using node = await given.node({
    SPILLWAY_TAIL_BYTES: String(MEMORY_BYTES),
    SPILLWAY_TAIL_FOLDER: disk.folder,
  });
  await node.ready();
  for (let run = 0; run < 15; run++) await given.append(...Array.from({ length: RUN_EVENTS }, () => given.event("a")));
  const told = await until("it says that it is full", async () => {
    const text = await readyz(node);
    return text.includes("tail full") && text.includes(`${disk.folder} does not take more`) && text;
  });
  expect(told).toMatch(/No space left|ENOSPC/);
  // What made it full may have been the last there was; a full tail asks for no more.
  await given.append(given.event("a"));
  expect((await page(node, { clientId: "a", timeoutMs: "500" })).code).toBe("behind");
  disk.free();
  // It is ready as soon as there is room again; the rest is read then.
  await until("most of it is on disk", async () => (await metric(node, "disk_records")) > 3_000);
  expect(await walk(node, "a", "after")).toEqual(given.placed.map(({ cursor }) => cursor));
});
