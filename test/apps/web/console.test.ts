import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseKeys } from "#lib/access.ts";
import { createServer, type Server } from "#lib/http.ts";
import { createLog } from "#lib/log.ts";
import { createMetrics } from "#lib/metrics.ts";
import { registerConsole } from "../../../apps/web/console.ts";

const FOLDER = new URL("../../../apps/web/console/", import.meta.url);
const files = readdirSync(FOLDER).filter((name) => name !== "index.html");
const textOf = (name: string): string => readFileSync(new URL(name, FOLDER), "utf8");

let server: Server;
beforeAll(async () => {
  const keys = [{ name: "a", sha256: "0".repeat(64), clients: [{ prefix: "" }], verbs: ["read"] }];
  server = await createServer({
    log: createLog("test", "silent"),
    metrics: createMetrics(),
    access: parseKeys(JSON.stringify(keys)),
    ready: () => ({ ready: true, missing: [] }),
    title: "test",
  });
  registerConsole(server);
});
afterAll(() => server.close());

describe("the console page", () => {
  test.each(["/", ...files.map((name) => `/console/${name}`)])(
    "%s is open and shuts out what is foreign",
    async (path) => {
      const { statusCode, headers } = await server.inject({ url: path });
      expect(statusCode).toBe(200);
      const policy = String(headers["content-security-policy"]);
      expect(policy).toContain("default-src 'none'");
      expect(policy).not.toMatch(/unsafe|https?:|\*/);
      expect(headers["x-content-type-options"]).toBe("nosniff");
      const again = await server.inject({ url: path, headers: { "if-none-match": String(headers["etag"]) } });
      expect([again.statusCode, again.body]).toEqual([304, ""]);
    },
  );

  test("everything that the page and its modules name is served", async () => {
    const named = [...textOf("index.html").matchAll(/(?:src|href)="(\/[^"]*)"/g)].map(([, path = ""]) => path);
    expect(named.length).toBeGreaterThan(1);
    for (const path of named.filter((one) => one !== "/openapi.json"))
      expect((await server.inject({ url: path })).statusCode, path).toBe(200);
    for (const name of files.filter((one) => one.endsWith(".js")))
      for (const [, path = ""] of textOf(name).matchAll(/from "\.(\/[^"]+)"/g))
        expect((await server.inject({ url: `/console${path}` })).statusCode, path).toBe(200);
  });

  test("text from outside never becomes markup, and nothing stands inline", () => {
    for (const name of files.filter((one) => one.endsWith(".js")))
      expect(textOf(name), name).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b/);
    expect(textOf("index.html")).not.toMatch(/<style|style=|<script>|\son\w+=/);
  });
});
