import { once } from "node:events";
import { rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { givenKafka, givenPostgres } from "../../infra/given.ts";
import { newFolder } from "../support/folder.ts";

test("of brokers that want TLS npm start asks only whether somebody takes connections: the roles have the certificates", async () => {
  // It says nothing, as a broker does to who does not begin with TLS.
  const silent = createServer().listen(0, "127.0.0.1");
  await once(silent, "listening");
  const brokers = `kafka+ssl://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const given = givenKafka(brokers, () => undefined);
  await given.start();
  expect(given.brokers).toBe(brokers);
  silent.close();
});

test("a database is found by host, by socket and by either way to write it, and told without its password", async () => {
  const folder = newFolder("given");
  const listening = createServer().listen(join(folder, ".s.PGSQL.5432"));
  await once(listening, "listening");
  for (const url of [
    `postgres://me:hunter2@/x?host=${folder}`,
    `postgres:///x?host=${folder}&password=hunter2`,
    `postgres://me:hunter2@${encodeURIComponent(folder)}/x`,
  ]) {
    const given = givenPostgres(url, () => undefined);
    await given.start();
    expect(given.what).toMatch(/^PostgreSQL: .*\/x, given by DATABASE_URL/);
    expect(given.what).not.toContain("hunter2");
  }
  listening.close();
  const byHost = createServer().listen(0, "127.0.0.1");
  await once(byHost, "listening");
  await givenPostgres(`postgres://me@127.0.0.1:${(byHost.address() as AddressInfo).port}/x`, () => undefined).start();
  byHost.close();
  rmSync(folder, { recursive: true });
});
