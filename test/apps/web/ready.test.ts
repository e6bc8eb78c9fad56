import { expect, test } from "vitest";
import { bothReady } from "../../../apps/web/ready.ts";

const sinceMs = 1_000;

test("one role that is not ready makes the process unready, and its name is told", () => {
  const state = bothReady({
    ingest: { ready: true, missing: [] },
    query: {
      ready: false,
      missing: [
        { what: "log: it does not answer", sinceMs },
        { what: "tail behind", sinceMs: 2_000 },
      ],
      degraded: [{ what: "store: away", sinceMs }],
    },
  });
  expect(state).toEqual({
    ready: false,
    missing: [
      { what: "query: log: it does not answer", sinceMs },
      { what: "query: tail behind", sinceMs: 2_000 },
    ],
    degraded: [{ what: "query: store: away", sinceMs }],
  });
});

test("a weakened role leaves the process ready and says so", () => {
  const state = bothReady({
    ingest: { ready: true, missing: [] },
    query: { ready: true, missing: [], degraded: [{ what: "store", sinceMs }] },
  });
  expect(state).toEqual({ ready: true, missing: [], degraded: [{ what: "query: store", sinceMs }] });
});
