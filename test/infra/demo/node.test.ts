import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { SpillwayClient } from "../../../clients/typescript/src/index.ts";
import { inWords } from "../../../infra/demo/in-words.ts";
import { candidates } from "../../../infra/demo/node.ts";
import { allSaved, readStarts } from "../../../infra/demo/read-back.ts";
import { addressFile } from "../../../infra/start-options.ts";
import { newFolder } from "../../support/folder.ts";

const never = new AbortController().signal;

/** A node that answers every request by `answer`. */
async function node(answer: () => { status: number; saved?: string; body?: unknown }) {
  const server = createServer((_request, response) => {
    const { status, saved = "", body = { events: [], next: "0", hasMore: false } } = answer();
    response.writeHead(status, { "spillway-saved-through": saved }).end(JSON.stringify(body));
  });
  onTestFinished(() => void server.close());
  await new Promise<void>((listening) => void server.listen(0, "127.0.0.1", listening));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const clientOf = (url: string): SpillwayClient => new SpillwayClient({ url });

describe("the demo", () => {
  test("looks where npm start says that it runs, whatever its port; a given port goes first", () => {
    const data = newFolder("demo-node");
    onTestFinished(() => rmSync(data, { recursive: true }));
    expect(candidates(undefined, data)).toEqual(["http://127.0.0.1:3000"]);
    writeFileSync(addressFile(data), "http://127.0.0.1:3177");
    expect(candidates(undefined, data)).toEqual(["http://127.0.0.1:3177", "http://127.0.0.1:3000"]);
    expect(candidates("3200", data)).toEqual(["http://127.0.0.1:3200"]);
  });

  test.each([401, 403])("says how to make its key when it is answered %i", async (status) => {
    const url = await node(() => ({ status, body: { code: "forbidden", detail: "There is none" } }));
    const error = await readStarts(clientOf(url), ["LAS"], never).catch((thrown: unknown) => thrown);
    expect(inWords(error)).toMatch(/^forbidden: There is none\n.*npm run keys .* --token TOKEN/);
    expect(inWords(new Error("another"))).toBe("another");
  });

  test("says that nothing is being saved, once, and goes on when a sink has come", async () => {
    let sink = false;
    const url = await node(() => ({ status: 200, saved: sink ? "05" : "03" }));
    const sent = new Map([["LAS", [{ event: {} as never, cursor: "04", resent: false }]]]);
    const order = { client: clientOf(url), run: "r", signal: never, sent, starts: new Map<string, string>() };
    const progress: number[] = [];
    let hints = 0;
    await allSaved(order, {
      limitMs: 60_000,
      hintMs: 0,
      progress: (clients) => progress.push(clients),
      stands: () => {
        hints += 1;
        sink = true;
      },
    });
    expect([hints, progress]).toEqual([1, [0, 1]]);
  });

  test("gives up when no sink comes", async () => {
    const url = await node(() => ({ status: 200, saved: "03" }));
    const sent = new Map([["LAS", [{ event: {} as never, cursor: "04", resent: false }]]]);
    const order = { client: clientOf(url), run: "r", signal: never, sent, starts: new Map<string, string>() };
    const wait = { limitMs: 0, hintMs: 60_000, progress: () => undefined, stands: () => undefined };
    await expect(allSaved(order, wait)).rejects.toThrow("nothing was saved for 0 s, and 1 airports wait");
  });
});
