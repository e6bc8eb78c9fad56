/**
 * Promise: whatever writers do at once, a reader takes exactly the committed rows, and each client's in the order of its commits.
 * Attack: ten writers of four clients with rollbacks, savepoints, transactions of several clients and some that stay open long,
 * while the reader takes and stamps pages all the time.
 */
import { expect, test } from "vitest";
import { seeded } from "../../promises/support/workload.ts";
import { freshBuffer, openSession, type Session } from "../../support/buffer.ts";
import type { Database } from "../../support/postgres.ts";

const CLIENTS = ["A", "B", "C", "D"];
const WRITERS = 10;
const TRANSACTIONS = 60;
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** Emits, and then notes how many events of the client came before: in one transaction, so it is the order of commits. */
const step = (session: Session, client: string, id: string) =>
  session.query(
    `WITH emitted AS MATERIALIZED (SELECT spillway.emit($1, 't', id => $2) AS id)
     SELECT note($1, id) FROM emitted`,
    [client, id],
  );

async function write(session: Session, name: string, next: () => number): Promise<void> {
  for (let n = 0; n < TRANSACTIONS; n++) {
    await session.query("BEGIN");
    if (next() < 0.3) await session.query("SELECT pg_current_xact_id()");
    // In one order, as the advice to writers of several clients is.
    const clients = CLIENTS.filter(() => next() < 0.4);
    for (const client of clients.sort()) {
      await step(session, client, `${name}-${n}-${client}`);
      if (next() > 0.2) continue;
      await session.query("SAVEPOINT s");
      await step(session, client, `${name}-${n}-${client}-back`);
      await session.query("ROLLBACK TO s");
    }
    if (next() < 0.1) await session.query("SELECT count(*) FROM generate_series(1, 200000)");
    await session.query(next() < 0.3 ? "ROLLBACK" : "COMMIT");
  }
}

/** Takes pages until `done` and nothing waits. */
async function read(session: Session, done: () => boolean): Promise<{ client: string; id: string }[]> {
  const taken: { client: string; id: string; position: string }[] = [];
  for (let last = false; ; ) {
    const page = await session.query<{ client: string; id: string; position: string }>(
      `SELECT client_id AS client, id, position FROM spillway.event_buffer
       WHERE recorded IS NULL AND set_aside IS NULL ORDER BY position LIMIT 7`,
    );
    await session.query("UPDATE spillway.event_buffer SET recorded = now() WHERE position = ANY ($1)", [
      page.map(({ position }) => position),
    ]);
    taken.push(...page);
    if (page.length === 0 && last) return taken;
    last = done();
  }
}

const truth = (database: Database, client: string) =>
  database.query<{ id: string }>("SELECT id FROM truth WHERE client = $1 ORDER BY n", [client]);

test(`what is read is what was committed, client by client in its order (seed ${SEED})`, async () => {
  await using database = await freshBuffer();
  await database.query(`
    CREATE TABLE tally (client text PRIMARY KEY, n int NOT NULL);
    INSERT INTO tally SELECT unnest('{${CLIENTS.join()}}'::text[]), 0;
    CREATE TABLE truth (client text, n int, id text);
    CREATE FUNCTION note(c text, i text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE k int; BEGIN
      UPDATE tally SET n = n + 1 WHERE client = c RETURNING n INTO k;
      INSERT INTO truth VALUES (c, k, i);
    END $$`);
  const sessions = await Promise.all(Array.from({ length: WRITERS + 1 }, () => openSession(database.url)));
  const [reader, ...writers] = sessions as [Session, ...Session[]];
  const next = seeded(SEED);
  let done = false;
  const writing = Promise.all(writers.map((session, n) => write(session, `w${n}`, seeded(next() * 2 ** 31)))).finally(
    () => {
      done = true;
    },
  );
  const [taken] = await Promise.all([read(reader, () => done), writing]);
  for (const client of CLIENTS) {
    const ids = taken.filter((row) => row.client === client).map(({ id }) => id);
    expect(ids).toEqual((await truth(database, client)).map(({ id }) => id));
  }
  // Enough happened for the order to have been in danger.
  expect(taken.length).toBeGreaterThan(WRITERS * TRANSACTIONS * 0.5);
  await Promise.all(sessions.map((session) => session.end()));
});
