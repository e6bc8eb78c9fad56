/**
 * Promise: clients that others wrote follow without a gap and without a repeat, each resuming as it does by itself. Attack: all
 * connections cut at once, again and again, in the middle of what is being sent, and all who were cut come back at once.
 */
import { spawn } from "node:child_process";
import { EventSource } from "eventsource";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { BEGINNING } from "#lib/cursor.ts";
import { createProxy, type TcpProxy } from "../../../infra/proxy.ts";
import type { App } from "../../support/process.ts";
import { until } from "../../support/until.ts";
import { Given } from "./given.ts";

const CUTS = 6;
/** After each cut, while they come back. */
const SENDS = 4;
const EVENTS_A_SEND = 100;

/** Follows on its own over all interruptions. */
interface Follower {
  readonly ids: string[];
  /** How often it was answered. */
  readonly connects: number;
  close(): void;
}

interface Frame {
  readonly cursor?: string;
  readonly events?: readonly { readonly id: string; readonly cursor: string }[];
}

/** What a reader keeps: the ids that it was shown, and where to resume. */
class Kept {
  readonly ids: string[] = [];
  cursor: string = BEGINNING;
  connects = 0;
  stopped = false;

  take(text: string): void {
    const { events = [], cursor } = JSON.parse(text) as Frame;
    this.ids.push(...events.map(({ id }) => id));
    this.cursor = cursor ?? events.at(-1)?.cursor ?? this.cursor;
  }
}

function byWs(url: string): Follower {
  const kept = new Kept();
  let socket: WebSocket;
  const connect = (): void => {
    if (kept.stopped) return;
    socket = new WebSocket(`${url.replace("http", "ws")}&after=${kept.cursor}`);
    socket.on("open", () => {
      kept.connects += 1;
    });
    socket.on("message", (data: Buffer) => kept.take(data.toString("utf8")));
    socket.on("error", () => undefined);
    socket.on("close", connect);
  };
  connect();
  return handle(kept, () => socket.terminate());
}

/** It sends `Last-Event-ID` by itself. */
function byEventSource(url: string): Follower {
  const kept = new Kept();
  const source = new EventSource(`${url}&after=${BEGINNING}`);
  source.addEventListener("open", () => {
    kept.connects += 1;
  });
  source.addEventListener("events", ({ data }) => kept.take(String(data)));
  return handle(kept, () => source.close());
}

/** A shell's loop around it, which keeps the last whole event's id. */
function byCurl(url: string): Follower {
  const kept = new Kept();
  let curl: ReturnType<typeof spawn>;
  const connect = (): void => {
    if (kept.stopped) return;
    const headers = ["accept: text/event-stream", `last-event-id: ${kept.cursor}`];
    curl = spawn("curl", ["-sN", ...headers.flatMap((header) => ["-H", header]), url], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    curl.stdout?.once("data", () => {
      kept.connects += 1;
    });
    let rest = "";
    curl.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const blocks = `${rest}${text}`.split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data !== undefined) kept.take(data);
      }
    });
    curl.on("close", connect);
  };
  connect();
  return handle(kept, () => void curl.kill());
}

const handle = (kept: Kept, close: () => void): Follower => ({
  ids: kept.ids,
  get connects() {
    return kept.connects;
  },
  close: () => {
    kept.stopped = true;
    close();
  },
});

describe("followers of others' making, on a real log and database", () => {
  let given: Given;
  let node: App;
  let proxy: TcpProxy;
  beforeAll(async () => {
    given = await Given.create();
    node = await given.node();
    await node.ready();
    const { hostname, port } = new URL(node.url);
    proxy = await createProxy({ host: hostname, port: Number(port) });
  });
  afterAll(async () => {
    await proxy[Symbol.asyncDispose]();
    await node.kill();
    await given[Symbol.asyncDispose]();
  });

  it.each([
    ["npm's ws", "ws", byWs, 100],
    ["npm's eventsource", "es", byEventSource, 100],
    ["curl", "curl", byCurl, 10],
  ] as const)("%s, cut and coming back all at once, miss nothing and see nothing twice", async (_, name, by, count) => {
    const url = `http://127.0.0.1:${proxy.port}/api/v1/events/live?clientId=${name}`;
    const expected: string[] = [];
    const append = async (): Promise<void> => {
      const placed = await given.append(...Array.from({ length: EVENTS_A_SEND }, () => given.event(name)));
      expected.push(...placed.map(({ event }) => event.id));
    };
    await append();
    const followers = Array.from({ length: count }, () => by(url));
    try {
      for (let cut = 1; cut <= CUTS; cut++) {
        await until("all are at it", () => followers.every(({ ids, connects }) => ids.length > 0 && connects >= cut));
        await append();
        // While frames are under way.
        const before = followers.map(({ connects }) => connects);
        proxy.cut();
        for (let nth = 1; nth < SENDS; nth++) await append();
        await until("all are back", () => followers.every(({ connects }, nth) => connects > (before[nth] ?? 0)));
      }
      await until("all is shown", () => followers.every(({ ids }) => ids.length >= expected.length));
      for (const { ids } of followers) expect(ids).toEqual(expected);
    } finally {
      for (const follower of followers) follower.close();
    }
  });
});
