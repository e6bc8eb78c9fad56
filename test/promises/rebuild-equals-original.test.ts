/**
 * Promise: emptied tables refill identically from what the topic retains, and a replay over full ones changes nothing.
 * Attack: rows, checkpoints and dead letters truncated under readers; a checkpoint set back to the beginning.
 */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { Database } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { startSpillway } from "./support/spillway.ts";
import { newSeed, produce } from "./support/workload.ts";

const CLIENTS = ["hot", ...Array.from({ length: 12 }, (_, n) => `cold-${n}`)];

/** SHA-256 of the ordered table, every column as text but the time of setting aside, which is not the event's. */
async function dump(database: Database): Promise<{ rows: number; sha256: string }> {
  const rows = await database.query<{ line: string }>(
    `SELECT row(client_id, log_epoch, "offset", id, type, occurred_at, received_at, data::text)::text AS line
       FROM spillway.event ORDER BY client_id, log_epoch, "offset"`,
  );
  const dead = await database.query<{ line: string }>(
    `SELECT row(log_epoch, partition, "offset", reason, detail, key, value, record_time)::text AS line
       FROM spillway.dead_letter ORDER BY log_epoch, partition, "offset"`,
  );
  const hash = createHash("sha256");
  for (const { line } of [...rows, ...dead]) hash.update(`${line}\n`);
  return { rows: rows.length, sha256: hash.digest("hex") };
}

test("truncated under readers, and replayed over full tables", async () => {
  await using spillway = await startSpillway({ ingests: 1, sinks: 1, queries: 1 });
  const { producer, reader, database, ingests: nodes, query, sink } = spillway;
  const seed = newSeed("rebuild");
  await produce(producer, { nodes, clients: CLIENTS, requests: 300, eventsMax: 8, seed, resends: 0.2 });
  await spillway.saved();
  const original = await dump(database);
  expect(original.rows).toBeGreaterThan(900);

  // A node that begins now holds nothing of what is saved: it must fetch all of it again, or say that it cannot yet.
  await query.restart();
  await sink.kill();
  await database.query("TRUNCATE spillway.event, spillway.checkpoint, spillway.checkpoint_mark, spillway.dead_letter");
  for (const clientId of CLIENTS) await reader.walk(query, { clientId, limit: 100 });
  await sink.start();
  await produce(producer, { nodes, clients: ["while-rebuilding"], requests: 20, seed, name: "more" });
  for (const clientId of CLIENTS) await reader.walk(query, { clientId, limit: 100 });
  await spillway.saved();
  await database.query("DELETE FROM spillway.event WHERE client_id = 'while-rebuilding'");
  expect(await dump(database)).toEqual(original);

  await sink.kill();
  await database.query("UPDATE spillway.checkpoint SET next_offset = 0, last_offset = NULL, last_hash = NULL");
  await database.query("CREATE TABLE changed AS SELECT 0 AS n");
  await database.query(
    `CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN IF NEW.client_id <> 'while-rebuilding' THEN UPDATE changed SET n = n + 1; END IF; RETURN NEW; END $$`,
  );
  await database.query(
    "CREATE TRIGGER counted AFTER INSERT OR UPDATE ON spillway.event FOR EACH ROW EXECUTE FUNCTION count_change()",
  );
  await sink.start();
  await spillway.saved();
  expect(await dump(database).then(({ rows }) => rows)).toBeGreaterThan(original.rows);
  expect(await database.query("SELECT n FROM changed")).toEqual([{ n: 0 }]);
  await until("the node knows that all is saved again", async () => {
    const { page } = await reader.page(query, { clientId: "hot", view: "unsaved" });
    return page?.events.length === 0;
  });
  await spillway.check({ okIds: 900, copies: 50, savedShown: 900, shownOnBothSides: 900 });
});
