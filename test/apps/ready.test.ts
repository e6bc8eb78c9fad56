import { expect, test } from "vitest";
import { freePorts } from "../../infra/ports.ts";
import { startApp } from "../support/process.ts";
import { until } from "../support/until.ts";

const readiness = async (url: string): Promise<{ status: number; missing: readonly string[] }> => {
  const answer = await fetch(`${url}/readyz`);
  const { missing } = (await answer.json()) as { missing: readonly string[] };
  return { status: answer.status, missing };
};

test.each(["ingest", "query", "sink", "web"])(
  "%s without a log says what is missing and since when, the same at every look",
  async (role) => {
    const [nobody] = await freePorts(1);
    const begunMs = Date.now();
    await using app = await startApp(`apps/${role}/main.ts`, {
      KAFKA_BROKERS: `127.0.0.1:${nobody}`,
      DATABASE_URL: `postgres://me@127.0.0.1:${nobody}/none`,
    });
    await app.line("log not reached yet");
    const seen = await until("it answers", () => readiness(app.url));
    expect(seen.status).toBe(503);
    expect(seen.missing.length).toBe(role === "web" ? 2 : 1);
    for (const line of seen.missing) {
      const since = /^(?:\w+: )?log: .* \(since (\S+Z)\)$/.exec(line)?.[1] ?? "";
      expect(Date.parse(since), line).toBeGreaterThanOrEqual(begunMs);
      expect(Date.parse(since), line).toBeLessThanOrEqual(Date.now());
    }
    const tries = () => app.lines.filter((line) => line.includes("log not reached yet")).length;
    const before = tries();
    await until("the log was tried again", () => tries() > before);
    expect((await readiness(app.url)).missing.map((line) => line.slice(line.indexOf("(since")))).toEqual(
      seen.missing.map((line) => line.slice(line.indexOf("(since"))),
    );
  },
);
