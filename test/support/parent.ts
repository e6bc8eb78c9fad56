/** A program for the test of the guardian: starts a broker, a database and a stubborn process, tells their ids, and stays. */
import { spawnGuarded } from "../../infra/process.ts";
import { provideKafka, providePostgres } from "../../infra/stack.ts";

const [folder = ""] = process.argv.slice(2);
const say = (): void => undefined;
const kafka = await provideKafka({ dataDir: `${folder}/kafka`, say });
const postgres = await providePostgres({ dataDir: `${folder}/postgres`, say });
await Promise.all([kafka.start(), postgres.start()]);
const stubborn = await spawnGuarded({
  file: process.execPath,
  args: ["-e", 'process.on("SIGTERM", () => console.log("no")); setInterval(() => undefined, 1000)'],
  output: `${folder}/stubborn.log`,
});
console.log(
  JSON.stringify({ pids: [kafka.pid, postgres.pid, stubborn.pid], brokers: kafka.brokers, url: postgres.url }),
);
setInterval(() => undefined, 60_000);
