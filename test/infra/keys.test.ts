import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { parseKeys } from "#lib/access.ts";

const PROGRAM = fileURLToPath(new URL("../../infra/keys.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "spillway-keys-"));
afterAll(() => rmSync(folder, { recursive: true }));

const make = (...args: string[]): string => execFileSync(process.execPath, [PROGRAM, ...args], { encoding: "utf8" });
const tokenOf = (output: string): string => /spillway_[\w-]+/.exec(output)?.[0] ?? "";

test("a key that was made opens what it was made for", () => {
  const output = make("--name", "shop", "--client", "1", "--prefix", "team-", "--verbs", "append,read");
  const access = parseKeys(`[${/\{.*\}/.exec(output)?.[0]}]`).find(tokenOf(output));
  expect(access?.name).toBe("shop");
  for (const client of ["1", "team-2"]) expect(access?.allows("append", client)).toBe(true);
  expect(access?.allows("read", "2")).toBe(false);
  expect(access?.holds("operate")).toBe(false);
});

test("a key file grows by a key at a time, is the owner's alone, and never holds a token", () => {
  const file = join(folder, "keys.json");
  const tokens = ["a", "b"].map((name) =>
    tokenOf(make("--name", name, "--client", name, "--verbs", "read", "--file", file)),
  );
  const text = readFileSync(file, "utf8");
  const keys = parseKeys(text);
  expect(tokens.map((token) => keys.find(token)?.name)).toEqual(["a", "b"]);
  expect(text).not.toContain("spillway_");
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test.each([
  [["--client", "1", "--verbs", "read"], "--name is missing"],
  [["--name", "a", "--client", "1"], "--verbs"],
  [["--name", "a", "--client", "1", "--verbs", "fly"], '"fly" is none of append, read, operate'],
  [["--name", "a", "--verbs", "read"], "names no client"],
  [["--nmae", "a"], "--nmae"],
  [["--name", "a", "--name", "b", "--client", "1", "--verbs", "read"], '--name is given twice, "a" and "b"'],
  [
    ["--name", "a", "--client", "1", "--verbs", "read", "--file", "/nonexistent/k.json"],
    "--file /nonexistent/k.json: its folder does not exist",
  ],
])("%j is refused with the way to say it right", (args, said) => {
  const { status, stderr, stdout } = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: "utf8" });
  expect(status).toBe(1);
  expect(stderr).toContain(said);
  expect(stderr).toContain("npm run keys -- --name NAME");
  expect(stdout).toBe("");
});

test("the way to use it is told to who asks", () => {
  expect(make("--help")).toContain("npm run keys -- --name NAME");
});

test("a second key of the same name is refused, and the file stays as it was", () => {
  const file = join(folder, "twice.json");
  const args = ["--name", "shop", "--client", "1", "--verbs", "read", "--file", file];
  make(...args);
  const before = readFileSync(file, "utf8");
  const { status, stderr, stdout } = spawnSync(process.execPath, [PROGRAM, ...args], { encoding: "utf8" });
  expect([status, stdout]).toEqual([1, ""]);
  expect(stderr).toContain('it has a key named "shop" already');
  expect(readFileSync(file, "utf8")).toBe(before);
});
