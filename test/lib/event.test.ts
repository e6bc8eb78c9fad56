import fc from "fast-check";
import { expect, test } from "vitest";
import { eventJson, OCCURRED_AT_MS_MAX, OCCURRED_AT_MS_MIN, timeText } from "#lib/event.ts";
import { parseTime } from "#lib/rfc3339.ts";
import { HOSTILE_EVENTS } from "../support/corpus.ts";

const CURSOR = "0".repeat(24);

test("an event is printed on one line with its data byte for byte", () => {
  for (const { clientId, type, id, canonical } of HOSTILE_EVENTS) {
    const text = eventJson({ clientId, type, id, occurredAtMs: 1, receivedAtMs: 2, data: canonical }, CURSOR);
    expect(text).not.toMatch(/[\r\n]/);
    const { data, ...rest } = JSON.parse(text) as Record<string, unknown>;
    expect(rest).toEqual({ id, clientId, type, occurredAt: timeText(1), receivedAt: timeText(2), cursor: CURSOR });
    expect(data === undefined ? null : JSON.stringify(data)).toBe(canonical);
    expect(text).toContain(canonical === null ? `Z","cursor"` : `Z","data":${canonical},"cursor"`);
  }
});

test("absent data and null are told apart", () => {
  const event = { clientId: "c", id: "i", type: "t", occurredAtMs: 0, receivedAtMs: 0 };
  expect(JSON.parse(eventJson({ ...event, data: null }, CURSOR))).not.toHaveProperty("data");
  expect(JSON.parse(eventJson({ ...event, data: "null" }, CURSOR))).toHaveProperty("data", null);
});

test("every time is printed in one form, which reads back as the same time", () => {
  expect(timeText(OCCURRED_AT_MS_MIN)).toBe("0001-01-01T00:00:00.000Z");
  expect(timeText(OCCURRED_AT_MS_MAX)).toBe("9999-12-31T23:59:59.999Z");
  fc.assert(
    fc.property(fc.integer({ min: OCCURRED_AT_MS_MIN, max: OCCURRED_AT_MS_MAX }), (ms) => {
      expect(timeText(ms)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(parseTime(timeText(ms))).toEqual({ ms });
    }),
  );
});

test("an offset moves the time, and never the instant", () => {
  const offset = fc.integer({ min: -1_439, max: 1_439 });
  const ms = fc.integer({ min: OCCURRED_AT_MS_MIN + 86_400_000, max: OCCURRED_AT_MS_MAX - 86_400_000 });
  fc.assert(
    fc.property(ms, offset, (instant, minutes) => {
      const local = timeText(instant + minutes * 60_000).slice(0, -1);
      const two = (n: number) => String(n).padStart(2, "0");
      const away = Math.abs(minutes);
      const text = `${local}${minutes < 0 ? "-" : "+"}${two(Math.trunc(away / 60))}:${two(away % 60)}`;
      expect(parseTime(text)).toEqual({ ms: instant });
    }),
  );
});

test.each([
  ["2026-01-31T08:00:00Z", "2026-01-31T08:00:00.000Z"],
  ["2026-01-31t08:00:00z", "2026-01-31T08:00:00.000Z"],
  ["2026-01-31T08:00:00.5+01:30", "2026-01-31T06:30:00.500Z"],
  ["2026-01-31T08:00:00-00:00", "2026-01-31T08:00:00.000Z"],
  ["2024-02-29T23:59:59.999999999Z", "2024-02-29T23:59:59.999Z"],
  ["1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"],
  ["2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000Z"],
  ["0099-03-01T00:00:00Z", "0099-03-01T00:00:00.000Z"],
  ["0000-12-31T23:59:59-00:01", "0001-01-01T00:00:59.000Z"],
])("%s is %s", (text, printed) => {
  const parsed = parseTime(text);
  expect("ms" in parsed ? timeText(parsed.ms) : parsed.fault).toBe(printed);
});

test("a calendar day is taken exactly when it exists", () => {
  const part = (min: number, max: number) => fc.integer({ min, max }).map((n) => String(n).padStart(2, "0"));
  const year = fc.integer({ min: 1, max: 9_999 }).map((n) => String(n).padStart(4, "0"));
  fc.assert(
    fc.property(year, part(0, 13), part(0, 32), (y, m, d) => {
      const text = `${y}-${m}-${d}T00:00:00.000Z`;
      const date = new Date(text);
      const exists = !Number.isNaN(date.getTime()) && date.toISOString() === text;
      expect("ms" in parseTime(text)).toBe(exists);
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  ["2016-12-31T23:59:60Z", /leap second/],
  ["2026-02-30T00:00:00Z", /no day of the calendar/],
  ["2026-01-31T24:00:00Z", /does not exist/],
  ["31.01.2026", /not an RFC 3339 time/],
])("%s is refused with a reason and an example", (text, reason) => {
  const parsed = parseTime(text);
  const fault = "fault" in parsed ? parsed.fault : "";
  expect(fault).toMatch(reason);
  expect(fault).toContain(JSON.stringify(text));
  expect(fault).toContain("send a time like");
});
