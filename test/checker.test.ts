/** The checker of the promise tests is itself checked: of each pair of histories it rejects one and accepts its near twin. */
import { describe, expect, test } from "vitest";
import { encodeEvent } from "#lib/codec.ts";
import { check, tooSeldom } from "./promises/support/checker.ts";
import { contentOf, decodeRecord, eventTexts, type Seen } from "./promises/support/content.ts";
import { exemptCopies } from "./promises/support/exemption.ts";
import type { Append, Entry, Live, Page } from "./promises/support/history.ts";
import type { SavedRow, TopicRecord, Truth } from "./promises/support/truth.ts";
import { bodyOf, HOSTILE_EVENTS } from "./support/corpus.ts";

/** One client, one partition: an event is its id and its offset; its content is its id unless told otherwise. */
const base = { clientId: "c", type: "t", partition: 0 };
const seen = (id: string, offset: number, more: Partial<Seen> = {}): Seen => {
  return { ...base, id, content: id, text: `text of ${id}`, offset: BigInt(offset), at: 1_000n, ...more };
};
const row = (id: string, offset: number, more: Partial<SavedRow> = {}): SavedRow => {
  return { clientId: "c", partition: 0, id, content: id, offset: BigInt(offset), ...more };
};
const record = (id: string, offset: number, content = id): TopicRecord => {
  return { partition: 0, offset: BigInt(offset), event: { clientId: "c", id, type: "t", content } };
};

let requests = 0;
/** Acknowledged at `offset` between two times. */
const append = (id: string, offset: number, tInv: number, tRet: number, more: Partial<Append> = {}): Append => {
  const position = { partition: 0, offset: BigInt(offset) };
  const common = { f: "append", node: "n", request: ++requests, index: 0, clientId: "c", id, content: id } as const;
  return { ...common, tInv: BigInt(tInv), tRet: BigInt(tRet), type: "ok", position, ...more };
};
const page = (events: readonly Seen[], next: number | null, more: Partial<Page> = {}): Page => {
  return {
    f: "page",
    node: "q",
    walk: ++requests,
    clientId: "c",
    order: "asc",
    after: null,
    before: null,
    types: null,
    view: "merged",
    consistency: "latest",
    atLeast: null,
    tInv: 900n,
    tRet: 1_000n,
    events,
    next: next === null ? null : BigInt(next),
    hasMore: false,
    savedThrough: null,
    ...more,
  };
};
const live = (events: readonly Seen[], through: number, more: Partial<Live> = {}): Live => {
  const common = { f: "live", reader: "r", clientId: "c", after: null, resumes: 0 } as const;
  return { ...common, events, through: BigInt(through), ...more };
};

/** A topic with these ids at 0, 1, 2…, nothing saved. */
const truth = (ids: readonly string[], more: Partial<Truth> = {}): Truth => ({
  topic: ids.map((id, offset) => record(id, offset)),
  logStarts: new Map([[0, 0n]]),
  rows: [],
  checkpoints: new Map([[0, 0n]]),
  dead: [],
  finals: [],
  ...more,
});
/** a, b and c at 0, 1 and 2, acknowledged one after the other. */
const ABC = ["a", "b", "c"];
const appends = (): Append[] => [append("a", 0, 0, 10), append("b", 1, 20, 30), append("c", 2, 40, 50)];
const shownABC = ABC.map((id, offset) => seen(id, offset));
const saved = (count: number, rows: readonly SavedRow[]): Partial<Truth> => {
  return { rows, checkpoints: new Map([[0, BigInt(count)]]) };
};
const rowsABC = ABC.map((id, offset) => row(id, offset));

interface Pair {
  readonly name: string;
  readonly invariant: number;
  readonly rejected: { readonly entries: readonly Entry[]; readonly truth: Truth };
  readonly accepted: { readonly entries: readonly Entry[]; readonly truth: Truth };
}

