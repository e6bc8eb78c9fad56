/** The fence: of two owners one saves, none waits for ever, and a frozen one is ended. */
import pg from "pg";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { readCheckpoints } from "#lib/postgres/checkpoints.ts";
import {
  beginCheckpoints,
  beginSuccessor,
  begunEpochs,
  endFrozenOwners,
  markCheckpoints,
  moveCheckpoints,
} from "../../../apps/sink/checkpoint.ts";
import { Lane } from "../../../apps/sink/lane.ts";
import { write } from "../../../apps/sink/write.ts";
import { clientOf, recordOf, someEvent } from "../../support/records.ts";
import { batchOf, EPOCH, freshStore, openPool, type Store } from "../../support/store.ts";
import { until } from "../../support/until.ts";

const PARTITIONS = 4;
const clients = [0, 1, 2, 3].map((partition) => clientOf(partition, PARTITIONS));

let store: Store;
beforeEach(async () => {
  store = await freshStore(PARTITIONS);
  onTestFinished(() => store[Symbol.asyncDispose]());
});

const at = (partition: number, offset: number, id: string) =>
  recordOf(someEvent({ clientId: clients[partition] ?? "", id }), BigInt(offset));

/** A connection of its own that has moved partition 0's checkpoint in a transaction, and is now silent. */
async function frozenOwner(copying: boolean, partition = 0): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: store.database.url, application_name: "spillway-sink" });
  client.on("error", () => undefined);
  await client.connect();
  onTestFinished(() => client.end().catch(() => undefined));
  await client.query("BEGIN");
  await client.query("UPDATE spillway.checkpoint SET next_offset = next_offset + 1 WHERE partition = $1", [partition]);
  if (copying) {
    const query = { submit: (connection: pg.Connection) => connection.query("COPY spillway.event FROM STDIN") };
    const started = new Promise<void>((resolve) => {
      Object.assign(query, { handleCopyInResponse: () => resolve(), handleError: () => undefined });
    });
    client.query(query as unknown as pg.Submittable);
    await started;
  }
  return client;
}

test("of writers that race from the same checkpoint exactly one saves, in each of many rounds", async () => {
  const pools = [1, 2, 3].map(() => openPool(store.database.url));
  onTestFinished(() => Promise.all(pools.map((pool) => pool.close())).then(() => undefined));
  for (let round = 0; round < 25; round++) {
    const batches = await Promise.all(
      pools.map((_, n) =>
        batchOf(PARTITIONS, { 0: [at(0, round, `${round}-${n}`)], 1: [at(1, round, `${round}-${n}`)] }),
      ),
    );
    const written = await Promise.all(
      pools.map((pool, n) => write(pool, EPOCH, batches[n] ?? { slices: [] }, "copy", systemClock)),
    );
    expect(written.map(({ kind }) => kind).sort()).toEqual(["fenced", "fenced", "written"]);
  }
  expect(await store.rows()).toHaveLength(50);
  expect(await store.checkpoints()).toEqual(["0:25", "1:25", "2:0", "3:0"]);
});

test("owners of the same partitions in opposite order do not deadlock", async () => {
  // Many, so that the rows would be locked in the order given unless the statement says otherwise.
  const partitions = Array.from({ length: 2_000 }, (_, partition) => partition);
  await beginCheckpoints(store.pool, 7, new Map(partitions.map((partition) => [partition, 0n])));
  await store.database.query("ANALYZE spillway.checkpoint");
  const pools = [1, 2].map(() => openPool(store.database.url));
  onTestFinished(() => Promise.all(pools.map((pool) => pool.close())).then(() => undefined));
  for (let round = 0n; round < 15n; round++) {
    const taken = partitions.slice(0, 500).map((partition) => ({
      lane: new Lane(partition),
      life: 0,
      expected: round,
      nextOffset: round + 1n,
      records: [],
      units: 0,
    }));
    const lost = await Promise.all(
      pools.map((pool, n) =>
        pool.transaction({ lockTimeoutMs: 20_000, statementTimeoutMs: 20_000, idleTimeoutMs: 20_000 }, (transaction) =>
          moveCheckpoints(transaction, 7, n === 0 ? taken : [...taken].reverse()),
        ),
      ),
    );
    expect(lost.map(({ length }) => length).sort()).toEqual([0, 500]);
  }
});

test("a checkpoint is begun once; whoever comes second changes nothing", async () => {
  await beginCheckpoints(
    store.pool,
    2,
    new Map([
      [0, 7n],
      [1, 9007199254740993n],
    ]),
  );
  await beginCheckpoints(
    store.pool,
    2,
    new Map([
      [0, 99n],
      [2, 1n],
    ]),
  );
  const found = await readCheckpoints(store.pool, 2, [0, 1, 2, 3]);
  expect([...found].map(([partition, { nextOffset, last }]) => [partition, nextOffset, last])).toEqual([
    [0, 7n, null],
    [1, 9007199254740993n, null],
    [2, 1n, null],
  ]);
});

