import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import { tokenHash } from "#lib/access.ts";
import { isRunning } from "../../infra/alive.ts";
import { answersMetadata } from "../../infra/kafka-metadata.ts";
import { newFolder } from "../support/folder.ts";
import { type App, startApp } from "../support/process.ts";
import { until } from "../support/until.ts";

const folder = newFolder("start");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The ids that the summary names, by role. */
async function started(...args: string[]): Promise<{ app: App; pids: Record<string, number> }> {
  const app = await startApp("infra/start.ts", {}, ["--data", folder, ...args]);
  await app.line("Ctrl-C drains", { limitMs: 150_000 });
  const named = app.lines.join("\n").matchAll(/(\w+):(?: port \d+,)? process (\d+)/g);
  return { app, pids: Object.fromEntries([...named].map(([, name, pid]) => [name, Number(pid)])) };
}

const post = (app: App, id: string) =>
  fetch(`${app.url}/api/v1/events`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ clientId: "a", id, type: "t", data: { id } }),
  });

const ids = async (app: App): Promise<string[]> => {
  const answer = await fetch(`${app.url}/api/v1/events?clientId=a`);
  if (!answer.ok) throw new Error(`status ${answer.status}: ${await answer.text()}`);
  return ((await answer.json()) as { events: { id: string }[] }).events.map((event) => event.id);
};

describe("npm start", () => {
  it("brings back whatever is killed with -9, keeps its data, and stops clean", async () => {
    const { app, pids } = await started();
    expect(Object.keys(pids).sort()).toEqual(["Kafka", "PostgreSQL", "sink", "web"]);
    // Warnings that tell a newcomer nothing: there is one broker, and it has just begun.
    expect(app.lines.filter((line) => /replication is 1|coordinator/.test(line))).toEqual([]);
    expect((await post(app, "before")).status).toBe(201);
    for (const pid of Object.values(pids)) process.kill(pid, "SIGKILL");
    for (const [name, pid] of Object.entries(pids)) {
      const now = Number(/process (\d+)$/.exec(await app.line(`${name} is back`))?.[1]);
      expect([now === pid, isRunning(now)], name).toEqual([false, true]);
    }
    await until("an event is accepted again", async () => (await post(app, "after")).status === 201, {
      limitMs: 60_000,
    });
    await until("both are read", async () => (await ids(app)).join() === "before,after", { limitMs: 60_000 });
    expect(readFileSync(join(folder, "start.lock"), "utf8")).toBe(String(app.pid));
    expect(await app.stop()).toBe(0);
    const port = Number(/KAFKA_BROKERS=127.0.0.1:(\d+)/.exec(app.lines.join("\n"))?.[1]);
    expect(port).toBeGreaterThan(0);
    expect(await answersMetadata("127.0.0.1", port)).toBe(false);
    await expect(fetch(`${app.url}/healthz`)).rejects.toThrow();
  });

  it("goes on with the data of the last time, without the sink too", async () => {
    const { app, pids } = await started("--without-sink");
    expect(Object.keys(pids).sort()).toEqual(["Kafka", "PostgreSQL", "web"]);
    expect((await post(app, "later")).status).toBe(201);
    expect(await ids(app)).toEqual(["before", "after", "later"]);
    const second = await startApp("infra/start.ts", {}, ["--data", folder]);
    expect(await second.exit()).toBe(1);
    expect(second.lines.join("\n")).toContain(`runs already, as process ${app.pid}`);
    expect(await app.stop()).toBe(0);
  });

  it("stops and says so when its data is removed, and tells first where a token goes", async () => {
    const other = newFolder("start-removed");
    onTestFinished(() => rmSync(other, { recursive: true, force: true }));
    const keys = join(folder, "keys.json");
    const record = { name: "a", sha256: tokenHash("t"), clients: [{ prefix: "" }], verbs: ["append", "read"] };
    writeFileSync(keys, JSON.stringify([record]));
    const app = await startApp("infra/start.ts", { SPILLWAY_KEYS: keys }, ["--data", other]);
    await app.line("Ctrl-C drains", { limitMs: 150_000 });
    const calls = app.lines.filter((line) => line.trim().startsWith("curl "));
    expect(calls.filter((line) => line.includes("-H 'authorization: Bearer TOKEN'"))).toHaveLength(2);
    expect(readFileSync(join(other, "address"), "utf8")).toBe(app.url);
    rmSync(other, { recursive: true, force: true });
    expect(await app.exit()).toBe(1);
    expect(app.lines.join("\n")).toContain(`The data is gone: ${other} was removed while Spillway ran.`);
    const port = Number(/KAFKA_BROKERS=127.0.0.1:(\d+)/.exec(app.lines.join("\n"))?.[1]);
    expect(await answersMetadata("127.0.0.1", port)).toBe(false);
  });
});
