import { execFile } from "node:child_process";
import { copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { newFolder } from "../../support/folder.ts";
import { FakeSpillway } from "./fake-spillway.ts";

const run = promisify(execFile);
const root = new URL("../../../", import.meta.url).pathname;
const folder = newFolder("client-package");
afterAll(() => rm(folder, { recursive: true }));
const tsc = join(root, "node_modules/.bin/tsc");

test("the built package serves plain JavaScript, and tells TypeScript its types", async () => {
  await using fake = await FakeSpillway.start();
  const installed = join(folder, "node_modules/spillway-client");
  await mkdir(installed, { recursive: true });
  await run(tsc, ["-p", join(root, "clients/typescript"), "--outDir", join(installed, "dist")]);
  await copyFile(join(root, "clients/typescript/package.json"), join(installed, "package.json"));
  const program = `import { SpillwayClient } from "spillway-client";
const client = new SpillwayClient({ url: "${fake.url}" });
const { id, cursor } = await client.post({ clientId: "c", type: "t", id: "a" });
console.log(id, cursor);
`;
  await writeFile(join(folder, "program.mjs"), program);
  const { stdout } = await run(process.execPath, [join(folder, "program.mjs")]);
  expect(stdout).toBe("a cursor-of-a\n");
  const typed = join(folder, "typed.mts");
  const check = () =>
    run(tsc, ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", typed], { cwd: folder });
  await writeFile(typed, program.replace("console.log(id, cursor)", "export const texts: string[] = [id, cursor]"));
  await check();
  await writeFile(typed, program.replace("console.log(id, cursor)", "export const wrong: number = cursor"));
  await expect(check()).rejects.toMatchObject({
    stdout: expect.stringContaining("'string' is not assignable to type 'number'"),
  });
});
