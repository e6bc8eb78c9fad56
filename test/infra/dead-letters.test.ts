import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { jsonText, table, verdict } from "../../infra/dead-letters/table.ts";
import { startApp } from "../support/process.ts";

const letter = {
  position: "04002000001g000000000001",
  reason: "refused-23514",
  detail: "no",
  clientId: "shop",
  id: "first",
  setAsideAt: "2026-01-31T08:00:00.000Z",
  redriven: null,
};

/** A node that answers each request with the next of these, then with the last one. */
async function node(answers: readonly [status: number, body: object][]) {
  const asked: { path: string; body: string }[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const [status, body] = answers[Math.min(asked.length, answers.length - 1)] ?? [500, {}];
      asked.push({ path: request.url ?? "", body: Buffer.concat(parts).toString() });
      response.writeHead(status, { "retry-after": "0", connection: "close" }).end(JSON.stringify(body));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

async function run(...args: string[]): Promise<{ code: number | null; said: string }> {
  const app = await startApp("infra/dead-letters/main.ts", {}, args);
  return { code: await app.exit(), said: app.lines.join("\n") };
}

test("a re-drive of all ends, also where a rule of the database refuses the same events again and again", async () => {
  const { position } = letter;
  const again = { redriven: [{ position, cursor: position }], refused: [], next: position, hasMore: true };
  const { url, asked } = await node([
    [200, { deadLetters: [letter, letter, letter], next: position, hasMore: false }],
    [200, again],
  ]);
  expect(await run("redrive", "--all", "--url", url)).toEqual({ code: 0, said: "3 re-driven, 0 refused." });
  expect(asked.slice(1).map(({ body }) => JSON.parse(body) as object)).toEqual([
    { after: "0", limit: 3 },
    { after: position, limit: 2 },
    { after: position, limit: 1 },
  ]);
});

test("a node that cannot now is asked again, and what it did until it could no longer is told", async () => {
  const { position } = letter;
  const { url } = await node([
    [503, { detail: "not now" }],
    [200, { deadLetters: [letter, letter], next: position, hasMore: false }],
    [200, { redriven: [{ position, cursor: position }], refused: [], next: position, hasMore: true }],
    [503, { detail: "the log does not answer" }],
  ]);
  const { code, said } = await run("redrive", "--reason", "undecodable", "--url", url);
  expect(code).toBe(1);
  expect(said).toContain("1 re-driven, 0 refused.");
  expect(said).toContain("answered 503: the log does not answer");
  expect(said).toContain("the same again goes on");
});

test("of a re-drive that could not even begin, only the reason is told", async () => {
  const { url } = await node([[400, { detail: "zzz is no position" }]]);
  const { code, said } = await run("redrive", "zzz", "--url", url);
  expect([code, said]).toEqual([1, `dead-letters: ${url} answered 400: zzz is no position`]);
});

test("positions go in the order of the log, and those that a request had no room for go in the next", async () => {
  const [first, second] = ["04002000001g000000000001", "04002000001g000000000002"] as const;
  const done = (position: string, hasMore: boolean): [number, object] => [
    200,
    { redriven: [{ position, cursor: position }], refused: [], next: position, hasMore },
  ];
  const { url, asked } = await node([done(first, true), done(second, false)]);
  expect((await run("redrive", second, first, "--url", url)).said).toBe("2 re-driven, 0 refused.");
  expect(asked.map(({ body }) => JSON.parse(body) as object)).toEqual([
    { positions: [first, second] },
    { positions: [second] },
  ]);
});

test("the way to use it is told, and who lacks a key is told how to make one", async () => {
  expect(await run("--help")).toMatchObject({ code: 0, said: expect.stringContaining("redrive --all") });
  const { url } = await node([[403, { detail: "This key lacks the verb operate" }]]);
  const { code, said } = await run("list", "--url", url);
  expect([code, said]).toEqual([1, expect.stringContaining("npm run keys -- --name NAME --prefix '' --verbs operate")]);
  expect((await run("list", "--url", "http://127.0.0.1:1")).said).toContain("does not answer");
});

test("what foreign records hold moves no terminal's cursor", () => {
  const hostile = "\u001b[2J\u009b1m\u202e\u2028\r\n\u{e0041}é";
  const lines = [
    ...table([{ ...letter, clientId: hostile, detail: hostile }]),
    ...verdict(0, [{ position: letter.position, reason: hostile, detail: hostile }]).lines,
  ];
  const text = jsonText({ data: hostile });
  expect(JSON.parse(text)).toEqual({ data: hostile });
  for (const line of [...lines, ...text.split("\n")]) expect(line).toMatch(/^[\x20-\x7eé…]*$/u);
});

test("a table says a detail once where it is the same for many", () => {
  const lines = table([letter, { ...letter, id: "second" }, { ...letter, id: "third", detail: "other" }]);
  expect(lines.filter((line) => line.trim() === "no").length).toBe(1);
  expect(lines.length).toBe(6);
});
