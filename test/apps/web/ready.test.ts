import { expect, test } from "vitest";
import { bothReady } from "../../../apps/web/ready.ts";

test("one role that is not ready makes the process unready, and its name is told", () => {
  const state = bothReady({
    ingest: { ready: true, missing: [] },
    query: { ready: false, missing: ["log: it does not answer", "tail behind"], degraded: ["store: away"] },
  });
  expect(state).toEqual({
    ready: false,
    missing: ["query: log: it does not answer", "query: tail behind"],
    degraded: ["query: store: away"],
  });
});

test("a weakened role leaves the process ready and says so", () => {
  const state = bothReady({
    ingest: { ready: true, missing: [] },
    query: { ready: true, missing: [], degraded: ["store"] },
  });
  expect(state).toEqual({ ready: true, missing: [], degraded: ["query: store"] });
});
