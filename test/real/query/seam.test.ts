/**
 * The seam under fire, as in test/apps/query/seam.test.ts, with a real database: its tables are what the world's are at the
 * moment of each statement.
 */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { timeText } from "#lib/event.ts";
import { migrate } from "#lib/postgres/migrate.ts";
import { Pool } from "#lib/postgres/pool.ts";
import type { AnswerRow } from "../../../apps/query/questions.ts";
import type { ModelRecord } from "../../apps/query/model.ts";
import { History } from "../../apps/query/seam/history.ts";
import type { Tally } from "../../apps/query/seam/judge.ts";
import { EPOCH, type Moment } from "../../apps/query/seam/world.ts";
import { type Database, freshDatabase } from "../../support/postgres.ts";
import { silentLog } from "../../support/records.ts";

const PAGES_MIN = Number(process.env["SPILLWAY_SEAM_PAGES"] ?? 3_000);
const HISTORIES_A_BATCH = 10;
const STATEMENT_MS = 60_000;

let database: Database;
let pool: Pool;
beforeAll(async () => {
  database = await freshDatabase();
  pool = new Pool({
    url: database.url,
    max: 2,
    name: "seam",
    connectTimeoutMs: 10_000,
    log: silentLog,
    clock: systemClock,
  });
  await migrate(pool);
});
afterAll(async () => {
  await pool.close();
  await database.drop();
});

/** What the tables hold. */
let mirrored = new Map<string, readonly ModelRecord[]>();

/** Makes the tables what they are at the moment. */
async function mirror({ rows, checkpoints }: Moment): Promise<void> {
  const gone: ModelRecord[] = [];
  const come: ModelRecord[] = [];
  for (const clientId of new Set([...mirrored.keys(), ...rows.keys()])) {
    const [before, now] = [mirrored.get(clientId) ?? [], rows.get(clientId) ?? []];
    if (before === now) continue;
    const [had, has] = [new Set(before), new Set(now)];
    gone.push(...before.filter((record) => !has.has(record)));
    come.push(...now.filter((record) => !had.has(record)));
  }
  mirrored = new Map(rows);
  await pool.query(
    `WITH gone AS (
      DELETE FROM spillway.event e USING unnest($1::text[], $2::smallint[], $3::bigint[]) AS g (c, p, o)
      WHERE e.client_id = g.c AND e.log_epoch = g.p AND e."offset" = g.o)
    DELETE FROM spillway.checkpoint`,
    [clients(gone), epochs(gone), offsets(gone)],
    STATEMENT_MS,
  );
  await pool.query(
    `WITH come AS (
      INSERT INTO spillway.event
      SELECT c, p, o, i, t, w, r, d::json FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::text[], $5::text[],
        $6::timestamptz[], $7::timestamptz[], $8::text[]) AS given (c, p, o, i, t, w, r, d))
    INSERT INTO spillway.checkpoint (log_epoch, partition, next_offset)
    SELECT ${EPOCH}, nth - 1, o FROM unnest($9::bigint[]) WITH ORDINALITY AS given (o, nth) WHERE o IS NOT NULL`,
    [
      ...[clients(come), epochs(come), offsets(come)],
      come.map(({ event }) => event.id),
      come.map(({ event }) => event.type),
      come.map(({ event }) => timeText(event.occurredAtMs)),
      come.map(({ event }) => timeText(event.receivedAtMs)),
      come.map(({ event }) => event.data),
      checkpoints.map((at) => at?.toString() ?? null),
    ],
    STATEMENT_MS,
  );
}
const clients = (records: readonly ModelRecord[]): string[] => records.map(({ event }) => event.clientId);
const epochs = (records: readonly ModelRecord[]): number[] => records.map(({ place }) => place.epoch);
const offsets = (records: readonly ModelRecord[]): string[] => records.map(({ place }) => place.offset.toString());

let shown: Moment | null = null;
async function ask(moment: Moment, text: string, values: readonly unknown[]): Promise<AnswerRow[]> {
  if (shown !== moment) await mirror(moment);
  shown = moment;
  return pool.rows<AnswerRow>(text, values, STATEMENT_MS);
}

test("any page of any shape is the filter of the truth, with the real statements", { timeout: 3_600_000 }, async () => {
  const tally: Tally = { pages: 0, refused: 0, loose: 0, events: 0, mixed: 0, walks: 0 };
  const rounds = fc.array(fc.integer(), { minLength: 1, maxLength: 60, size: "max" });
  const histories = fc.asyncProperty(fc.integer(), rounds, (seed, numbers) =>
    new History(seed, tally, ask).play(numbers),
  );
  const seed = Number(process.env["SPILLWAY_SEAM_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  for (let batch = 0; tally.pages < PAGES_MIN; batch++)
    await fc.assert(histories, { numRuns: HISTORIES_A_BATCH, seed: seed + batch });
  console.log(`seam: seed ${seed}, ${JSON.stringify(tally)}`);
  expect(tally.mixed).toBeGreaterThan(tally.pages / 15);
});
