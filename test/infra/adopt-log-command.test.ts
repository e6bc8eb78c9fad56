/** `npm run adopt-log` as an operator meets it, where there is no log. */
import { expect, test } from "vitest";
import { startApp } from "../support/process.ts";

test("a name that no topic can have is refused, with what one may have, before any broker is asked", async () => {
  for (const topic of ["bad name!", "..", "x".repeat(250)]) {
    const env = { KAFKA_BROKERS: "127.0.0.1:1" };
    await using app = await startApp("infra/adopt-log/main.ts", env, ["--topic", topic, "--partitions", "4"]);
    expect(await app.exit()).toBe(1);
    await app.line(`--topic gives ${topic}: a topic's name has up to 249 of A-Z a-z 0-9 . _ -`);
  }
});

test("stopped while no broker answers, it ends, and says what to do", async () => {
  const args = ["--topic", "new", "--partitions", "4"];
  await using app = await startApp("infra/adopt-log/main.ts", { KAFKA_BROKERS: "127.0.0.1:1" }, args);
  await app.line("log not reached yet");
  expect(await app.stop()).toBe(1);
  await app.line("adopt-log: Stopped by SIGTERM. Run it again with the same words");
});
