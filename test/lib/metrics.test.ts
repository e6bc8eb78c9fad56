import { expect, test } from "vitest";
import { createMetrics, type Role } from "#lib/metrics.ts";

test("two sets of metrics in one process do not meet", async () => {
  const [one, other] = [createMetrics(), createMetrics()];
  one.ingestAcceptedEvents.inc(3);
  expect(await one.registry.metrics()).toContain("spillway_ingest_accepted_events_total 3");
  expect(await other.registry.metrics()).toContain("spillway_ingest_accepted_events_total 0");
});

test("every metric of ours says what it counts, and none has a label that grows with the users", async () => {
  const ours = (await createMetrics().registry.getMetricsAsJSON()).filter(({ name }) => name.startsWith("spillway_"));
  expect(ours.length).toBeGreaterThan(20);
  for (const metric of ours) {
    expect(metric.help).toMatch(/^[A-Z].*\.$/);
    if (metric.type === "counter") expect(metric.name).toMatch(/_total$/);
    expect(JSON.stringify(metric)).not.toMatch(/clientId|client_id|path"/);
  }
});

test("the process' own metrics are there", async () => {
  const text = await createMetrics().registry.metrics();
  for (const name of ["process_resident_memory_bytes", "nodejs_eventloop_lag_seconds", "process_cpu_seconds_total"])
    expect(text).toContain(name);
});

test("a role exports its own metrics alone: another's zero would tell of something that is not there", async () => {
  const names = async (...roles: readonly Role[]): Promise<string[]> =>
    (await createMetrics(...roles).registry.getMetricsAsJSON()).map(({ name }) => name);
  const all = await names();
  for (const [role, foreign] of [
    ["ingest", /^spillway_(sink|query|pool|relay)_/],
    ["query", /^spillway_(sink|ingest|log|relay)_/],
    ["sink", /^spillway_(ingest|query|relay)_/],
    ["relay", /^spillway_(ingest|query|sink)_/],
  ] as const) {
    const own = await names(role);
    expect(own.filter((name) => foreign.test(name))).toEqual([]);
    expect(all.filter((name) => !foreign.test(name))).toEqual(own);
  }
  const web = await names("ingest", "query");
  expect(web.filter((name) => name.startsWith("spillway_sink_"))).toEqual([]);
  expect(web).toEqual(expect.arrayContaining(["spillway_ingest_log_full", "spillway_query_pages_total"]));
  // What is not exported may be counted all the same.
  createMetrics("query").ingestInFlightBytes.inc(1);
});
