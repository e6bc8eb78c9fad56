/** Spillway's own processes, started as in production: by environment alone. None outlives the test process. */
import { fileURLToPath } from "node:url";
import { freePorts } from "../../infra/ports.ts";
import { type Child, endProcess, spawnGuarded } from "../../infra/process.ts";
import { until } from "./until.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const LINES_MAX = 50_000;
/** The product drains within 25 s; beyond that it is killed. */
const STOP_LIMIT_MS = 30_000;

/** What a test passes on of its own environment: nothing that configures Spillway. */
const INHERITED = ["PATH", "HOME", "TMPDIR", "LANG", "TZ"] as const;

export interface App extends AsyncDisposable {
  readonly port: number;
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly pid: number;
  /** What it wrote so far on both outputs, line by line. */
  readonly lines: readonly string[];
  /** How it ended, `exit code 1` or `SIGKILL`; undefined while it runs. */
  readonly ended: string | undefined;
  /** The first line, written already or yet to come, that holds `text`. Rejects at once when the process ends without it. */
  line(text: string, options?: { readonly limitMs?: number }): Promise<string>;
  /** Resolves once /readyz answers 200. */
  ready(options?: { readonly limitMs?: number }): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: it stays, but does nothing until `thaw`. */
  freeze(): void;
  /** SIGCONT */
  thaw(): void;
  /** SIGTERM; resolves to the exit code, null when it had to be killed after 30 s. */
  stop(): Promise<number | null>;
  /** Resolves to the exit code once it has ended by itself; null after a signal. */
  exit(): Promise<number | null>;
}

/**
 * Starts a program, `apps/sink/main.ts`, on a free port (or that of `env.PORT`); ready or not is the caller's to wait for.
 * `await using sink = await startApp(…)`, or call `kill` in `afterAll`.
 * @param env its whole configuration; `LOG_LEVEL` is `info` unless given
 */
export async function startApp(
  main: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<App> {
  const port = Number(env["PORT"] ?? (await freePorts(1))[0]);
  const lines: string[] = [];
  const child = await spawnGuarded({
    file: process.execPath,
    args: [main, ...args],
    cwd: ROOT,
    env: { ...inherited(), LOG_LEVEL: "info", ...env, PORT: String(port) },
    output: (line) => {
      lines.push(line);
      if (lines.length > LINES_MAX) lines.shift();
    },
  });
  return appOf(main, child, port, lines);
}

function appOf(main: string, child: Child, port: number, lines: readonly string[]): App {
  const url = `http://127.0.0.1:${port}`;
  /** Waits as long as the process lives; its last lines tell why it does not. */
  const whileItLives = async <T>(
    what: string,
    probe: () => T | Promise<T>,
    limitMs = 60_000,
  ): Promise<NonNullable<T>> => {
    const found = await until<{ value: NonNullable<T> } | "dead">(
      `${main}: ${what}. Its last lines:\n${lines.slice(-5).join("\n")}`,
      async () => {
        const gone = child.ended !== undefined;
        const value = await Promise.resolve(probe()).catch(() => undefined);
        if (value !== undefined && value !== null && value !== false) return { value: value as NonNullable<T> };
        return gone && "dead";
      },
      { limitMs },
    );
    if (found !== "dead") return found.value;
    throw new Error(`${main} ended with ${child.ended} before ${what}:\n${lines.slice(-15).join("\n")}`);
  };
  const kill = (): Promise<void> => endProcess(child, "SIGKILL", STOP_LIMIT_MS);
  return {
    port,
    url,
    pid: child.pid,
    lines,
    get ended() {
      return child.ended;
    },
    line: (text, options) =>
      whileItLives(`the line "${text}"`, () => lines.find((line) => line.includes(text)), options?.limitMs),
    ready: async (options) => {
      await whileItLives("it was ready", async () => (await fetch(`${url}/readyz`)).ok, options?.limitMs);
    },
    kill,
    freeze: () => child.signal("SIGSTOP"),
    thaw: () => child.signal("SIGCONT"),
    stop: async () => {
      await endProcess(child, "SIGTERM", STOP_LIMIT_MS);
      return child.exited;
    },
    exit: () => child.exited,
    [Symbol.asyncDispose]: kill,
  };
}

function inherited(): Record<string, string> {
  return Object.fromEntries(INHERITED.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
}
