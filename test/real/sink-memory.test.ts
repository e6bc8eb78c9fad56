/** What a sink needs in memory while it drains a backlog. */
import { expect, test } from "vitest";
import { freshLog } from "../support/log.ts";
import { freshDatabase } from "../support/postgres.ts";
import { startApp } from "../support/process.ts";
import { clientOf, recordOf, someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";

const PARTITIONS = 12;
const MIB = 1024 * 1024;
const BAR_MIB = 300;

test("a sink drains a backlog within 300 MiB, started as it is by default", async () => {
  await using log = await freshLog(PARTITIONS);
  const database = await freshDatabase();
  const clients = Array.from({ length: PARTITIONS }, (_, partition) => clientOf(partition, PARTITIONS));
  const [rounds, each] = [8, 2_000];
  const data = JSON.stringify({ order: 1, currency: "EUR", note: "left at the door, please ring twice ".repeat(2) });
  for (let round = 0; round < rounds; round++)
    for (const [partition, clientId] of clients.entries())
      await log.append(
        partition,
        Array.from({ length: each }, (_, n) => recordOf(someEvent({ clientId, id: `${round}/${n}`, data }), 0n)),
      );
  await using sink = await startApp("apps/sink/main.ts", { ...log.env, DATABASE_URL: database.url });
  let mostMiB = 0;
  const saved = async (): Promise<boolean> => {
    const metrics = await (await fetch(`${sink.url}/metrics`)).text();
    mostMiB = Math.max(mostMiB, Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1]) / MIB);
    const [row] = await database.query<{ n: number }>("SELECT sum(next_offset)::int AS n FROM spillway.checkpoint");
    return row?.n === rounds * each * PARTITIONS;
  };
  await until("the backlog is saved", saved, { limitMs: 90_000 });
  expect(mostMiB).toBeGreaterThan(50);
  expect(mostMiB).toBeLessThan(BAR_MIB);
  expect(await sink.stop()).toBe(0);
  await database.drop();
});
