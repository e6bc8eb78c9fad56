import { expect, test } from "vitest";
import { ProblemError } from "#lib/problem.ts";
import { selected } from "../../../../apps/query/dead-letters/forms.ts";

/** The code of the problem that a re-drive's body is refused with. */
function refusalOf(body: Buffer): string {
  try {
    selected(body);
  } catch (error) {
    if (error instanceof ProblemError) return error.problem.code;
    throw error;
  }
  return "none";
}

test.each([
  ["is no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "malformed-utf8"],
  ["begins with a byte order mark", Buffer.from('\ufeff{"after":"0"}'), "malformed-json"],
  ["is no JSON", Buffer.from("{"), "malformed-json"],
  ["has a key twice", Buffer.from('{"after":"0","after":"0"}'), "duplicate-key"],
  ["is as it should be", Buffer.from('{"after":"0"}'), "none"],
])("a body that %s is judged as an event's is", (_, body, code) => {
  expect(refusalOf(body)).toBe(code);
});
