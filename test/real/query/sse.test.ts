import { EventSource } from "eventsource";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BEGINNING } from "#lib/cursor.ts";
import type { App } from "../../support/process.ts";
import { until } from "../../support/until.ts";
import { Given } from "./given.ts";

describe("server-sent events, on a real log and database", () => {
  let given: Given;
  let node: App;
  beforeAll(async () => {
    given = await Given.create();
    node = await given.node({ SPILLWAY_HEARTBEAT_MS: "200" });
    await node.ready();
  });
  afterAll(async () => {
    await node.kill();
    await given[Symbol.asyncDispose]();
  });

  it("reach npm's eventsource: everything from the beginning, then what comes", async () => {
    const old = await given.append(given.event("es"), given.event("es"));
    const source = new EventSource(`${node.url}/api/v1/events/live?clientId=es&after=${BEGINNING}`);
    const shown: string[] = [];
    source.addEventListener("events", ({ data }) => {
      for (const { id } of (JSON.parse(data) as { events: { id: string }[] }).events) shown.push(id);
    });
    await until("what was there", () => shown.length === 2);
    const fresh = await given.append(given.event("es"));
    await until("what came", () => shown.length === 3);
    expect(shown).toEqual([...old, ...fresh].map(({ event }) => event.id));
    source.close();
  });
});
