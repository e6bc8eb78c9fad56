import { describe, expect, test } from "vitest";
import type { Event } from "../../../clients/typescript/src/index.ts";
import { Comparison, isClean, type Sent } from "../../../infra/demo/compare.ts";
import { departure } from "../../../infra/demo/flights.ts";

const flight = { date: "2001/01/14 21:55", delay: -5, distance: 407, origin: "LAS", destination: "OAK" };
const cursor = (place: number): string => `04${String(place).padStart(4, "0")}`;

/** Three events of one client, each acknowledged at its place. */
const three = (): Sent[] =>
  [0, 1, 2].map((row) => ({ event: departure(flight, row, "run"), cursor: cursor(row), resent: false }));

const show = ({ event }: Sent, place: number, more: Partial<Event> = {}): Event => ({
  ...event,
  receivedAt: "2026-01-01T00:00:00.000Z",
  cursor: cursor(place),
  ...more,
});

function compared(sent: readonly Sent[], shown: readonly Event[]) {
  const comparison = new Comparison("run", sent);
  for (const one of shown) comparison.take(one);
  return comparison.finish();
}

describe("what came back", () => {
  test("is clean when it is what was sent, between other runs' events", () => {
    const sent = three();
    const shown = sent.map((one, at) => show(one, at));
    const other = { ...show(sent[0] as Sent, 9), id: "other-00001" };
    const findings = compared(sent, [other, ...shown, other]);
    expect(findings).toEqual({ found: 3, missing: 0, doubled: 0, outOfOrder: 0, different: 0 });
    expect(isClean(findings)).toBe(true);
  });

  test.each<[string, (sent: Sent[]) => Event[], string]>([
    ["lacks an event", ([a, , c]) => [show(a as Sent, 0), show(c as Sent, 2)], "missing"],
    ["has one twice", (all) => [...all.map((one, at) => show(one, at)), show(all[2] as Sent, 3)], "doubled"],
    ["is swapped", ([a, b, c]) => [show(a as Sent, 0), show(c as Sent, 2), show(b as Sent, 1)], "outOfOrder"],
    [
      "has other data",
      (all) => all.map((one, at) => show(one, at, at === 1 ? { data: { delay: 1 } } : {})),
      "different",
    ],
    ["has other keys' order", (all) => all.map((one, at) => show(one, at, { data: reversed(one) })), "different"],
    [
      "has another time",
      (all) => all.map((one, at) => show(one, at, { occurredAt: "2001-01-14T21:55:00Z" })),
      "different",
    ],
    ["stands elsewhere than acknowledged", (all) => all.map((one, at) => show(one, at + 1)), "different"],
    [
      "has an event that nobody sent",
      (all) => [...all.map((one, at) => show(one, at)), { ...show(all[0] as Sent, 5), id: "run-99999" }],
      "different",
    ],
  ])("that %s is not clean", (_what, shown, kind) => {
    const sent = three();
    const findings = compared(sent, shown(sent));
    expect(isClean(findings)).toBe(false);
    expect(findings[kind as keyof typeof findings]).toBeGreaterThan(0);
  });

  test("may stand before the acknowledged place, never behind it, when it was sent again", () => {
    const sent = three().map((one, at) => ({ ...one, cursor: cursor(at + 5), resent: true }));
    expect(
      isClean(
        compared(
          sent,
          sent.map((one, at) => show(one, at)),
        ),
      ),
    ).toBe(true);
    expect(
      isClean(
        compared(
          sent,
          sent.map((one, at) => show(one, at + 6)),
        ),
      ),
    ).toBe(false);
  });
});

const reversed = ({ event }: Sent): unknown => Object.fromEntries(Object.entries(event.data).toReversed());