const PAIRS: readonly Pair[] = [
  {
    name: "an acknowledged event is not in the topic | one that was not acknowledged",
    invariant: 1,
    rejected: { entries: [...appends(), append("d", 3, 60, 70)], truth: truth(ABC) },
    accepted: { entries: [...appends(), append("d", 3, 60, 70, { type: "info", position: null })], truth: truth(ABC) },
  },
  {
    name: "an acknowledged event lies below the checkpoint without a row | at the checkpoint",
    invariant: 1,
    rejected: { entries: appends(), truth: truth(ABC, saved(3, rowsABC.slice(0, 2))) },
    accepted: { entries: appends(), truth: truth(ABC, saved(2, rowsABC.slice(0, 2))) },
  },
  {
    name: "an acknowledged event was set aside | bytes that nobody submitted were",
    invariant: 1,
    rejected: {
      entries: appends(),
      truth: truth(ABC, { ...saved(3, rowsABC.slice(0, 2)), dead: [{ partition: 0, offset: 2n }] }),
    },
    accepted: {
      entries: appends(),
      truth: {
        ...truth(ABC, { ...saved(4, rowsABC), dead: [{ partition: 0, offset: 3n }] }),
        topic: [...ABC.map((id, offset) => record(id, offset)), { partition: 0, offset: 3n, event: null }],
      },
    },
  },
  {
    name: "a final read misses an acknowledged event | shows all",
    invariant: 1,
    rejected: {
      entries: appends(),
      truth: truth(ABC, { finals: [{ node: "q", clientId: "c", events: shownABC.slice(0, 2) }] }),
    },
    accepted: { entries: appends(), truth: truth(ABC, { finals: [{ node: "q", clientId: "c", events: shownABC }] }) },
  },
  {
    name: "the log was trimmed over an unsaved event | over a saved one",
    invariant: 1,
    rejected: {
      entries: appends(),
      truth: { ...truth(ABC), topic: [record("c", 2)], logStarts: new Map([[0, 2n]]), ...saved(2, [row("b", 1)]) },
    },
    accepted: {
      entries: appends(),
      truth: {
        ...truth(ABC),
        topic: [record("c", 2)],
        logStarts: new Map([[0, 2n]]),
        ...saved(2, rowsABC.slice(0, 2)),
      },
    },
  },
  {
    name: "an event nobody sent is shown | one whose sender never heard back",
    invariant: 2,
    rejected: { entries: [...appends(), page([...shownABC, seen("x", 3)], 3)], truth: truth([...ABC, "x"]) },
    accepted: {
      entries: [
        ...appends(),
        append("x", 0, 60, 70, { type: "info", position: null }),
        page([...shownABC, seen("x", 3)], 3),
      ],
      truth: truth([...ABC, "x"]),
    },
  },
  {
    name: "an event is there although it was surely refused | perhaps stored",
    invariant: 2,
    rejected: {
      entries: [...appends(), append("x", 0, 60, 70, { type: "fail", position: null })],
      truth: truth([...ABC, "x"]),
    },
    accepted: {
      entries: [...appends(), append("x", 0, 60, 70, { type: "info", position: null })],
      truth: truth([...ABC, "x"]),
    },
  },
  {
    name: "an event was shown before it was sent | while it was being sent",
    invariant: 2,
    rejected: {
      entries: [...appends(), live([seen("a", 0), seen("b", 1, { at: 19n }), seen("c", 2)], 2)],
      truth: truth(ABC),
    },
    accepted: {
      entries: [...appends(), live([seen("a", 0), seen("b", 1, { at: 21n }), seen("c", 2)], 2)],
      truth: truth(ABC),
    },
  },
  {
    name: "a row says something else than what was sent | the same",
    invariant: 2,
    rejected: {
      entries: appends(),
      truth: truth(ABC, saved(3, [...rowsABC.slice(0, 2), row("c", 2, { content: "C" })])),
    },
    accepted: { entries: appends(), truth: truth(ABC, saved(3, rowsABC)) },
  },
  {
    name: "the last copy wins | the first",
    invariant: 2,
    rejected: {
      entries: [
        ...appends(),
        append("a", 3, 60, 70, { content: "A" }),
        page([seen("a", 0, { content: "A" }), ...shownABC.slice(1)], 3),
      ],
      truth: { ...truth(ABC), topic: [...truth(ABC).topic, record("a", 3, "A")] },
    },
    accepted: {
      entries: [...appends(), append("a", 3, 60, 70, { content: "A" }), page(shownABC, 3)],
      truth: { ...truth(ABC), topic: [...truth(ABC).topic, record("a", 3, "A")] },
    },
  },
  {
    name: "an event is shown at its copy's position | at its own",
    invariant: 3,
    rejected: {
      entries: [...appends(), append("a", 3, 60, 70), live([...shownABC.slice(1), seen("a", 3)], 3, { after: 0n })],
      truth: truth([...ABC, "a"]),
    },
    accepted: {
      entries: [...appends(), append("a", 3, 60, 70), live(shownABC.slice(1), 3, { after: 0n })],
      truth: truth([...ABC, "a"]),
    },
  },
  {
    name: "an acknowledged cursor names another event's place | a later copy's",
    invariant: 3,
    rejected: { entries: [...appends(), append("a", 2, 60, 70)], truth: truth([...ABC, "a"]) },
    accepted: { entries: [...appends(), append("a", 3, 60, 70)], truth: truth([...ABC, "a"]) },
  },
  {
    name: "an id comes twice in a walk | in two walks",
    invariant: 4,
    rejected: {
      entries: [...appends(), page([seen("a", 0)], 0, { walk: -1, hasMore: true }), page(shownABC, 2, { walk: -1 })],
      truth: truth(ABC),
    },
    accepted: {
      entries: [...appends(), page([seen("a", 0)], 0, { walk: -1, hasMore: true }), page(shownABC, 2, { walk: -2 })],
      truth: truth(ABC),
    },
  },
  {
    name: "an id is saved twice | once, its copy not",
    invariant: 4,
    rejected: { entries: appends(), truth: truth([...ABC, "a"], saved(4, [...rowsABC, row("a", 3)])) },
    accepted: { entries: appends(), truth: truth([...ABC, "a"], saved(4, rowsABC)) },
  },
  {
    name: "an event acknowledged before another was sent comes after it | that was still under way",
    invariant: 5,
    rejected: { entries: [append("b", 1, 0, 10), append("a", 0, 20, 30)], truth: truth(["a", "b"]) },
    accepted: { entries: [append("b", 1, 0, 21), append("a", 0, 20, 30)], truth: truth(["a", "b"]) },
  },
  {
    name: "the order of a request is lost | of ids that were sent before by themselves",
    invariant: 5,
    rejected: {
      entries: [append("b", 1, 0, 10, { request: -1, index: 0 }), append("a", 0, 0, 10, { request: -1, index: 1 })],
      truth: truth(["a", "b"]),
    },
    accepted: {
      entries: [
        append("a", 0, 0, 10, { request: -2, type: "info", position: null }),
        append("b", 1, 0, 10, { request: -1, index: 0 }),
        append("a", 0, 0, 10, { request: -1, index: 1 }),
      ],
      truth: truth(["a", "b"]),
    },
  },
  {
    name: "a page has a hole | ends before it",
    invariant: 6,
    rejected: { entries: [...appends(), page([seen("a", 0), seen("c", 2)], 2)], truth: truth(ABC) },
    accepted: { entries: [...appends(), page([seen("a", 0)], 0, { hasMore: true })], truth: truth(ABC) },
  },
  {
    name: "a descending page has a hole | begins at its cursor",
    invariant: 6,
    rejected: {
      entries: [...appends(), page([seen("c", 2), seen("a", 0)], null, { order: "desc" })],
      truth: truth(ABC),
    },
    accepted: {
      entries: [...appends(), page([seen("b", 1), seen("a", 0)], null, { order: "desc", before: 2n })],
      truth: truth(ABC),
    },
  },
  {
    name: "a page's `next` passes over an event | over a copy",
    invariant: 6,
    rejected: { entries: [...appends(), page(shownABC.slice(0, 2), 2, { hasMore: true })], truth: truth(ABC) },
    accepted: { entries: [...appends(), page(shownABC, 3, { hasMore: true })], truth: truth([...ABC, "a"]) },
  },
  {
    name: "a filter drops what it should show | what it should not",
    invariant: 6,
    rejected: { entries: [...appends(), page([seen("a", 0)], 2, { types: ["t"] })], truth: truth(ABC) },
    accepted: { entries: [...appends(), page([], 2, { types: ["other"] })], truth: truth(ABC) },
  },
  {
    name: "an unsaved view shows a hole above the checkpoint | nothing below it",
    invariant: 6,
    rejected: {
      entries: [...appends(), page([seen("c", 2)], 2, { view: "unsaved", savedThrough: 0n })],
      truth: truth(ABC, saved(1, rowsABC.slice(0, 1))),
    },
    accepted: {
      entries: [...appends(), page([seen("b", 1), seen("c", 2)], 2, { view: "unsaved", savedThrough: 0n })],
      truth: truth(ABC, saved(1, rowsABC.slice(0, 1))),
    },
  },
  {
    name: "a latest read ends before an acknowledged event | that was acknowledged later",
    invariant: 7,
    rejected: { entries: [...appends(), page(shownABC.slice(0, 2), 1, { tInv: 51n })], truth: truth(ABC) },
    accepted: { entries: [...appends(), page(shownABC.slice(0, 2), 1, { tInv: 49n })], truth: truth(ABC) },
  },
  {
    name: "a descending latest read begins below an acknowledged event | is only what is known",
    invariant: 7,
    rejected: { entries: [...appends(), page([seen("b", 1)], 1, { order: "desc", hasMore: true })], truth: truth(ABC) },
    accepted: {
      entries: [...appends(), page([seen("b", 1)], 1, { order: "desc", hasMore: true, consistency: "known" })],
      truth: truth(ABC),
    },
  },
  {
    name: "a filtered latest read lacks the newest match | the newest does not match",
    invariant: 7,
    rejected: {
      entries: [...appends(), page([seen("b", 1)], 1, { order: "desc", hasMore: true, types: ["t"] })],
      truth: truth(ABC),
    },
    accepted: {
      entries: [...appends(), page([seen("b", 1)], 1, { order: "desc", hasMore: true, types: ["t"] })],
      truth: { ...truth(ABC), topic: [record("a", 0), record("b", 1), ...othersType("c", 2)] },
    },
  },
  {
    name: "a read does not cover its token | covers just that",
    invariant: 7,
    rejected: { entries: [...appends(), page(shownABC.slice(0, 1), 0, { atLeast: 1n })], truth: truth(ABC) },
    accepted: { entries: [...appends(), page(shownABC.slice(0, 2), 1, { atLeast: 1n })], truth: truth(ABC) },
  },
  {
    name: "a later read covers less than an earlier one | than one under way",
    invariant: 8,
    rejected: {
      entries: [...unheard(), page(shownABC, 2, { tRet: 950n }), page(shownABC.slice(0, 2), 1, { tInv: 951n })],
      truth: truth(ABC),
    },
    accepted: {
      entries: [...unheard(), page(shownABC, 2, { tRet: 950n }), page(shownABC.slice(0, 2), 1, { tInv: 949n })],
      truth: truth(ABC),
    },
  },
  {
    name: "a tail has a gap | ends there",
    invariant: 9,
    rejected: { entries: [...appends(), live([seen("a", 0), seen("c", 2)], 2)], truth: truth(ABC) },
    accepted: { entries: [...appends(), live([seen("a", 0)], 0)], truth: truth(ABC) },
  },
  {
    name: "a tail repeats an event after it was resumed | goes on behind it",
    invariant: 9,
    rejected: {
      entries: [...appends(), live([seen("a", 0), seen("b", 1), seen("b", 1), seen("c", 2)], 2)],
      truth: truth(ABC),
    },
    accepted: { entries: [...appends(), live(shownABC, 2, { resumes: 1 })], truth: truth(ABC) },
  },
  {
    name: "a tail begins too late | from where it asked",
    invariant: 9,
    rejected: { entries: [...appends(), live([seen("c", 2)], 2, { after: 0n })], truth: truth(ABC) },
    accepted: { entries: [...appends(), live([seen("c", 2)], 2, { after: 1n })], truth: truth(ABC) },
  },
  {
    name: "a saved event is printed anew | in the same text",
    invariant: 10,
    rejected: {
      entries: [...appends(), page(shownABC, 2), live([seen("a", 0, { text: "other" }), ...shownABC.slice(1)], 2)],
      truth: truth(ABC),
    },
    accepted: { entries: [...appends(), page(shownABC, 2), live(shownABC, 2)], truth: truth(ABC) },
  },
  {
    name: "an offset below the checkpoint is nowhere, though nobody heard of it | a copy",
    invariant: 12,
    rejected: { entries: unheard(), truth: truth(ABC, saved(3, rowsABC.slice(0, 2))) },
    accepted: { entries: unheard(), truth: truth(["a", "b", "a"], saved(3, rowsABC.slice(0, 2))) },
  },
  {
    name: "a row lies at the checkpoint | below it",
    invariant: 12,
    rejected: { entries: appends(), truth: truth(ABC, saved(2, rowsABC)) },
    accepted: { entries: appends(), truth: truth(ABC, saved(3, rowsABC)) },
  },
  {
    name: "a record is saved and set aside | only saved",
    invariant: 12,
    rejected: { entries: unheard(), truth: truth(ABC, { ...saved(3, rowsABC), dead: [{ partition: 0, offset: 2n }] }) },
    accepted: { entries: unheard(), truth: truth(ABC, saved(3, rowsABC)) },
  },
  {
    name: "a reader is shown another client's event | its own",
    invariant: 13,
    rejected: {
      entries: [
        ...appends(),
        append("x", 0, 0, 10, { clientId: "d", position: { partition: 1, offset: 0n } }),
        page([...shownABC, seen("x", 0, { clientId: "d", partition: 1 })], 2),
      ],
      truth: {
        ...truth(ABC),
        topic: [
          ...truth(ABC).topic,
          { partition: 1, offset: 0n, event: { clientId: "d", id: "x", type: "t", content: "x" } },
        ],
      },
    },
    accepted: {
      entries: [
        ...appends(),
        append("x", 0, 0, 10, { clientId: "d", position: { partition: 1, offset: 0n } }),
        page(shownABC, 2),
      ],
      truth: {
        ...truth(ABC),
        topic: [
          ...truth(ABC).topic,
          { partition: 1, offset: 0n, event: { clientId: "d", id: "x", type: "t", content: "x" } },
        ],
      },
    },
  },
];

