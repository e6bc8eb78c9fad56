/** `npm run bench -- ingest|path [--rounds n] [--seconds n] [--json FILE]`: one question a file, figures that can be repeated. */
import { parseArgs } from "node:util";
import { benchIngest } from "./ingest.ts";
import { benchPath } from "./path.ts";
import { tell } from "./report.ts";
import { startStack } from "./stack.ts";

const USAGE = `npm run bench -- QUESTION [--rounds n] [--seconds n] [--json FILE]

  ingest   acknowledged events/s, next to a route that answers at once and next to kafkajs alone
  path     from the acknowledgement until an event is readable, saved, and in a live frame

  --rounds   how often the settings take turns (ingest; default 5)
  --seconds  of each round (default 4), or of the whole measurement (path; default 20)
  --json     writes everything measured into FILE too
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: "string" }, seconds: { type: "string" }, json: { type: "string" } },
  });
  const [question] = positionals;
  if (positionals.length !== 1 || (question !== "ingest" && question !== "path")) {
    process.stderr.write(USAGE);
    return 2;
  }
  const stack = await startStack({ withPostgres: question === "path" });
  const stop = (): void => void stack.close().finally(() => process.exit(1));
  process.once("SIGINT", stop).once("SIGTERM", stop);
  try {
    for (const line of stack.what) process.stderr.write(`${line}\n`);
    const report =
      question === "path"
        ? await benchPath(stack, count(values.seconds, 20))
        : await benchIngest(stack, count(values.rounds, 5), count(values.seconds, 4));
    tell(report, stack, values.json);
    return 0;
  } finally {
    await stack.close();
  }
}

/** @throws Error unless it is a positive whole number */
function count(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  throw new Error(`${text} must be a whole number above 0`);
}

await main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
