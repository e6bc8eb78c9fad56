import { expect, test } from "vitest";
import { type Findings, noFindings } from "../../../infra/demo/compare.ts";
import { type Outcome, verdict } from "../../../infra/demo/verdict.ts";

const outcome = (live: Partial<Findings>, read: Partial<Findings>): Outcome => ({
  run: "abcd",
  events: 20_000,
  airports: 220,
  rate: 2_000,
  sent: { seconds: 10, ackMs: [1, 2, 3], resends: 4 },
  live: {
    airport: "DFW",
    events: 1_103,
    frames: 900,
    interruptions: 2,
    findings: { ...noFindings(), found: 1_103, ...live },
    examples: [],
    trouble: undefined,
  },
  reads: [
    {
      when: "read at once",
      figures: {
        findings: { ...noFindings(), found: 20_000, ...read },
        examples: ["LAS: abcd-00001 is missing"],
        saved: 18_000,
        unsaved: 2_000,
      },
    },
  ],
});

test("a clean run is told with its figures", () => {
  const { clean, lines } = verdict(outcome({}, {}));
  const text = lines.join("\n");
  expect(clean).toBe(true);
  for (const figure of ["2,000 a second", "p50 2.00 ms", "4 resends", "2 interruptions", "18,000 saved, 2,000 unsaved"])
    expect(text).toContain(figure);
});

test.each(["missing", "doubled", "outOfOrder", "different"] as const)(
  "one event %s is enough for no clean run",
  (kind) => {
    expect(verdict(outcome({ [kind]: 1 }, {})).clean).toBe(false);
    const { clean, lines } = verdict(outcome({}, { [kind]: 1 }));
    expect(clean).toBe(false);
    expect(lines.join("\n")).toContain("LAS: abcd-00001 is missing");
  },
);