/** The same three, of which nobody heard that they are there. */
function unheard(): Append[] {
  return appends().map((one) => ({ ...one, type: "info" as const, position: null }));
}

function othersType(id: string, offset: number): TopicRecord[] {
  return [{ partition: 0, offset: BigInt(offset), event: { clientId: "c", id, type: "other", content: id } }];
}

describe("the checker tells apart", () => {
  test.each(PAIRS)("I$invariant: $name", ({ invariant, rejected, accepted }) => {
    expect(check(accepted, accepted.truth).violations).toEqual([]);
    expect(check(rejected, rejected.truth).violations.map((one) => one.invariant)).toContain(invariant);
  });

  test("every invariant has a pair", () => {
    expect([...new Set(PAIRS.map(({ invariant }) => invariant))]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13]);
  });

  test("much from little: counts below what a verdict needs make it unknown", () => {
    const { counts } = check({ entries: [...appends(), page(shownABC, 2, { savedThrough: 0n })] }, truth(ABC));
    expect(counts).toMatchObject({ okIds: 3, pages: 1, mixedPages: 1, savedShown: 1, unsavedShown: 2 });
    expect(tooSeldom(counts, { okIds: 3, mixedPages: 1 })).toEqual([]);
    expect(tooSeldom(counts, { okIds: 4, liveEvents: 1 })).toHaveLength(2);
  });

  test("50,000 events are judged in a moment: no step looks at all of them for each", () => {
    const ids = Array.from({ length: 50_000 }, (_, n) => `e${n}`);
    const entries = ids.map((id, n) => append(id, n, 2 * n, 2 * n + 1));
    const all = ids.map((id, n) => seen(id, n, { at: 1_000_000n }));
    const shown = [live(all, ids.length - 1), page(all, ids.length - 1, { tInv: 900_000n, tRet: 1_000_000n })];
    const finals = [{ node: "q", clientId: "c", events: all }];
    expect(check({ entries: [...entries, ...shown] }, truth(ids, { finals })).violations).toEqual([]);
  });
});

