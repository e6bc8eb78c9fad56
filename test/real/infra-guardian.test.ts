import { rmSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { isRunning } from "../../infra/alive.ts";
import { newFolder } from "../support/folder.ts";
import { queryOnce } from "../support/postgres.ts";
import { startApp } from "../support/process.ts";
import { until } from "../support/until.ts";

const folder = newFolder("guardian");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Told {
  readonly pids: readonly number[];
  readonly url: string;
}

async function startParent() {
  const parent = await startApp("test/support/parent.ts", {}, [folder]);
  const told = JSON.parse(await parent.line('{"pids":')) as Told;
  expect(told.pids.map(isRunning)).toEqual([true, true, true]);
  return { parent, ...told };
}

describe("a parent killed with -9", () => {
  it("leaves no process behind, and its data can be started on again at once", async () => {
    const first = await startParent();
    await queryOnce(first.url, "CREATE TABLE kept (x int)");
    const busy = queryOnce(first.url, "SELECT pg_sleep(600)").catch(() => "ended");
    await first.parent.kill();
    const second = await startParent();
    await until("the processes of the first are gone", () => !first.pids.some(isRunning));
    expect(await busy).toBe("ended");
    expect(await queryOnce(first.url, "SELECT count(*)::int AS n FROM kept")).toEqual([{ n: 0 }]);
    await second.parent.kill();
    await until("those of the second are gone too", () => !second.pids.some(isRunning));
  });
});
