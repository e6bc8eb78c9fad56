/** `npm run example`: an application whose changes become events in Spillway, exactly those that were committed. */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { unlessAborted } from "#lib/abort.ts";
import type { Role } from "../../infra/role.ts";
import { look, move, prepare } from "./app.ts";
import { prepareDatabase, startRelay, startSpillway } from "./servers.ts";

const APP = "A1";
const MOVES = [
  { grp: "G1", end: "COMMIT", so: "" },
  { grp: "G2", end: "COMMIT", so: "" },
  { grp: "G3", end: "ROLLBACK", so: "   neither the change nor the event ever was" },
  { grp: "G1", end: "COMMIT", so: "" },
  { grp: "G2", end: "COMMIT", so: "" },
] as const;
const RELAY_LIMIT_MS = 60_000;
const LOOK_MS = 50;

interface Told {
  readonly id: string;
  readonly type: string;
  readonly data: { readonly grp: string };
  readonly occurredAt: string;
  readonly cursor: string;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** @returns the ids of the events that were committed, in that order */
async function moveAround(db: pg.Client): Promise<string[]> {
  const committed: string[] = [];
  for (const { grp, end, so } of MOVES) {
    const id = await move(db, APP, grp, end);
    if (end === "COMMIT") committed.push(id);
    say(`  BEGIN; ${APP} is in ${grp}; emit; ${end};${so}`);
  }
  return committed;
}

/** Tells the backlog whenever it changes. @throws Error when it does not get to 0 in time */
async function emptied(db: pg.Client, relay: Role, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + RELAY_LIMIT_MS;
  for (let last = -1; ; ) {
    const { waiting } = await look(db, APP);
    if (waiting !== last) say(`  spillway.backlog: ${waiting} waiting`);
    last = waiting;
    if (waiting === 0) return;
    if (performance.now() > deadline)
      throw new Error(`${waiting} events still wait after ${RELAY_LIMIT_MS / 1_000} s: ${await relay.missing()}`);
    await delay(LOOK_MS, undefined, { signal });
  }
}

async function read(address: string, signal: AbortSignal): Promise<readonly Told[]> {
  const answer = await fetch(address, { signal });
  if (!answer.ok) throw new Error(`${address} answered ${answer.status}: ${await answer.text()}`);
  return ((await answer.json()) as { events: Told[] }).events;
}

async function play(stack: AsyncDisposableStack, stop: AbortController): Promise<void> {
  const { signal } = stop;
  say("An application keeps which group each app is in. With every move it records an event, in the same transaction.");
  say("\n1. Spillway starts, as with npm start:");
  const spillway = await startSpillway(process.argv.slice(2), stack, say);
  const address = `${spillway.url}/api/v1/events?clientId=${APP}`;
  const [latest] = await read(`${address}&order=desc&limit=1`, signal);

  const database = await prepareDatabase(spillway.store, signal);
  const db = stack.adopt(new pg.Client({ connectionString: database }), (one) => one.end());
  db.on("error", (error) => stop.abort(error));
  await db.connect();
  await prepare(db);
  say(`\n2. The application's own database, ${new URL(database).pathname.slice(1)}, apart from Spillway's, has now`);
  say("  its table app_group(app, grp): table.sql");
  say("  the event buffer with the function spillway.emit: npm run relay -- install");

  say(`\n3. The application moves ${APP}, each time by change.sql and event.sql in one transaction:`);
  const committed = await moveAround(db);
  const { grp, waiting } = await look(db, APP);
  say(
    `  Its table knows only that ${APP} is in ${grp}. No relay runs yet: spillway.backlog: ${waiting} waiting (backlog.sql)`,
  );

  say("\n4. A relay starts. It brings what was committed to Spillway's log, and nothing else:");
  const relay = await startRelay(spillway, database, stack, { say, fail: (error) => stop.abort(error) });
  await emptied(db, relay, signal);

  // Another run may have left events: this one's come after them.
  const asked = latest === undefined ? address : `${address}&after=${latest.cursor}`;
  say(`\n5. The history${latest === undefined ? "" : " since the run before"}: GET ${asked}`);
  const events = await read(asked, signal);
  for (const { type, data, occurredAt, id } of events)
    say(`  ${occurredAt}  ${type} ${JSON.stringify(data)}  id ${id}`);
  // Before them may come what a run that was interrupted had committed.
  if (
    events
      .slice(-committed.length)
      .map(({ id }) => id)
      .join() !== committed.join()
  )
    throw new Error(`that is not what was committed: the events ${committed.join(", ")}`);
  say(`  ${events.length} moves, in the order of their commits; the one to G3, rolled back, is not among them.`);
}

async function main(): Promise<void> {
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(name, () => stop.abort(new Error("stopped before its end")));
  await using stack = new AsyncDisposableStack();
  try {
    await unlessAborted(stop.signal, play(stack, stop));
  } catch (error) {
    // What was under way fails in its own words; the person who pressed Ctrl-C knows why.
    throw stop.signal.aborted ? stop.signal.reason : error;
  } finally {
    say("\nWhat was started here stops.");
  }
}

await main().then(
  () => {
    say("Nothing of it is left running.");
    process.exit(0);
  },
  (error: unknown) => {
    process.stderr.write(`example: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