describe("while the database is away, a copy is pardoned", () => {
  const outages = [{ from: 900n, to: 1_000n }];
  const appends = [append("a", 0, 1, 2), append("b", 1, 3, 4), append("a", 2, 5, 6), append("c", 3, 7, 8)];
  const there = truth(["a", "b", "a", "c"], {
    rows: [row("a", 0), row("b", 1), row("c", 3)],
    checkpoints: new Map([[0, 4n]]),
  });
  const broken = (entry: Page | Live): number[] => {
    const history = { entries: [...appends, entry] };
    exemptCopies(history, there, outages);
    return [...new Set(check(history, there).violations.map(({ invariant }) => invariant))];
  };
  const copy = { after: 0n, view: "unsaved", savedThrough: 0n } as const;
  const shown = [seen("b", 1), seen("a", 2), seen("c", 3)];

  test("whose first copy was saved when its page was made", () => {
    expect(broken(page(shown, 3, copy))).toEqual([]);
  });

  test("and none whose first copy was unsaved then, although it is saved in the end", () => {
    expect(broken(page(shown, 3, { ...copy, savedThrough: null }))).toContain(3);
  });

  test("and none that was read at another time", () => {
    expect(broken(page(shown, 3, { ...copy, tInv: 1_001n, tRet: 1_002n }))).toContain(3);
  });

  test("and nothing else of its page", () => {
    expect(broken(page([seen("a", 2), seen("c", 3)], 3, copy))).toEqual([6]);
  });
});

