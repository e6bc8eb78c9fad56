/**
 * Promise: during a rolling deploy, records of newer and older writers are read by every node, saved or not, with the same
 * bytes. Attack: their schemas are published while query node and sink run; the records are read before and after saving.
 */
import { expect, test } from "vitest";
import { fingerprintOf } from "#lib/codec.ts";
import type { Event } from "#lib/event.ts";
import { freshLog } from "../support/log.ts";
import { freshDatabase } from "../support/postgres.ts";
import { startApp } from "../support/process.ts";
import { clientOf, rawRecord, recordOf, someEvent } from "../support/records.ts";
import { until } from "../support/until.ts";
import { NEWER_SCHEMA, OLDER_SCHEMA, writeAs } from "../support/writers.ts";
import { page } from "./query/given.ts";

const PARTITIONS = 2;
const clientId = clientOf(0, PARTITIONS);
const event = (id: string, more: Partial<Event> = {}): Event => someEvent({ clientId, id, ...more });

test("records of a newer and an older writer pass query node and sink, unsaved and saved alike", async () => {
  await using log = await freshLog(PARTITIONS);
  const database = await freshDatabase();
  const env = { ...log.env, DATABASE_URL: database.url };
  const query = await startApp("apps/query/main.ts", env);
  await query.ready();
  const { controlWriter } = log.opened;
  await controlWriter.schema(fingerprintOf(NEWER_SCHEMA), NEWER_SCHEMA);
  await log.append(0, [rawRecord(0n, clientId, writeAs(NEWER_SCHEMA, event("newer"), { source: "x" }))]);
  await controlWriter.schema(fingerprintOf(OLDER_SCHEMA), OLDER_SCHEMA);
  await log.append(0, [
    rawRecord(0n, clientId, writeAs(OLDER_SCHEMA, event("older", { data: null }))),
    recordOf(event("ours"), 0n),
  ]);
  const unsaved = await page(query, { clientId });
  expect(unsaved.events.map(({ id }) => id)).toEqual(["newer", "older", "ours"]);
  expect(unsaved.headers.get("spillway-saved-through")).toBe("0");
  const sink = await startApp("apps/sink/main.ts", env);
  await until("all three are saved", async () => {
    const { headers } = await page(query, { clientId });
    return headers.get("spillway-saved-through") === unsaved.next;
  });
  expect((await page(query, { clientId, view: "saved" })).text).toBe(unsaved.text);
  expect(await Promise.all([sink.stop(), query.stop()])).toEqual([0, 0]);
  await database.drop();
});