test("marks tell where checkpoints stood; old ones are forgotten", async () => {
  await store.database.query(
    "INSERT INTO spillway.checkpoint_mark VALUES (1, 0, 5, now() - interval '4 days'), (1, 0, 6, now() - interval '1 day')",
  );
  await markCheckpoints(store.pool, EPOCH, [0, 2], Date.now());
  const marks = await store.database.query(
    "SELECT partition, next_offset::int AS next FROM spillway.checkpoint_mark ORDER BY partition, marked_at",
  );
  expect(marks).toEqual([
    { partition: 0, next: 6 },
    { partition: 0, next: 0 },
    { partition: 2, next: 0 },
  ]);
});

test("while the database's clock is astray no mark is kept: what it says then would be believed once it is set right", async () => {
  const marked = (): Promise<{ partition: number }[]> =>
    store.database.query("SELECT partition FROM spillway.checkpoint_mark ORDER BY partition");
  await markCheckpoints(store.pool, EPOCH, [0, 1, 2], Date.now());
  expect(await marked()).toHaveLength(3);
  for (const apartMs of [3_600_000, -3_600_000]) {
    await markCheckpoints(store.pool, EPOCH, [0, 2], Date.now() + apartMs);
    expect(await marked()).toEqual([{ partition: 1 }]);
  }
  await markCheckpoints(store.pool, EPOCH, [0, 2], Date.now() - 60_000);
  expect(await marked()).toHaveLength(3);
});

test("a gap without records moves the checkpoint and keeps the last record's hash", async () => {
  await store.write(await batchOf(PARTITIONS, { 0: [at(0, 0, "a")] }));
  const before = (await readCheckpoints(store.pool, EPOCH, [0])).get(0);
  const [slice] = (await batchOf(PARTITIONS, { 0: [at(0, 1, "b")] })).slices;
  if (!slice) throw new Error("no slice");
  const gap = { ...slice, rows: [], taken: { ...slice.taken, records: [], expected: 1n, nextOffset: 4n } };
  expect(await store.write({ slices: [gap] })).toMatchObject({ kind: "written", rows: 0 });
  expect((await readCheckpoints(store.pool, EPOCH, [0])).get(0)).toEqual({ ...before, nextOffset: 4n });
});

test("an owner frozen in the middle of COPY is ended, and no other", async () => {
  const frozen = await frozenOwner(true);
  const elsewhere = await frozenOwner(true, 3);
  const blocked = await store.write(await batchOf(PARTITIONS, { 0: [at(0, 0, "a")] })).catch((error: unknown) => error);
  expect((blocked as { code: string }).code).toBe("55P03");
  expect(await endFrozenOwners(store.pool, EPOCH, [0, 1, 2], 60_000)).toEqual([]);
  const { processID } = frozen as unknown as { processID: number };
  expect(await endFrozenOwners(store.pool, EPOCH, [0, 1, 2], 0)).toEqual([processID]);
  await until("its lock is gone", async () => {
    const written = await store.write(await batchOf(PARTITIONS, { 0: [at(0, 0, "a")] }));
    return written.kind === "written";
  });
  const [other] = await store.database.query("SELECT 1 FROM pg_stat_activity WHERE pid = $1", [
    (elsewhere as unknown as { processID: number }).processID,
  ]);
  expect(other).toBeDefined();
});

test("an owner that works is not ended, however long it takes", async () => {
  const working = await frozenOwner(false);
  const slow = working.query("SELECT pg_sleep(30)").catch(() => undefined);
  await until("it works", async () => {
    const sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
    return (await store.database.query(sql, [(working as unknown as { processID: number }).processID])).length > 0;
  });
  expect(await endFrozenOwners(store.pool, EPOCH, [0], 0)).toEqual([]);
  await store.database.query("SELECT pg_terminate_backend($1)", [
    (working as unknown as { processID: number }).processID,
  ]);
  await slow;
});

test("the next log's checkpoints begin only in a state in which the log before is saved up to its ends", async () => {
  const { pool, database } = store;
  const ends = new Map([0, 1, 2, 3].map((partition) => [partition, partition === 2 ? 5n : 0n]));
  const starts = new Map([0, 1, 2, 3, 4, 5].map((partition) => [partition, 0n]));
  expect(await beginSuccessor(pool, EPOCH, ends, starts)).toBe(false);
  expect(await begunEpochs(pool)).toEqual([EPOCH]);
  await database.query("UPDATE spillway.checkpoint SET next_offset = 5 WHERE partition = 2");
  expect(await beginSuccessor(pool, EPOCH, ends, starts)).toBe(true);
  expect((await begunEpochs(pool)).toSorted()).toEqual([EPOCH, EPOCH + 1]);
  // Whoever comes second changes nothing, and learns that it is so.
  await database.query(
    `UPDATE spillway.checkpoint SET next_offset = 9 WHERE log_epoch = ${EPOCH + 1} AND partition = 5`,
  );
  expect(await beginSuccessor(pool, EPOCH, ends, starts)).toBe(true);
  expect((await readCheckpoints(pool, EPOCH + 1, [5])).get(5)?.nextOffset).toBe(9n);
  // A partition without a checkpoint is not saved.
  await database.query(`DELETE FROM spillway.checkpoint WHERE log_epoch = ${EPOCH + 1} OR partition = 0`);
  expect(await beginSuccessor(pool, EPOCH, ends, starts)).toBe(false);
});
