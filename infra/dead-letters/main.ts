/** `npm run dead-letters`: lists, shows and re-drives the dead letters of a running Spillway. */
import { parseArgs } from "node:util";
import { candidates } from "../demo/node.ts";
import { createProgress } from "../demo/progress.ts";
import { whole } from "../figures.ts";
import { refusedFlag } from "../flags.ts";
import { USUAL_DATA } from "../start-options.ts";
import { Api, type Filters, type Letter, type Refusal } from "./api.ts";
import { jsonText, table, verdict } from "./table.ts";

const USAGE = `npm run dead-letters -- list [--reason REASON] [--partition N] [--redriven true|false] [--after POSITION] [--limit 50]
npm run dead-letters -- show POSITION
npm run dead-letters -- redrive POSITION…
npm run dead-letters -- redrive --all | [--reason REASON] [--partition N] [--after POSITION] [--through POSITION]

  list       in the order of the log; the position is what the others take
  show       one, with its bytes and its event, as JSON
  redrive    appends the events anew under their own ids: by position, or whatever was not re-driven before.
             Ends with 1 when any was refused.

  --after    only those after this position; --through: only those up to it
  --url      a running Spillway; without it that of npm start
  --token    where it has keys: of one with the verb operate, for the clients concerned
`;

/** Of one request: small enough for a bar that moves. */
const REDRIVE_STEP = 200;
const LIST_STEP = 1_000;
const LIST_DEFAULT = 50;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

const OPTIONS = {
  url: { type: "string" },
  token: { type: "string" },
  reason: { type: "string" },
  partition: { type: "string" },
  redriven: { type: "string" },
  after: { type: "string" },
  through: { type: "string" },
  limit: { type: "string" },
  all: { type: "boolean" },
  help: { type: "boolean" },
} as const;

function readFlags() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw refusedFlag(error, USAGE);
  }
}

type Values = ReturnType<typeof readFlags>["values"];

const wrong = (what: string): Error => new Error(`${what}. What it accepts:\n\n${USAGE}`);

/** Those flags that were given, of these. @param others known here too @throws Error for any else */
function filters(values: Values, names: readonly (keyof Values)[], ...others: readonly (keyof Values)[]): Filters {
  const known = new Set<string>([...names, ...others, "url", "token"]);
  const stranger = Object.keys(values).find((name) => !known.has(name));
  if (stranger !== undefined) throw wrong(`--${stranger} means nothing here`);
  return Object.fromEntries(
    names.flatMap((name) => (values[name] === undefined ? [] : [[name, String(values[name])]])),
  );
}

async function list(api: Api, values: Values): Promise<number> {
  const wanted = filters(values, ["reason", "partition", "redriven", "after"], "limit");
  const most = Number(values.limit ?? LIST_DEFAULT);
  if (!Number.isInteger(most) || most < 1) throw wrong(`--limit ${values.limit} is no whole number above 0`);
  const letters: Letter[] = [];
  let page = { next: values.after ?? "0", hasMore: true };
  while (page.hasMore && letters.length < most) {
    const limit = String(Math.min(LIST_STEP, most - letters.length));
    const found = await api.list({ ...wanted, limit, after: page.next });
    letters.push(...found.deadLetters);
    page = found;
  }
  if (letters.length > 0) for (const line of table(letters)) say(line);
  const more = page.hasMore ? `; there may be more: --after ${page.next}` : "";
  say(`${whole(letters.length)} dead letter${letters.length === 1 ? "" : "s"}${more}`);
  return 0;
}

async function show(api: Api, [position, ...more]: readonly string[], values: Values): Promise<number> {
  filters(values, []);
  if (position === undefined || more.length > 0) throw wrong("show takes one position");
  say(jsonText(await api.show(position)));
  return 0;
}

async function redrive(api: Api, positions: readonly string[], values: Values): Promise<number> {
  const wanted = filters(values, ["reason", "partition", "after", "through"], "all");
  const selects = values.all === true || Object.keys(wanted).length > 0;
  if (selects === positions.length > 0) throw wrong("redrive takes positions, or --all, or what to select by");
  const done = { redriven: 0, refused: [] as Refusal[] };
  const ended = selects ? await bySelection(api, wanted, done) : await byName(api, positions, done);
  if (ended !== null && done.redriven + done.refused.length === 0) throw ended;
  const { clean, lines } = verdict(done.redriven, done.refused);
  for (const line of lines) say(line);
  if (ended !== null)
    throw new Error(`${ended.message}\nThe rest was not re-driven; what was is marked, and the same again goes on.`);
  return clean ? 0 : 1;
}

interface Done {
  redriven: number;
  refused: Refusal[];
}

function count(
  done: Done,
  { redriven, refused }: { redriven: readonly unknown[]; refused: readonly Refusal[] },
): number {
  done.redriven += redriven.length;
  done.refused.push(...refused);
  return done.redriven + done.refused.length;
}

/** @returns what ended it early */
async function byName(api: Api, positions: readonly string[], done: Done): Promise<Error | null> {
  // As text, positions are in the order of the log, which is the one in which a node takes them.
  let left = [...new Set(positions)].sort();
  return withProgress(left.length, async (at) => {
    while (left.length > 0) {
      const step = left.slice(0, REDRIVE_STEP);
      const outcome = await api.redrive({ positions: step });
      at(count(done, outcome));
      left = left.filter((one) => (outcome.hasMore ? one > outcome.next : !step.includes(one)));
    }
  });
}

/** Counts first, so that what a rule of the database refuses once more is not met again and again. */
async function bySelection(api: Api, { partition, ...wanted }: Filters, done: Done): Promise<Error | null> {
  const filter = { ...wanted, ...(partition !== undefined && { partition: Number(partition) }) };
  const total = await counted(api, { ...wanted, ...(partition !== undefined && { partition }) });
  return withProgress(total, async (at) => {
    let page = { next: wanted["after"] ?? "0", hasMore: total > 0 };
    for (let met = 0; page.hasMore && met < total; at(met)) {
      const outcome = await api.redrive({ ...filter, after: page.next, limit: Math.min(REDRIVE_STEP, total - met) });
      met = count(done, outcome);
      page = outcome;
    }
  });
}

async function counted(api: Api, { through, ...wanted }: Filters): Promise<number> {
  let total = 0;
  let page = { next: wanted["after"] ?? "0", hasMore: true };
  while (page.hasMore && (through === undefined || page.next < through)) {
    const found = await api.list({ ...wanted, redriven: "false", limit: String(LIST_STEP), after: page.next });
    total += found.deadLetters.filter(({ position }) => through === undefined || position <= through).length;
    page = found;
  }
  return total;
}

async function withProgress(total: number, work: (at: (done: number) => void) => Promise<void>): Promise<Error | null> {
  const progress = total > REDRIVE_STEP ? createProgress("re-driving", total) : null;
  try {
    await work((done) => progress?.at(done));
    return null;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  } finally {
    progress?.end();
  }
}

async function main(): Promise<number> {
  const { values, positionals } = readFlags();
  if (values.help) {
    say(USAGE);
    return 0;
  }
  const [verb, ...rest] = positionals;
  const api = new Api(values.url ?? candidates(process.env["PORT"], USUAL_DATA)[0] ?? "", values.token);
  if (verb === "list" && rest.length === 0) return list(api, values);
  if (verb === "show") return show(api, rest, values);
  if (verb === "redrive") return redrive(api, rest, values);
  throw wrong(verb === undefined ? "Say what to do" : `"${[verb, ...rest].join(" ")}" is not known`);
}

await main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`dead-letters: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
