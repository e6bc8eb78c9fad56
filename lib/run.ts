/** Long-running tasks: they start together, stop one by one, and the first failure is named. One way to be a process. */
import { setFlagsFromString } from "node:v8";
import { type Clock, systemClock } from "./clock.ts";
import { ConfigError, logLevel } from "./config.ts";
import { createLog, type Log } from "./log.ts";

export interface Task {
  readonly name: string;
  /** Works until `signal` aborts, then finishes what is in hand and resolves. Rejecting, or ending early, ends the group. */
  run(signal: AbortSignal): Promise<void>;
}

/** Platforms kill 30 s after SIGTERM (Heroku, Kubernetes' default): what is not done by then is worth a log line. */
const STOP_MS_MAX = 25_000;

/**
 * V8 by itself lets what is in use grow severalfold before it looks for garbage among the old, and a record lives just long
 * enough to be old. At half as much again a query node's pages cost what they did (711 µs of a processor for 100 saved events,
 * 726 without; Node 24.21). It says when to collect and sets no limit, which would end a process that has large events in hand.
 */
const HEAP_FLAG = "--heap-growing-percent=50";

/**
 * For roles whose records live for one append or one batch: young garbage too is collected before it has grown. A sink that drained
 * 400,000 events had 270 MiB resident instead of 560, at the same speed; ingest under streams, arrays and single events 230 to
 * 275 instead of 320 to 360, for less of a processor an event (45 to 55 µs instead of 60 to 77 for single ones; Node 24.21). A
 * query node's pages took twice as long with it.
 */
export const keepYoungSmall = (): void => setFlagsFromString("--semi-space-growth-factor=1");

/** Names of the tasks that run in this process now: what is still open when it gives up. */
const open = new Set<string>();

/**
 * Starts all tasks in order. When `signal` aborts, they stop one by one in reverse order: each has ended before the next
 * is told, so a task may use those that were started before it until its very end.
 * @throws Error the first failure, naming its task (an early end is one), once all others have stopped
 */
export async function runAll(tasks: readonly Task[], signal: AbortSignal, log: Log): Promise<void> {
  if (signal.aborted) return;
  const stopping = Promise.withResolvers<void>();
  const failures: Error[] = [];
  const fail = (error: Error): void => {
    if (failures.push(error) > 1) log.error("another task failed while stopping", { error });
    stopping.resolve();
  };
  const onAbort = (): void => stopping.resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  const running = tasks.map((task) => {
    const own = new AbortController();
    return { name: task.name, own, ended: follow(task, own.signal, fail) };
  });
  if (running.length > 0) await stopping.promise;
  signal.removeEventListener("abort", onAbort);
  for (const { name, own, ended } of running.reverse()) {
    own.abort();
    await ended;
    log.debug("task stopped", { task: name });
  }
  if (failures[0]) throw failures[0];
}

/** Never rejects: every way for a task to end wrongly goes to `fail`, also a throw before its first await. */
async function follow(task: Task, signal: AbortSignal, fail: (error: Error) => void): Promise<void> {
  open.add(task.name);
  try {
    await task.run(signal);
    if (!signal.aborted) fail(new Error(`${task.name} ended although nobody stopped it`));
  } catch (cause) {
    // Node's own calls reject with AbortError when told to stop: that is a clean end.
    if (!(signal.aborted && cause instanceof Error && cause.name === "AbortError"))
      fail(new Error(`${task.name} failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause }));
  } finally {
    open.delete(task.name);
  }
}

/**
 * A role's whole life: SIGTERM or SIGINT aborts `start`'s signal; exit code 0 after a clean end, 1 after a failure. A second
 * signal, or 25 s after the first, ends the process with code 1 and the names of the tasks that were still open.
 * @param start connects, then runs its tasks until the signal aborts; it gets the process' one log
 */
export async function main(
  role: string,
  start: (signal: AbortSignal, log: Log) => Promise<void>,
  clock: Clock = systemClock,
): Promise<void> {
  setFlagsFromString(HEAP_FLAG);
  const log = createLog(role, logLevel());
  const stop = new AbortController();
  const giveUp = (why: string): never => {
    log.error("gave up stopping", { why, open: [...open] });
    process.exit(1);
  };
  const onSignal = (name: string): void => {
    if (stop.signal.aborted) giveUp(`a second signal, ${name}`);
    log.info("stopping", { signal: name });
    stop.abort();
    clock.after(STOP_MS_MAX, () => giveUp(`not done after ${STOP_MS_MAX} ms`));
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
  process.once("uncaughtException", (error) => exitAfter(log, error));
  // An owned handle: a process that awaits only a promise has nothing to wait for, and Node ends it with code 13.
  const { port1: handle } = new MessageChannel();
  handle.ref();
  try {
    await start(stop.signal, log);
    log.info("stopped");
    process.exit(0);
  } catch (error) {
    exitAfter(log, error);
  }
}

function exitAfter(log: Log, error: unknown): never {
  if (error instanceof ConfigError) log.error("settings refused", { problems: error.problems });
  else log.error("ended by a failure", { error });
  process.exit(1);
}
