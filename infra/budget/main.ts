/** `npm run budget`: how many database connections a deployment needs, what fits which limit, and what to change. */
import { parseArgs } from "node:util";
import { refusedFlag } from "../flags.ts";
import { RESERVED, UTILISATION } from "./budget.ts";
import { type Given, planGiven } from "./given.ts";
import { SMALLEST } from "./roles.ts";
import { limitLines, needLines, readyTable, shortageLines } from "./words.ts";

const USAGE = `npm run budget                           the ready table: Spillway on 20, 120, 400 and 500 connections
npm run budget -- --limit 20 [FLAG…]     what your deployment needs, whether it fits, and what to change

  --limit              connections that the database allows (SHOW max_connections); may be repeated; without it 20, 120, 400, 500
  --query              query or web processes (default ${SMALLEST.query}); 0 where there are none, as with the next two
  --query-connections  connections of each, SPILLWAY_QUERY_CONNECTIONS_MAX (default ${SMALLEST.queryConnections})
  --sink               sink processes (default ${SMALLEST.sinks}), of one connection
  --relay              relay processes (default ${SMALLEST.relays}), of one connection; 0 if the application has another database
  --role               NAME=PROCESSESxCONNECTIONS, others with pools, as app=3x5 or web=80x4x32 (servers, workers, pool);
                       counted twice in a rolling deploy; may be repeated
  --standing           the same, for what is not deployed with the others, as pooler=2x10; counted once
  --load               NAME=RATExMS: statements a second, and milliseconds that each holds a connection; named query, or as a
                       --role, it is what that role's pools must carry; any other name needs connections of its own
  --utilisation        share of its time that a connection may be busy (default ${UTILISATION})
  --reserve            connections for superusers, people, backups (default ${RESERVED})
  --cores              the database's cores, if known: more sinks than cores gain nothing
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
  help: { type: "boolean" },
} as const;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function readFlags() {
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
  for (const line of [...shortageLines(plan), ...limits.flatMap((limit) => limitLines(plan, limit, cores))]) say(line);
}

try {
  main();
} catch (error) {
  process.stderr.write(`budget: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
