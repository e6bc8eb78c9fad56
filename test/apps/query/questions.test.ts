import fc from "fast-check";
import { expect, test } from "vitest";
import type { TailEvent } from "../../../apps/query/client-tail.ts";
import type { Selection } from "../../../apps/query/merge.ts";
import { PageQuestion, parameters } from "../../../apps/query/questions.ts";
import { orderOf } from "./model.ts";

const place = fc.record({ epoch: fc.constantFrom(1, 2), offset: fc.constantFrom(-1n, 1n, 11n) });
/** Few values of each, so that equal ones are drawn, and such that run into one another where nothing parts them. */
const drawn = fc.record({
  clientId: fc.constantFrom("1", "11", "1 1", "null [] 1"),
  selection: fc.record<Selection>({
    after: place,
    before: fc.option(place),
    types: fc.option(fc.constantFrom(new Set(["1"]), new Set(["1", "11"]), new Set(['1","11']))),
    sinceMs: fc.option(fc.constantFrom(1, 11)),
    untilMs: fc.option(fc.constantFrom(1, 11)),
    order: fc.constantFrom("asc", "desc"),
    limit: fc.constantFrom(1, 11),
  }),
  rowsAfter: fc.option(fc.constantFrom([], [1n], [1n, 1n], [11n])),
});
type Drawn = typeof drawn extends fc.Arbitrary<infer D> ? D : never;

const NO_IDS: readonly TailEvent[] = [];
const questionOf = ({ clientId, selection, rowsAfter }: Drawn): PageQuestion =>
  new PageQuestion(orderOf(clientId), selection, { events: NO_IDS, tailStart: 0n, rowsAfter }, 500);

test("two questions are one if and only if they ask the database the same", () => {
  // Two that differ in one part at most: where two differ in many, a part that the key forgets does not show.
  const part = fc.constantFrom(
    "after",
    "before",
    "types",
    "sinceMs",
    "untilMs",
    "limit",
    "order",
    "rowsAfter",
    "clientId",
  );
  fc.assert(
    fc.property(drawn, drawn, part, (a, b, name) => {
      const mixed = { ...a, [name]: { ...b, ...b.selection }[name], selection: { ...a.selection } };
      if (name in a.selection) Object.assign(mixed.selection, { [name]: b.selection[name as keyof Selection] });
      const [one, other] = [questionOf(a), questionOf(mixed)];
      const same = JSON.stringify(parameters([one])) === JSON.stringify(parameters([other]));
      expect(one.key === other.key).toBe(one.form === other.form && same);
    }),
    { numRuns: 20_000 },
  );
});

test("an equal question's identities are asked about too", () => {
  const ids = (...some: string[]): readonly TailEvent[] => some.map((id) => ({ id }) as TailEvent);
  const selection: Selection = {
    after: { epoch: 0, offset: -1n },
    before: null,
    types: null,
    sinceMs: null,
    untilMs: null,
    order: "asc",
    limit: 10,
  };
  const [one, other] = [ids("a", 'b"\\'), ids("a", "c,{}")].map(
    (events) => new PageQuestion(orderOf("x"), selection, { events, tailStart: 0n, rowsAfter: [] }, 500),
  ) as [PageQuestion, PageQuestion];
  expect(one.key).toBe(other.key);
  one.join(other);
  expect(parameters([one])[9]).toEqual(['{"a","b\\"\\\\","c,{}"}']);
});
