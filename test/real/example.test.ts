import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, inject, onTestFinished, test } from "vitest";
import { newFolder } from "../support/folder.ts";
import { sharedBrokers, uniqueTopic } from "../support/kafka.ts";
import { freshDatabase, queryOnce } from "../support/postgres.ts";
import { startApp } from "../support/process.ts";

interface Shown {
  readonly grp: string;
  readonly id: string;
}

/** The lines of the history, as a person sees them. */
const shown = (lines: readonly string[]): Shown[] =>
  lines.flatMap((line) => {
    const [, grp = "", id = ""] = /app-moved \{"grp":"(\w+)"\} {2}id (\S+)$/.exec(line) ?? [];
    return id === "" ? [] : [{ grp, id }];
  });

test("the example shows four moves in the order of their commits, none that was rolled back, twice, and leaves nothing running", async () => {
  const folder = newFolder("example");
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  await using store = await freshDatabase();
  const application = new URL(inject("databaseUrl"));
  application.pathname = "/app_groups";
  onTestFinished(async () => {
    await queryOnce(inject("databaseUrl"), "DROP DATABASE IF EXISTS app_groups WITH (FORCE)");
  });
  const env = { KAFKA_BROKERS: sharedBrokers(), DATABASE_URL: store.url, SPILLWAY_TOPIC: uniqueTopic("example") };
  const histories: Shown[][] = [];
  for (const _run of ["first", "second"]) {
    const example = await startApp("examples/app-groups/main.ts", env, ["--data", folder]);
    expect([await example.exit(), example.lines.slice(-3)]).toEqual([0, expect.anything()]);
    const backlog = example.lines.flatMap((line) => /spillway\.backlog: (\d+) waiting/.exec(line)?.[1] ?? []);
    expect([backlog[0], backlog.at(-1)]).toEqual(["4", "0"]);
    histories.push(shown(example.lines));
    await expect(fetch(`${example.url}/healthz`)).rejects.toThrow();
    expect(existsSync(join(folder, "start.lock"))).toBe(false);
  }
  expect(histories.map((history) => history.map(({ grp }) => grp))).toEqual([
    ["G1", "G2", "G1", "G2"],
    ["G1", "G2", "G1", "G2"],
  ]);
  const rows = await queryOnce<Shown>(
    application.href,
    "SELECT data ->> 'grp' AS grp, id FROM spillway.event_buffer WHERE recorded IS NOT NULL ORDER BY position",
  );
  expect(rows).toEqual(histories.flat());
  expect(await queryOnce(application.href, "SELECT app, grp FROM app_group")).toEqual([{ app: "A1", grp: "G2" }]);
  const sessions = "SELECT application_name FROM pg_stat_activity WHERE datname = ANY ($1) AND pid <> pg_backend_pid()";
  const databases = ["app_groups", new URL(store.url).pathname.slice(1)];
  expect(await queryOnce(application.href, sessions, [databases])).toEqual([]);
});
