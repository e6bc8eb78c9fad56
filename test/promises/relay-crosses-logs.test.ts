/**
 * Rows of the event buffer go on over an adoption: each committed one is one event, in the order of its client's commits.
 * Attack: 4 → 12 → 16 partitions under transactions of six writers, while of two relays the one that works is killed as events wait.
 */
import { expect, test } from "vitest";
import { installInto } from "../support/buffer.ts";
import { freshDatabase, queryOnce } from "../support/postgres.ts";
import { type App, startApp } from "../support/process.ts";
import { until } from "../support/until.ts";
import { BufferWriters, booked } from "./support/buffer-writers.ts";
import type { Role } from "./support/spillway.ts";
import { startSpillway } from "./support/spillway.ts";
import { newSeed } from "./support/workload.ts";

const CLIENTS = ["a", "b", "c", "d", "e", "f"];
const LIMITS = { limitMs: 90_000 };

const lastTold = ({ app }: Role): string => app.lines.findLast((line) => /"relay (works|stands by)/.test(line)) ?? "";

test("committed rows are one event each, in order, over adoptions, in one of which the relay is killed", {
  timeout: 240_000,
}, async () => {
  const seed = newSeed("relay crosses logs");
  await using application = await freshDatabase();
  await installInto(application.url);
  await using spillway = await startSpillway({ sinks: 2, queries: 1 });
  const { brokers, topic, query } = spillway;
  const relays: Role[] = [];
  for (let n = 0; n < 2; n++) relays.push(await spillway.start("relay", { DATABASE_URL: application.url }));
  const app = { query: <Row>(text: string) => queryOnce<Row>(application.url, text) };
  const recorded = async (): Promise<number> =>
    (
      await app.query<{ n: number }>("SELECT count(*)::int AS n FROM spillway.event_buffer WHERE recorded IS NOT NULL")
    )[0]?.n ?? 0;
  const flows = async (more: number): Promise<void> => {
    const before = await recorded();
    await until(`${more} more rows are recorded`, async () => (await recorded()) >= before + more, LIMITS);
  };
  const writers = await BufferWriters.start(application.url, CLIENTS, 6, seed);
  await flows(100);
  const old = await spillway.log();
  // Sinks that sleep keep the log unsaved, so that events wait for as long as that takes.
  const adopting = async (next: string, partitions: number): Promise<App> => {
    for (const { app: sink } of spillway.sinks) sink.freeze();
    await writers.commits(20);
    const env = { KAFKA_BROKERS: brokers, SPILLWAY_TOPIC: topic };
    const tool = await startApp("infra/adopt-log/main.ts", env, ["--topic", next, "--partitions", String(partitions)]);
    await tool.line("Events wait from now on");
    return tool;
  };
  const adopted = async (tool: App): Promise<void> => {
    for (const { app: sink } of spillway.sinks) sink.thaw();
    expect(await tool.exit(), tool.lines.join("\n")).toBe(0);
  };

  const tool = await adopting(`${topic}.wide`, 12);
  const victim = await until(
    "one works",
    () => relays.find((relay) => lastTold(relay).includes("relay works")),
    LIMITS,
  );
  await victim.app.line("log is about to be succeeded");
  await writers.commits(20);
  await victim.kill();
  await adopted(tool);
  // What closed partitions answer is how it works, and no warning.
  expect(tool.lines.join("\n")).not.toContain("larger than");
  const ends = await old.offsets();
  await victim.start();
  await flows(100);
  // Once more at any moment: a page in hand may be on the log, and not stamped.
  for (const relay of relays) await relay.restart();
  await flows(50);
  await spillway.adopted(`${topic}.wide`);
  // And once with a page in hand: it waits, and goes to the next log in its order.
  const second = await adopting(`${topic}.wider`, 16);
  await writers.commits(60);
  await adopted(second);
  await flows(50);
  await writers.stop();
  const waiting = async (): Promise<string | undefined> =>
    (await app.query<{ waiting: string }>("SELECT waiting FROM spillway.backlog_total"))[0]?.waiting;
  await until("nothing waits", async () => (await waiting()) === "0", LIMITS);
  await spillway.adopted(`${topic}.wider`);
  await spillway.saved(90_000);

  const events = new Map<string, string[]>();
  for (const clientId of CLIENTS) {
    const { pages } = await spillway.reader.walk(query, { clientId, limit: 100 });
    const all = pages.flatMap((page) => page.events);
    events.set(
      clientId,
      all.map(({ id }) => id),
    );
  }
  expect(events).toEqual(await booked(app));
  const epochs = await spillway.database.query("SELECT DISTINCT log_epoch AS epoch FROM spillway.event ORDER BY 1");
  expect(epochs).toEqual([{ epoch: 1 }, { epoch: 2 }, { epoch: 3 }]);
  expect(await old.offsets()).toEqual(ends);
  expect(await app.query("SELECT position FROM spillway.event_buffer WHERE set_aside IS NOT NULL")).toEqual([]);
  expect(writers.outcomes.commits).toBeGreaterThan(100);
});
