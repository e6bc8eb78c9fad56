import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, onTestFinished } from "vitest";
import { isFree } from "../../infra/ports.ts";
import { type App, startApp } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Closed to others: as root, PostgreSQL runs as somebody else and keeps its data outside of it. */
const folder = mkdtempSync(join(tmpdir(), "spillway-start-data-"));
/** Where it did. */
const outside = new Set<string>();
afterAll(() => {
  for (const one of [folder, ...outside]) rmSync(one, { recursive: true, force: true });
});

async function start(): Promise<App> {
  // The sink's usual port: the web process gets it all the same.
  const env = (await isFree(3003)) ? { PORT: "3003" } : {};
  const app = await startApp("infra/start.ts", env, ["--data", folder]);
  onTestFinished(() => app.kill());
  const place = /data in (\S+);/.exec(await app.line("PostgreSQL 18: programs"))?.[1] ?? folder;
  if (!place.startsWith(folder)) outside.add(place);
  return app;
}

async function ready(app: App): Promise<void> {
  await app.line("Ctrl-C drains", { limitMs: 150_000 });
  expect((await (await fetch(`${app.url}/openapi.json`)).text()).includes("/api/v1/events")).toBe(true);
}

const events = async (app: App, query = ""): Promise<unknown[]> => {
  const answer = await fetch(`${app.url}/api/v1/events?clientId=a${query}`);
  return ((await answer.json()) as { events: unknown[] }).events;
};

async function saveOne(app: App): Promise<void> {
  const { status } = await fetch(`${app.url}/api/v1/events`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ clientId: "a", type: "t", data: {} }),
  });
  expect(status).toBe(201);
  await until("it is saved", async () => (await events(app, "&view=saved")).length === 1, { limitMs: 60_000 });
}

it("a folder that was emptied, in part or whole, is said or begun anew: no process of ours meets half a past", {
  timeout: 400_000,
}, async () => {
  const first = await start();
  await ready(first);
  await saveOne(first);
  expect(await first.stop()).toBe(0);

  rmSync(join(folder, "kafka"), { recursive: true });
  const torn = await start();
  expect(await torn.exit()).toBe(1);
  const said = torn.lines.join("\n");
  expect(said).toContain("Kafka's data and PostgreSQL's do not belong together");
  expect(said).toMatch(/spillway\.events\/\d+ is saved up to offset 1, but Kafka holds 0 to 0/);
  expect(said).not.toContain('"role"');
  const [, remedy = "", place = ""] = /PostgreSQL's data: (rm -rf '(.*)')/.exec(said) ?? [];
  expect(existsSync(place)).toBe(true);

  execFileSync("sh", ["-c", remedy]);
  const second = await start();
  await ready(second);
  expect(await events(second)).toEqual([]);
  await saveOne(second);
  expect(await second.stop()).toBe(0);

  rmSync(folder, { recursive: true });
  mkdirSync(folder, { mode: 0o700 });
  const third = await start();
  await ready(third);
  expect(await events(third)).toEqual([]);
  const left = third.lines.filter((line) => line.includes("is left of an earlier"));
  expect(left).toEqual(outside.size > 0 ? [expect.stringContaining(place)] : []);
  expect(await third.stop()).toBe(0);
});
