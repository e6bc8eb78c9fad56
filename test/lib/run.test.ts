import { describe, expect, test } from "vitest";
import { createLog, type Log } from "#lib/log.ts";
import { runAll, type Task } from "#lib/run.ts";
import { type App, startApp } from "../support/process.ts";
import { until } from "../support/until.ts";

const log: Log = createLog("test", "silent");

/** A task that writes down its life, and ends one turn after it is told to. */
function diarist(name: string, diary: string[]): Task {
  return {
    name,
    async run(signal) {
      diary.push(`${name} starts`);
      await aborted(signal);
      diary.push(`${name} is told`);
      await Promise.resolve();
      diary.push(`${name} ends`);
    },
  };
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));

const DIARY = ["a starts", "b starts", "b is told", "b ends", "a is told", "a ends"];

describe("a group of tasks", () => {
  test("starts in order and stops one by one in reverse order", async () => {
    const diary: string[] = [];
    const stop = new AbortController();
    const done = runAll([diarist("a", diary), diarist("b", diary)], stop.signal, log);
    stop.abort();
    await done;
    expect(diary).toEqual(DIARY);
  });

  test("starts nothing when it is over already", async () => {
    const diary: string[] = [];
    await runAll([diarist("a", diary)], AbortSignal.abort(), log);
    expect(diary).toEqual([]);
  });

  test("without tasks is over at once", async () => {
    await runAll([], new AbortController().signal, log);
  });

  test.each<[string, Task["run"], string]>([
    ["rejects", () => Promise.reject(new Error("no room")), "c failed: no room"],
    ["throws before its first await", () => thrown("no room"), "c failed: no room"],
    ["ends early", () => Promise.resolve(), "c ended although nobody stopped it"],
  ])("is stopped by a task that %s, and names it", async (_how, run, message) => {
    const diary: string[] = [];
    const tasks = [diarist("a", diary), diarist("b", diary), { name: "c", run }];
    await expect(runAll(tasks, new AbortController().signal, log)).rejects.toThrow(message);
    expect(diary).toEqual(DIARY);
  });

  test("keeps the cause of the failure", async () => {
    const cause = new Error("no room");
    const failing: Task = { name: "c", run: () => Promise.reject(cause) };
    await expect(runAll([failing], new AbortController().signal, log)).rejects.toMatchObject({ cause });
  });

  test("tells of a task that fails while it stops, and stops the others nevertheless", async () => {
    const diary: string[] = [];
    const stop = new AbortController();
    const failing: Task = { name: "c", run: (signal) => aborted(signal).then(() => thrown("cannot flush")) };
    const done = runAll([diarist("a", diary), diarist("b", diary), failing], stop.signal, log);
    stop.abort();
    await expect(done).rejects.toThrow("c failed: cannot flush");
    expect(diary).toEqual(DIARY);
  });

  test("throws the first of several failures and logs the others", async () => {
    const logged: unknown[] = [];
    const listening: Log = {
      ...log,
      error: (message, fields) => void logged.push([message, String(fields?.["error"])]),
    };
    const first: Task = { name: "first", run: () => Promise.reject(new Error("x")) };
    const second: Task = { name: "second", run: (signal) => aborted(signal).then(() => thrown("y")) };
    await expect(runAll([first, second], new AbortController().signal, listening)).rejects.toThrow("first failed: x");
    expect(logged).toEqual([["another task failed while stopping", "Error: second failed: y"]]);
  });

  test("takes an AbortError of a task that was told to stop for a clean end", async () => {
    const stop = new AbortController();
    const task: Task = { name: "a", run: (signal) => aborted(signal).then(() => signal.throwIfAborted()) };
    const done = runAll([task], stop.signal, log);
    stop.abort();
    await done;
  });
});

function thrown(message: string): never {
  throw new Error(message);
}

describe("a process", () => {
  const start = (mode: string): Promise<App> => startApp("test/support/small-role.ts", { MODE: mode });

  /** Its last lines may arrive after its exit code. */
  const written = (app: App, text: string): Promise<string> =>
    until(`the line "${text}"`, () => app.lines.find((line) => line.includes(text)));

  test.each(["SIGTERM", "SIGINT"] as const)("ends with 0 after %s", async (signal) => {
    await using app = await start("clean");
    await app.line("started");
    process.kill(app.pid, signal);
    expect(await app.exit()).toBe(0);
    await written(app, '"msg":"stopped"');
  });

  test("lives as long as nobody stops it, with nothing to do but wait", async () => {
    await using app = await start("clean");
    await app.line("started");
    expect(app.ended).toBeUndefined();
    expect(await app.stop()).toBe(0);
  });

  test("ends with 1 and names the task that failed", async () => {
    await using app = await start("fails");
    expect(await app.exit()).toBe(1);
    await written(app, "work failed: the disk is full");
  });

  test("ends with 1 and lists the settings that are wrong", async () => {
    await using app = await start("unset");
    expect(await app.exit()).toBe(1);
    await written(app, "NEVER_SET is not set. What this role cannot do without.");
  });

  test("ends with 1 and a log line after an exception that nobody catches", async () => {
    await using app = await start("crashes");
    expect(await app.exit()).toBe(1);
    await written(app, "nobody catches this");
  });

  test("that is stuck gives up on the second signal and says what was open", async () => {
    await using app = await start("stuck");
    await app.line("started");
    process.kill(app.pid, "SIGTERM");
    await app.line("stopping");
    process.kill(app.pid, "SIGTERM");
    expect(await app.exit()).toBe(1);
    await written(app, '"open":["work"]');
  });

  test("that is stuck gives up when its time is over", async () => {
    await using app = await start("stuck-late");
    await app.line("started");
    process.kill(app.pid, "SIGTERM");
    expect(await app.exit()).toBe(1);
    await written(app, "not done after 25000 ms");
    await written(app, '"open":["work"]');
  });
});
