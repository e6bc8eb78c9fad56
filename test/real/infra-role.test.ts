import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { createRole } from "../../infra/role.ts";

it("another program's answer on the port is not taken for the role's, and a role that cannot stay is given up", async () => {
  const other = createServer((_request, response) => response.end('{"ready":true,"alive":true}'));
  other.listen(0, "127.0.0.1");
  await once(other, "listening");
  onTestFinished(() => void other.close());
  const givenUp = Promise.withResolvers<Error>();
  const lines: string[] = [];
  const role = createRole({
    name: "web",
    port: (other.address() as AddressInfo).port,
    env: { KAFKA_BROKERS: "127.0.0.1:1", DATABASE_URL: "postgres://127.0.0.1:1", LOG_LEVEL: "warn" },
    say: (line) => void lines.push(line),
    pass: (line) => void lines.push(line),
    givenUp: givenUp.resolve,
  });
  onTestFinished(async () => void (await role.stop()));
  await role.start();
  expect(await role.missing()).toContain("another program answers");
  expect((await givenUp.promise).message).toContain("web does not stay up: it ended 5 times in a row");
  expect(await role.missing()).toBe("it does not run");
  expect(lines.filter((line) => line.includes("web is gone"))).toHaveLength(5);
  expect(lines.join("\n")).toContain("EADDRINUSE");
});
