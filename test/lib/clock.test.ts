import { validate, version } from "uuid";
import { expect, test, vi } from "vitest";
import { systemClock } from "#lib/clock.ts";

test("ids are UUIDv7, all different, and ascend within the process", () => {
  const ids = Array.from({ length: 20_000 }, () => systemClock.newId());
  expect(ids.every((id) => validate(id) && version(id) === 7)).toBe(true);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids).toEqual(ids.toSorted());
});

test("ids tell the time, and ascend when the wall clock goes back", () => {
  const now = vi.spyOn(Date, "now");
  try {
    const later = 4_000_000_000_000;
    const ids = [later, later - 60_000, later + 1].map((at) => {
      now.mockReturnValue(at);
      return systemClock.newId();
    });
    expect(Number.parseInt(ids[0]?.replace("-", "").slice(0, 12) ?? "", 16)).toBe(later);
    expect(ids).toEqual(ids.toSorted());
    expect(new Set(ids.map((id) => id.slice(24))).size).toBe(3);
  } finally {
    now.mockRestore();
  }
});
