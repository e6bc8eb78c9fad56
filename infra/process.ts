/** Child processes that never outlive this one. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, statSync, truncateSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { signalGroup } from "./alive.ts";

const LOG_BYTES_MAX = 16 * 1024 * 1024;
const LINES_MAX = 40;
const GUARDIAN = fileURLToPath(new URL("guardian.ts", import.meta.url));

/** What to run. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<NodeJS.ProcessEnv>;
  readonly uid?: number;
  readonly gid?: number;
  /** What it gets when this process is suddenly gone (SIGKILL follows). Default SIGTERM. */
  readonly lastWord?: NodeJS.Signals;
  /** What it reads from its standard input; nothing unless given. */
  readonly input?: string;
  /** Where both its outputs go: a file (appended; emptied beyond 16 MiB), or a function that gets line by line. */
  readonly output: string | ((line: string) => void);
}

export interface Child {
  readonly pid: number;
  /** How it ended, `exit code 1` or `SIGKILL`; undefined while it runs. */
  readonly ended: string | undefined;
  /** Resolves to the exit code (null after a signal) once it is gone. Never rejects. */
  readonly exited: Promise<number | null>;
  signal(name: NodeJS.Signals): void;
}

let guardian: ChildProcess | undefined;

/** Starts a process in a group of its own, so that Ctrl-C at the terminal reaches only this one. @throws when it cannot be started */
export async function spawnGuarded(command: Command): Promise<Child> {
  const { file, args, cwd, env, uid, gid, input, output, lastWord = "SIGTERM" } = command;
  const log = typeof output === "string" ? openLog(output) : "pipe";
  const child = spawn(file, args, {
    detached: true,
    stdio: [input === undefined ? "ignore" : "pipe", log, log],
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  });
  const { pid } = child;
  if (pid !== undefined) tellGuardian(`+${pid} ${lastWord}`);
  if (typeof log === "number") closeSync(log);
  // Who ends before it has read all of it says why by itself.
  child.stdin?.on("error", () => undefined).end(input);
  if (typeof output === "function") {
    for (const stream of [child.stdout, child.stderr])
      if (stream) createInterface({ input: stream }).on("line", output);
  }
  await new Promise<void>((spawned, failed) => {
    child.once("spawn", spawned);
    child.once("error", (cause) => failed(new Error(`${file} could not be started: ${cause.message}`, { cause })));
  });
  if (pid === undefined) throw new Error(`${file} has no process id`);
  let ended: string | undefined;
  const exited = new Promise<number | null>((resolve) => {
    child.once("exit", (code, signal) => {
      ended = signal ?? `exit code ${code}`;
      tellGuardian(`-${pid}`);
    });
    // "close" comes after "exit" and after the last line of output.
    child.once("close", (code) => resolve(code));
  });
  return {
    pid,
    get ended() {
      return ended;
    },
    exited,
    signal: (name) => {
      if (ended === undefined) signalGroup(pid, name);
    },
  };
}

/** Sends `signal`, then SIGKILL after `limitMs`; resolves when the process is gone. */
export async function endProcess(child: Child, signal: NodeJS.Signals, limitMs: number): Promise<void> {
  child.signal(signal);
  const timer = setTimeout(() => child.signal("SIGKILL"), limitMs);
  await child.exited;
  clearTimeout(timer);
}

/** Runs a program to its end. @throws with its last lines unless it ended with 0; `signal`'s reason when that ended it */
export async function runToEnd(command: Omit<Command, "output">, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const lines: string[] = [];
  const output = (line: string): void => {
    lines.push(line);
    if (lines.length > LINES_MAX) lines.shift();
  };
  const child = await spawnGuarded({ ...command, output });
  const kill = (): void => child.signal("SIGKILL");
  signal.addEventListener("abort", kill);
  if (signal.aborted) kill();
  const code = await child.exited;
  signal.removeEventListener("abort", kill);
  signal.throwIfAborted();
  if (code !== 0)
    throw new Error(`${command.file} ${command.args.join(" ")} failed, ${child.ended}: ${lines.join("\n")}`);
}

/** The last lines of a log file, for an error message; empty when there is none. */
export function logTail(file: string, lines = 15): string {
  if (!existsSync(file)) return "";
  return readFileSync(file, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
}

function openLog(file: string): number {
  if (existsSync(file) && statSync(file).size > LOG_BYTES_MAX) truncateSync(file);
  return openSync(file, "a");
}

/** One guardian serves all children; should it be killed, the next line starts another, which learns of them all. */
const charges = new Map<string, string>();
function tellGuardian(line: string): void {
  const pid = line.slice(1).split(" ", 1)[0] ?? "";
  if (line.startsWith("+")) charges.set(pid, line);
  else charges.delete(pid);
  if (guardian === undefined) startGuardian();
  else guardian.stdin?.write(`${line}\n`);
}

function startGuardian(): void {
  const started = spawn(process.execPath, [GUARDIAN], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  guardian = started;
  started.once("exit", () => {
    guardian = undefined;
    if (charges.size > 0) startGuardian();
  });
  started.once("error", () => undefined);
  started.stdin.on("error", () => undefined);
  for (const line of charges.values()) started.stdin.write(`${line}\n`);
  // Neither the guardian nor the pipe to it keeps this process alive.
  started.unref();
  (started.stdin as unknown as { unref(): void }).unref();
}
