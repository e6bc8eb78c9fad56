// count.mjs FAILED REPORT...: sums Vitest's JSON reports into the line `N passed, N failed`; exit code 1 unless all is well.
// FAILED is 1 when a step before failed. The first report must be there; a missing one after it counts as a failure too.
import { existsSync, readFileSync } from "node:fs";

const [step, ...files] = process.argv.slice(2);
let passed = 0;
let failed = 0;
for (const file of files) {
  if (!existsSync(file)) {
    failed += 1;
    continue;
  }
  const report = JSON.parse(readFileSync(file, "utf8"));
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  // A file that could not even be loaded has no tests to fail.
  for (const { status, assertionResults } of report.testResults) {
    if (status === "failed" && !assertionResults.some((test) => test.status === "failed")) failed += 1;
  }
}
// A check that failed, an error outside of any test, a run that was ended: there is a failure, so the line says so.
if (step !== "0" && failed === 0) failed = 1;
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exit(passed > 0 && failed === 0 ? 0 : 1);
