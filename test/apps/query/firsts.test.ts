import { expect, test } from "vitest";
import type { TailEvent } from "../../../apps/query/client-tail.ts";
import { Firsts } from "../../../apps/query/firsts.ts";
import type { Saved } from "../../../apps/query/questions.ts";
import { LOOKED_AT_NONE } from "../../../apps/query/scan.ts";

const event = (id: string, previous = -1n): TailEvent => ({
  clientId: "c",
  offset: 100n,
  id,
  type: "t",
  occurredAtMs: 0,
  json: "{}",
  bytes: 1,
  previous,
  verdict: "open",
});
/** An answer that shows rows of these identities. */
const answer = (nextOffset: bigint | null, ...ids: string[]): Saved => ({
  nextOffset,
  server: 1,
  places: new Map(ids.map((id) => [id, { epoch: 1, offset: 5n }])),
  rows: { events: [], cutAt: null },
  looked: LOOKED_AT_NONE,
});
/** The reads of one node: each tells what it looks up, and is answered by hand. */
function scene() {
  const firsts = new Firsts();
  const lookedUp: string[] = [];
  const answers: PromiseWithResolvers<Saved>[] = [];
  const read = (events: readonly TailEvent[], { partition = 0, rows = true, tailStart = 0n } = {}): Promise<Saved> =>
    firsts.page(partition, { events, tailStart, rowsAfter: rows ? [] : null }, ({ events: open }) => {
      lookedUp.push(open.map(({ id }) => id).join(" "));
      const answer = Promise.withResolvers<Saved>();
      answers.push(answer);
      return answer.promise;
    });
  const reply = async (saved: Saved, nth = answers.length - 1): Promise<void> => {
    answers[nth]?.resolve(saved);
    for (let i = 0; i < 5; i++) await Promise.resolve();
  };
  return { firsts, lookedUp, read, reply };
}

test("an event is looked up again as long as records below its tail's start are unsaved: one of them may be the first", async () => {
  const { lookedUp, read, reply } = scene();
  const events = [event("a")];
  for (const checkpoint of [9n, 10n]) {
    void read(events, { tailStart: 10n });
    await reply(answer(checkpoint));
  }
  void read(events, { tailStart: 10n });
  expect(lookedUp).toEqual(["a", "a", ""]);
});

test("an event that no row precedes is looked up once; one with a row or an earlier record each time", async () => {
  const { lookedUp, read, reply } = scene();
  const events = [event("first"), event("has-row"), event("came-before", 90n)];
  void read(events);
  await reply(answer(10n, "has-row"));
  void read([...events, event("new")]);
  await reply(answer(20n, "has-row"));
  expect(lookedUp).toEqual(["first has-row came-before", "has-row came-before new"]);
});

test("a checkpoint that goes back voids an answer that relied on what was known, and all is looked up again", async () => {
  const { lookedUp, read, reply } = scene();
  const events = [event("a"), event("b")];
  void read(events);
  await reply(answer(10n));
  const voided = read(events);
  await reply(answer(9n));
  await reply(answer(9n, "a"));
  expect((await voided).places.has("a")).toBe(true);
  void read(events);
  // A checkpoint that is gone is one that went back.
  await reply(answer(null, "a"));
  await reply(answer(null, "a"));
  void read(events);
  // Without one nothing is kept in mind: rows of the log before may still be coming.
  expect(lookedUp).toEqual(["a b", "", "a b", "a", "a b", "a b"]);
});

test("a read under way while a checkpoint is found to be back, in any partition, is void too", async () => {
  const { lookedUp, read, reply } = scene();
  const [here, there] = [[event("a")], [event("b")]];
  void read(here);
  await reply(answer(10n));
  void read(there, { partition: 1 });
  await reply(answer(10n));
  const relying = read(there, { partition: 1 });
  const fresh = read([event("c")], { partition: 1 });
  void read([]);
  await reply(answer(9n));
  await reply(answer(11n), 2);
  await reply(answer(11n), 3);
  await fresh;
  expect(lookedUp).toEqual(["a", "b", "", "c", "", "b"]);
  await reply(answer(11n));
  await relying;
});

test("an answer that was overtaken by a later one is none that went back", async () => {
  const { lookedUp, read, reply } = scene();
  const events = [event("a")];
  void read(events);
  await reply(answer(10n));
  const [slow, fast] = [read(events), read(events)];
  await reply(answer(12n), 2);
  await reply(answer(11n), 1);
  await Promise.all([slow, fast]);
  expect(lookedUp).toEqual(["a", "", ""]);
  void read(events);
  await reply(answer(11n));
  expect(lookedUp.slice(3)).toEqual(["", "a"]);
});

test("another server may have other rows", async () => {
  const { firsts, lookedUp, read, reply } = scene();
  const events = [event("a")];
  firsts.answeredBy(1_000.5);
  void read(events);
  await reply(answer(10n));
  firsts.answeredBy(1_000.5);
  void read(events);
  firsts.answeredBy(2_000.5);
  await reply(answer(10n));
  expect(lookedUp).toEqual(["a", "", "a"]);
});

test("a look-up without rows tells where an event lies that was saved meanwhile", async () => {
  const { lookedUp, read, reply } = scene();
  const events = [event("a"), event("b")];
  void read(events);
  await reply(answer(10n));
  const whole = read(events);
  await reply(answer(101n));
  await whole;
  const later = read(events, { rows: false });
  await reply(answer(101n));
  await reply(answer(101n, "a", "b"));
  expect((await later).places.has("a")).toBe(true);
  expect(lookedUp).toEqual(["a b", "", "", "a b"]);
  // Saved without a row it was a copy, which is told by asking again.
  const copy = [event("c")];
  void read(copy);
  await reply(answer(101n));
  void read(copy, { rows: false });
  await reply(answer(101n));
  expect(lookedUp.slice(4)).toEqual(["c", "", "c"]);
});
