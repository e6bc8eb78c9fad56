import { afterAll, describe, expect, it } from "vitest";
import { containerRuntime } from "../../infra/container-server.ts";
import { containerKafka, containerPostgres } from "../../infra/containers.ts";
import { answersMetadata } from "../../infra/kafka-metadata.ts";
import type { Server } from "../../infra/server.ts";
import { newFolder } from "../support/folder.ts";
import { queryOnce } from "../support/postgres.ts";

const answers = await containerRuntime().then(
  () => true,
  () => false,
);
if (!answers) console.log("SKIPPED: no container runtime answers, so the Docker way was not tested");

const made: Server[] = [];
afterAll(async () => {
  for (const server of made) await server.remove();
});

describe.skipIf(!answers)("in containers of the official images", () => {
  it("PostgreSQL starts, and keeps port and data over restart, stop and kill", async () => {
    const postgres = await containerPostgres({ dataDir: newFolder("docker"), say: () => undefined });
    made.push(postgres);
    await postgres.start();
    await queryOnce(postgres.url, "CREATE TABLE kept AS SELECT 1 AS one");
    for (const verb of ["restart", "stop", "kill"] as const) {
      await postgres[verb]();
      if (verb !== "restart") await expect(queryOnce(postgres.url, "SELECT 1")).rejects.toThrow();
      await postgres.start();
      expect(await queryOnce(postgres.url, "SELECT one FROM kept")).toEqual([{ one: 1 }]);
    }
  });

  it("Kafka starts, and keeps its port over restart, stop and kill", async () => {
    const kafka = await containerKafka({ dataDir: newFolder("docker"), say: () => undefined });
    made.push(kafka);
    const port = Number(kafka.brokers.split(":")[1]);
    await kafka.start();
    for (const verb of ["restart", "stop", "kill"] as const) {
      await kafka[verb]();
      expect(await answersMetadata("127.0.0.1", port)).toBe(verb === "restart");
      await kafka.start();
      expect(await answersMetadata("127.0.0.1", port)).toBe(true);
    }
  });
});