describe("the contents are compared by", () => {
  test("a canonicaliser of its own, which tells all hostile events apart and knows each in its stored form", () => {
    const occurredAt = 0;
    const contents = new Set<string>();
    for (const one of HOSTILE_EVENTS) {
      const { clientId, id, type, canonical } = one;
      const sent = JSON.parse(bodyOf(one)) as { data?: unknown };
      const content = contentOf({ clientId, id, type, occurredAt, ...("data" in sent && { data: sent.data }) });
      const stored = canonical === null ? {} : { data: JSON.parse(canonical) as unknown };
      expect(contentOf({ clientId, id, type, occurredAt, ...stored })).toBe(content);
      const bytes = encodeEvent({ clientId, id, type, occurredAtMs: occurredAt, receivedAtMs: 1, data: canonical });
      expect(decodeRecord(bytes)?.content).toBe(content);
      contents.add(content);
    }
    expect(contents.size).toBe(HOSTILE_EVENTS.length);
  });

  test("the very texts of an answer, cut where its events begin and end", () => {
    const texts = ['{"id":"a,]}\\"","data":[{},[1,[]]]}', '{"id":"\\\\"}', "{}"];
    expect(eventTexts(`{"type":"events","clientId":"\\"events\\":[x","events":[${texts.join()}],"next":"0"}`)).toEqual(
      texts,
    );
    expect(eventTexts('{"events":[],"next":"0"}')).toEqual([]);
  });
});
