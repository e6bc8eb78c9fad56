import { expect, test } from "vitest";
import { createMetrics } from "#lib/metrics.ts";

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
