import { expect, test } from "vitest";
import { createMetrics } from "#lib/metrics.ts";
import { Outflow } from "../../../apps/query/outflow.ts";

test("five hundred that take all they may and stand still leave each newcomer 32 KiB, and 8 MiB in all", () => {
  const outflow = new Outflow({ add: () => undefined }, createMetrics());
  expect(outflow.room(0)).toBe(256 * 1024);
  let bytes = 0;
  for (let n = 0; n < 500; n++) {
    const room = outflow.room(0);
    outflow.add(room);
    bytes += room;
    expect(outflow.room(room)).toBe(0);
  }
  expect(outflow.room(0)).toBeGreaterThan(32 * 1024);
  expect(bytes).toBeLessThan(56 * 1024 * 1024);
  outflow.remove(bytes);
  expect(outflow.room(0)).toBe(256 * 1024);
});
