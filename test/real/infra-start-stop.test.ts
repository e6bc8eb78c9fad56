import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, inject, it, onTestFinished } from "vitest";
import { newFolder } from "../support/folder.ts";
import { type App, startApp } from "../support/process.ts";

function dataFolder(): string {
  const folder = newFolder("start-stop");
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function start(env: Readonly<Record<string, string>>, folder: string, ...flags: string[]): Promise<App> {
  const app = await startApp("infra/start.ts", env, ["--data", folder, ...flags]);
  onTestFinished(() => app.kill());
  return app;
}

/** The processes that name the folder in their command line; none where there is no /proc. */
function processesOn(folder: string): string[] {
  if (!existsSync("/proc/self/cmdline")) return [];
  return readdirSync("/proc").filter((pid) => {
    try {
      return Number(pid) > 0 && Number(pid) !== process.pid && readFileSync(`/proc/${pid}/cmdline`).includes(folder);
    } catch {
      return false;
    }
  });
}

describe("npm start, told to stop while it starts", () => {
  it("waits no more for a server that somebody else runs, and has said what it waited for", async () => {
    let asked = 0;
    const silent = createServer((socket) => {
      asked += 1;
      socket.destroy();
    }).listen(0, "127.0.0.1");
    await once(silent, "listening");
    onTestFinished(() => void silent.close());
    const brokers = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const app = await start({ KAFKA_BROKERS: brokers, DATABASE_URL: inject("databaseUrl") }, dataFolder());
    await app.line(`waiting for Kafka at ${brokers} (what listens there does not answer as Kafka does)`);
    const before = asked;
    expect(await app.stop()).toBe(0);
    expect(asked - before).toBeLessThan(10);
    expect(app.lines.at(-1)).toBe("stopped");
  });

  it("says that connections are refused", async () => {
    const env = { KAFKA_BROKERS: "127.0.0.1:1", DATABASE_URL: "postgres://127.0.0.1:1/none" };
    const app = await start(env, dataFolder());
    await app.line("waiting for Kafka at 127.0.0.1:1 (connection refused)");
    await app.line("waiting for PostgreSQL at 127.0.0.1:1/none (connection refused)");
    expect(await app.stop()).toBe(0);
  });

  it("cuts its own servers short while they are made, leaves none behind, and starts well afterwards", async () => {
    const folder = dataFolder();
    const app = await start({}, folder);
    const place = /data in (\S+);/.exec(await app.line("PostgreSQL"))?.[1] ?? "";
    expect(await app.stop()).toBe(0);
    expect(processesOn(folder)).toEqual([]);
    const log = join(place, "postgres.log");
    expect(existsSync(log) ? readFileSync(log, "utf8") : "").not.toContain("ready to accept connections");
    const again = await start({}, folder, "--without-sink");
    await again.line("Kafka and PostgreSQL answer", { limitMs: 150_000 });
    expect(await again.stop()).toBe(0);
    expect(processesOn(folder)).toEqual([]);
  });
});
