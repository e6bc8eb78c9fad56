import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { spawnGuarded } from "../../../infra/process.ts";
import { sharedBrokers, uniqueTopic } from "../../support/kafka.ts";

it("a process whose ports are closed has nothing left that keeps it alive", { timeout: 30_000 }, async () => {
  const lines: string[] = [];
  const child = await spawnGuarded({
    file: process.execPath,
    args: [fileURLToPath(new URL("open-and-close.ts", import.meta.url)), sharedBrokers(), uniqueTopic()],
    cwd: process.cwd(),
    env: {},
    output: (line) => void lines.push(line),
  });
  expect(await child.exited, lines.join("\n")).toBe(0);
});
