import dns from "node:dns";
import { expect, onTestFinished, test, vi } from "vitest";
import { freePorts } from "../../../infra/ports.ts";
import { openPool } from "../../support/store.ts";

test("a host with several addresses, none of which answers, is told of with all of them", async () => {
  const lookup = vi.spyOn(dns, "lookup").mockImplementation(((_host: string, _options: object, told: unknown) => {
    const addresses = [
      { address: "127.0.0.1", family: 4 },
      { address: "127.0.0.2", family: 4 },
    ];
    (told as (error: null, found: object[]) => void)(null, addresses);
  }) as unknown as typeof dns.lookup);
  const [port] = await freePorts(1);
  const pool = openPool(`postgres://me@two-addresses:${port}/none`);
  onTestFinished(async () => {
    lookup.mockRestore();
    await pool.close();
  });
  const error = await pool.query("SELECT 1", [], 1_000).catch((reason: unknown) => reason);
  expect(error).toMatchObject({
    code: "ECONNREFUSED",
    message: `connect ECONNREFUSED 127.0.0.1:${port}; connect ECONNREFUSED 127.0.0.2:${port}`,
  });
});
