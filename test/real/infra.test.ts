import { describe, expect, it } from "vitest";
import { isRunning } from "../../infra/alive.ts";
import { answersMetadata } from "../../infra/kafka-metadata.ts";
import { privateKafka, sharedBrokers } from "../support/kafka.ts";
import { freshDatabase, privatePostgres, queryOnce } from "../support/postgres.ts";

const portOf = (address: string): number =>
  Number(new URL(address.includes("//") ? address : `kafka://${address}`).port);

describe("the shared servers of a test run", () => {
  it("answer", async () => {
    const [host = "", port] = sharedBrokers().split(",")[0]?.split(":") ?? [];
    expect(await answersMetadata(host, Number(port))).toBe(true);
    await using database = await freshDatabase();
    expect(await database.query("SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });

  it("give each test a database of its own", async () => {
    await using one = await freshDatabase();
    await using other = await freshDatabase();
    await one.query("CREATE TABLE t (x int)");
    expect(await other.query("SELECT to_regclass('t') AS t")).toEqual([{ t: null }]);
  });
});

describe("PostgreSQL on this machine", () => {
  it("keeps port and data over stop, restart and kill -9", async () => {
    await using postgres = await privatePostgres();
    const { url } = postgres;
    await queryOnce(url, "CREATE TABLE kept (x int)");
    await queryOnce(url, "INSERT INTO kept VALUES (1)");
    for (const verb of ["restart", "stop", "kill"] as const) {
      const before = postgres.pid;
      await postgres[verb]();
      if (before !== undefined) expect(isRunning(before)).toBe(false);
      await postgres.start();
      expect(postgres.pid).not.toBe(before);
      expect(await queryOnce(url, "SELECT x FROM kept")).toEqual([{ x: 1 }]);
    }
  });

  it("is killed with sessions open and comes back", async () => {
    await using postgres = await privatePostgres();
    const busy = queryOnce(postgres.url, "SELECT pg_sleep(600)").catch((error: Error) => error);
    await postgres.kill();
    expect(await busy).toBeInstanceOf(Error);
    await postgres.start();
    expect(await queryOnce(postgres.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });
});

describe("Kafka on this machine", () => {
  it("keeps its port over restart and kill -9", async () => {
    await using kafka = await privateKafka();
    for (const verb of ["restart", "kill"] as const) {
      const before = kafka.pid;
      await kafka[verb]();
      if (before !== undefined) expect(isRunning(before)).toBe(false);
      await kafka.start();
      expect(kafka.pid).not.toBe(before);
      expect(await answersMetadata("127.0.0.1", portOf(kafka.brokers))).toBe(true);
    }
  });
});
