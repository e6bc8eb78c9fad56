import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { newFolder } from "../support/folder.ts";
import { startApp } from "../support/process.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = newFolder("start-options");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  spawnSync(process.execPath, [program, ...args], {
    cwd: ROOT,
    env: { PATH: process.env["PATH"], ...env },
    encoding: "utf8",
  });

describe.each([
  ["npm start", "infra/start.ts", "--without-sink"],
  ["npm run demo", "infra/demo/main.ts", "--wait-saved"],
])("%s", (command, program, flag) => {
  test("prints what it accepts when it is asked", () => {
    const { status, stdout, stderr } = run(program, ["--help"]);
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(`${command} -- [`);
    expect(stdout).toContain(flag);
  });

  test.each([["--nonsense"], ["nonsense"]])("refuses %s with what it accepts", (wrong) => {
    const { status, stdout, stderr } = run(program, [wrong]);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(`'${wrong}'. What it accepts:`);
    expect(stderr).toContain(flag);
  });
});

describe("npm start", () => {
  test.each<[Readonly<Record<string, string>>, string]>([
    [{ DATABASE_URL: "nonsense" }, "DATABASE_URL must be a URL that begins with postgres://"],
    [
      { KAFKA_BROKERS: "kafka" },
      'KAFKA_BROKERS must name every broker with its port, such as kafka-1:9092,kafka-2:9092, or all with kafka+ssl:// before them, but is "kafka"',
    ],
    [{ PORT: "web" }, 'PORT must be integer, but is "web"'],
    [{ PORT: "0" }, "PORT is 0, but npm start must know it beforehand"],
    [{ SPILLWAY_KEYS: "none.json" }, "SPILLWAY_KEYS: none.json is no file that can be read (ENOENT)"],
    [{ SPILLWAY_KEYS: "{}" }, "SPILLWAY_KEYS: the key file is wrong: / must be array"],
    [{ HOST: "0.0.0.0" }, "make a key with npm run keys"],
    [{ HOST: "banana" }, 'HOST must be an address of this machine, such as 127.0.0.1, ::1 or 0.0.0.0, but is "banana"'],
    [{ SPILLWAY_SINK_WAITING_BYTES: "1" }, "SPILLWAY_SINK_WAITING_BYTES must be >= 1048576"],
  ])("%j is refused in the setting's own words before anything starts", (env, said) => {
    const data = join(folder, "data");
    const { status, stdout, stderr } = run("infra/start.ts", ["--data", data], env);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(said);
    expect(existsSync(data)).toBe(false);
  });

  test("tells of a database that it was given without its password", async () => {
    // For Kafka over TLS and a database alike, somebody who takes connections is enough until then.
    const there = createServer().listen(0, "127.0.0.1");
    await once(there, "listening");
    const at = `127.0.0.1:${(there.address() as AddressInfo).port}`;
    const given = { KAFKA_BROKERS: `kafka+ssl://${at}`, DATABASE_URL: `postgres://me:hunter2@${at}/x` };
    await using app = await startApp("infra/start.ts", given, ["--data", join(folder, "given")]);
    expect(await app.line("  DATABASE_URL=")).toBe(`  DATABASE_URL=postgres://me:***@${at}/x`);
    expect(app.lines.join("\n")).not.toContain("hunter2");
    await app.kill();
    there.close();
  });

  test.each([
    ["/dev/null", "it is no folder"],
    ["/dev/null/x", "a part of that is no folder"],
  ])("data in %s is refused with what to do", (data, why) => {
    const { status, stdout, stderr } = run("infra/start.ts", ["--data", data]);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toBe(`The data cannot lie in ${data}: ${why}. Name a folder: npm start -- --data FOLDER\n`);
  });
});
