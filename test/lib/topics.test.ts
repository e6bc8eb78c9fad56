import { describe, expect, test } from "vitest";
import { topicFaults } from "#lib/topics.ts";
import { EVENT_TOPIC_CONFIG } from "#schemas/topics.ts";

const SOUND = { ...EVENT_TOPIC_CONFIG, "min.insync.replicas": "2" };
const judge = (config: Record<string, string>, replication = 3) =>
  topicFaults("t", { partitions: 12, replication, config: { ...SOUND, ...config } });

test("the topic that Spillway itself creates on three brokers has nothing to be said against", () => {
  expect(judge({})).toEqual({ faults: [], warnings: [] });
});

test("one broker's topic is only weaker", () => {
  const { faults, warnings } = judge({ "min.insync.replicas": "1" }, 1);
  expect(faults).toEqual([]);
  expect(warnings).toEqual([expect.stringContaining("replication is 1")]);
});

describe("what breaks a promise is a fault that names setting, value and remedy", () => {
  test.each([
    ["cleanup.policy", "compact", "Set it to delete"],
    ["cleanup.policy", "compact,delete", "Set it to delete"],
    ["max.message.bytes", "500000", "1048588 or more"],
    ["min.insync.replicas", "1", "Set it to 2"],
  ])("%s=%s", (name, value, remedy) => {
    const { faults } = judge({ [name]: value });
    expect(faults).toEqual([expect.stringContaining(`${name}=${value}`)]);
    expect(faults[0]).toContain(remedy);
  });

  test("a time limit reckoned by producers' clocks", () => {
    const { faults, warnings } = judge({ "retention.ms": "604800000", "message.timestamp.type": "CreateTime" });
    expect(faults).toEqual([expect.stringContaining("message.timestamp.type=CreateTime")]);
    expect(warnings).toHaveLength(1);
  });
});

test("limits of the platform, and facts that were not told, are warned of", () => {
  expect(judge({ "retention.ms": "604800000" })).toMatchObject({
    faults: [],
    warnings: [expect.stringContaining("604800000")],
  });
  expect(judge({ "retention.bytes": "1000000" })).toMatchObject({ faults: [], warnings: [expect.any(String)] });
  expect(judge({ "retention.ms": "" }).warnings).toHaveLength(1);
});

test("larger messages and producer time without a limit are fine", () => {
  expect(judge({ "max.message.bytes": "5000000", "message.timestamp.type": "CreateTime" })).toEqual({
    faults: [],
    warnings: [],
  });
});
