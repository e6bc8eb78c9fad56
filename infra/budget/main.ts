/** `npm run budget`: how many database connections a deployment needs, what fits which limit, and what to change. */
import { parseArgs } from "node:util";
import { refusedFlag } from "../flags.ts";
import { RESERVED, UTILISATION } from "./budget.ts";
import { type Given, planGiven, UTILISATION_MIN } from "./given.ts";
import { LIMITS, SMALLEST } from "./roles.ts";
import { holds, limitLines, needLines, readyTable, settingLines, shortageLines } from "./words.ts";

const USAGE = `npm run budget                           the ready table: Spillway on databases of several sizes
npm run budget -- --limit 20 [FLAG…]     what your deployment needs, whether it fits, and what to change

  --limit              connections that the database allows (SHOW max_connections, or your user's CONNECTION LIMIT); may be repeated;
                       without it ${LIMITS.join(", ")}
  --query              query or web processes (default ${SMALLEST.query}); 0 where there are none, as with the next two
  --query-connections  connections of each, SPILLWAY_QUERY_CONNECTIONS_MAX (default ${SMALLEST.queryConnections})
  --sink               sink processes (default ${SMALLEST.sinks}), of one connection
  --relay              relay processes (default ${SMALLEST.relays}), of one connection; 0 if the application has another database
  --role               NAME=PROCESSESxCONNECTIONS, others with pools, as app=3x5 or web=80x4x32 (servers, workers, pool);
                       a number alone is one process' pool; counted twice in a rolling deploy; may be repeated
  --standing           the same, for what is not deployed with the others, as pooler=2x10; counted once
  --load               NAME=RATExMS: statements a second, and milliseconds that each holds a connection; named query, or as a
                       --role or --standing, it is what their pools must carry; any other name needs connections of its own
  --utilisation        share of its time that a connection may be busy, from ${UTILISATION_MIN} to 1 (default ${UTILISATION})
  --reserve            connections for superusers, people, backups (default ${RESERVED})
  --cores              the database's cores, if known: more sinks than cores gain nothing

  With --limit it exits with 1 where it does not fit, or the pools do not carry the load.
`;

const OPTIONS = {
  limit: { type: "string", multiple: true },
  query: { type: "string" },
  "query-connections": { type: "string" },
  sink: { type: "string" },
  relay: { type: "string" },
  role: { type: "string", multiple: true },
  standing: { type: "string", multiple: true },
  load: { type: "string", multiple: true },
  utilisation: { type: "string" },
  reserve: { type: "string" },
  cores: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function readFlags() {
  // npm takes flags for its own where no -- stands before them, and hands on their values at most.
  const taken = Object.keys(OPTIONS).find(
    (name) => process.env[`npm_config_${name.replaceAll("-", "_")}`] !== undefined,
  );
  if (taken !== undefined && taken !== "help")
    throw new Error(`npm has kept --${taken} to itself: put -- before the flags, as npm run budget -- --${taken} …`);
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    throw refusedFlag(error, USAGE);
  }
}

function main(): void {
  const values = readFlags();
  if (values.help) say(USAGE);
  else if (Object.keys(values).length > 0) judge(values);
  else {
    say(readyTable());
    say("\nYours: npm run budget -- --limit 20 (--help tells the flags; docs/budget how to read it)");
  }
}

function judge(values: Given): void {
  const { plan, limits, cores } = planGiven(values);
  for (const line of needLines(plan)) say(line);
  say("");
  for (const limit of limits) for (const line of limitLines(plan, limit, cores)) say(line);
  for (const line of [...shortageLines(plan), ...settingLines(plan, limits)]) say(line);
  if (values.limit !== undefined && !holds(plan, limits)) process.exitCode = 1;
}

try {
  main();
} catch (error) {
  process.stderr.write(`budget: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
