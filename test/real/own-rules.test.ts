/**
 * Promise: an event that a rule of the user's own refuses is set aside, and everybody else's events go on. Attack: a unique
 * index, a foreign key and a check on our table, and a crowd of refused events with good ones only behind it.
 */
import { randomBytes } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import type { Event } from "#lib/event.ts";
import { freshLog } from "../support/log.ts";
import { freshDatabase } from "../support/postgres.ts";
import { startApp } from "../support/process.ts";
import { clientOf, recordOf, someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";

const good = clientOf(0, 1, "good");
const bad = clientOf(0, 1, "bad");
const event = (id: string, more: Partial<Event> = {}): Event => someEvent({ clientId: good, id, ...more });

test.each([
  ["a unique index", "CREATE UNIQUE INDEX mine ON spillway.event (client_id, type)", { type: "once" }, "refused-23505"],
  [
    "a foreign key",
    `CREATE TABLE public.customer (id text PRIMARY KEY); INSERT INTO public.customer VALUES ('${good}');
     ALTER TABLE spillway.event ADD FOREIGN KEY (client_id) REFERENCES public.customer (id)`,
    { clientId: bad },
    "refused-23503",
  ],
  [
    "an index that a value is too large for",
    "CREATE INDEX mine ON spillway.event ((data->>'text'))",
    { data: JSON.stringify({ text: randomBytes(6_000).toString("base64") }) },
    "refused-54000",
  ],
  [
    "a trigger that looks for what is not there",
    `CREATE TABLE public.customer (id text PRIMARY KEY); INSERT INTO public.customer VALUES ('${good}');
     CREATE FUNCTION public.known() RETURNS trigger LANGUAGE plpgsql AS
       $$ DECLARE found text; BEGIN SELECT id INTO STRICT found FROM public.customer WHERE id = NEW.client_id; RETURN NEW; END $$;
     CREATE TRIGGER known BEFORE INSERT ON spillway.event FOR EACH ROW EXECUTE FUNCTION public.known()`,
    { clientId: bad },
    "refused-P0002",
  ],
  [
    "a check, and a crowd of ten",
    "ALTER TABLE spillway.event ADD CHECK (type <> 'bad')",
    { type: "bad" },
    "refused-23514",
  ],
])("%s sets its events aside, and the others are saved", async (name, rule, broken, reason) => {
  const log = await freshLog(1);
  const database = await freshDatabase();
  const sink = await startApp("apps/sink/main.ts", { ...log.env, DATABASE_URL: database.url });
  onTestFinished(async () => {
    await sink.kill();
    await database.drop();
    await log[Symbol.asyncDispose]();
  });
  await log.append(0, [recordOf(event("before", { type: "once" }), 0n)]);
  await sink.ready();
  const ids = (): Promise<{ id: string }[]> => database.query('SELECT id FROM spillway.event ORDER BY "offset"');
  await until("the first event is saved", async () => (await ids()).length === 1);
  await database.query(rule);
  const crowd = name.includes("ten") ? 10 : 1;
  await log.append(
    0,
    Array.from({ length: crowd }, (_, n) => recordOf(event(`bad-${n}`, broken), 0n)),
  );
  if (crowd > 1) await sink.line("were refused by the table");
  await log.append(0, [recordOf(event("after", { type: "fine" }), 0n)]);
  await until("the event behind is saved", async () => (await ids()).length === 2);
  expect((await ids()).map(({ id }) => id)).toEqual(["before", "after"]);
  const dead = await database.query<{ reason: string }>("SELECT reason FROM spillway.dead_letter");
  expect(dead.map((one) => one.reason)).toEqual(Array.from({ length: crowd }, () => reason));
});
