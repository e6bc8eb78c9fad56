import { expect, test } from "vitest";
import { PROBLEMS, type ProblemCode, ProblemError, problem } from "#lib/problem.ts";

const codes = Object.keys(PROBLEMS) as ProblemCode[];

test.each(codes)("%s is a problem of an error status with a title", (code) => {
  const made = problem(code, "why", { field: "/0/id" });
  expect(made).toMatchObject({ type: `urn:spillway:problem:${code}`, code, detail: "why", field: "/0/id" });
  expect(made.status).toBeGreaterThanOrEqual(400);
  expect(made.title).toMatch(/^[A-Z].*[^.]$/);
  expect(code).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
});

test("an error carries its problem, its cause and when to come again", () => {
  const cause = new Error("no leader");
  const error = new ProblemError(problem("log-unreachable", "nobody answers"), { cause, retryAfterSeconds: 5 });
  expect(error).toMatchObject({ message: "log-unreachable: nobody answers", cause, retryAfterSeconds: 5 });
  expect(new ProblemError(problem("overloaded", "x")).retryAfterSeconds).toBeGreaterThan(0);
});
