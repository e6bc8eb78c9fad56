import { expect, test } from "vitest";
import { type Problem, ProblemError } from "#lib/problem.ts";
import { listed, selected } from "../../../../apps/query/dead-letters/forms.ts";

/** The problem that a re-drive's body is refused with. */
const refusalOf = (body: Buffer | string): Problem | null => problemOf(() => selected(Buffer.from(body)));

function problemOf(read: () => unknown): Problem | null {
  try {
    read();
  } catch (error) {
    if (error instanceof ProblemError) return error.problem;
    throw error;
  }
  return null;
}

test.each([
  ["is no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "malformed-utf8"],
  ["begins with a byte order mark", Buffer.from('\ufeff{"after":"0"}'), "malformed-json"],
  ["is no JSON", Buffer.from("{"), "malformed-json"],
  ["has a key twice", Buffer.from('{"after":"0","after":"0"}'), "duplicate-key"],
  ["is as it should be", Buffer.from('{"after":"0"}'), "none"],
])("a body that %s is judged as an event's is", (_, body, code) => {
  expect(refusalOf(body)?.code ?? "none").toBe(code);
});

const FIELDS = "positions, reason, partition, after, through, limit";

test.each([
  ['{"foo":1}', "/foo", `"foo" is not known here: use ${FIELDS}.`],
  ["[]", "", `The body must be an object with any of ${FIELDS}, not [].`],
  ["7", "", `The body must be an object with any of ${FIELDS}, not 7.`],
  ['{"after":7}', "/after", "after must be a text, not 7."],
  ['{"partition":"x"}', "/partition", 'partition must be a whole number from 0 to 2147483647, not "x".'],
  ['{"after":"0","limit":1001}', "/limit", "limit must be a whole number from 1 to 1000, not 1001."],
  ['{"positions":[]}', "/positions", "positions must be a list of 1 to 1000, not []."],
  ['{"positions":"x"}', "/positions", 'positions must be a list of 1 to 1000, not "x".'],
  ['{"positions":["x",8]}', "/positions/1", "positions/1 must be a text, not 8."],
])("a fault in the body %s is told with its name, its value and what to write", (body, field, detail) => {
  expect(refusalOf(body)).toMatchObject({ field, detail, title: expect.stringContaining("field") });
});

test("several faults are told one by one", () => {
  const { detail, problems } = refusalOf('{"foo":1,"after":2}') as Problem;
  expect(problems).toMatchObject([{ field: "/foo" }, { field: "/after" }]);
  expect(detail).toContain("foo");
  expect(detail).toContain("after must be a text");
});

test("a reason with a NUL, which PostgreSQL would not take, is refused here", () => {
  const reason = "refused\0-23514";
  expect(problemOf(() => listed({ reason, limit: 1 }))).toMatchObject({ code: "invalid-parameter", field: "reason" });
  expect(refusalOf(JSON.stringify({ reason }))).toMatchObject({ code: "unstorable-text" });
});
