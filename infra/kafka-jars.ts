/** Apache Kafka's own jars, fetched once by Maven into a cache folder that all checkouts of a user share. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isRunning } from "./alive.ts";
import { withLock } from "./lock.ts";
import { endProcess, spawnGuarded } from "./process.ts";
import { Missing, type Say } from "./server.ts";

export const KAFKA_VERSION = "4.3.1";
const JAVA_MIN = 17;
const FETCH_LIMIT_MS = 15 * 60_000;
const POM = fileURLToPath(new URL("pom.xml", import.meta.url));
const REMEDY =
  "Debian, Ubuntu: sudo apt-get install openjdk-17-jre-headless maven; macOS: brew install openjdk@17 maven. " +
  "Or start Docker, or set KAFKA_BROKERS.";

/** `java` of JAVA_HOME, else of PATH. @throws Missing when there is none, or one older than 17 */
export function findJava(): string {
  const home = process.env["JAVA_HOME"];
  const java = home ? join(home, "bin", "java") : "java";
  const told = spawnSync(java, ["-version"], { encoding: "utf8" });
  const version = Number(/version "(\d+)/.exec(told.stderr)?.[1] ?? 0);
  if (told.status === 0 && version >= JAVA_MIN) return java;
  const found = version > 0 ? `${java} is version ${version}` : `${java} does not run`;
  throw new Missing(`Kafka needs Java ${JAVA_MIN} or newer, but ${found}. ${REMEDY}`);
}

/** Where the jars are, or will be: `$XDG_CACHE_HOME/spillway/kafka-4.3.1`, by default below `~/.cache`. */
export function jarsFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "spillway", `kafka-${KAFKA_VERSION}`);
}

/** @throws Missing when the jars are not there yet and Maven is not either */
export function checkJars(): void {
  if (existsSync(jarsFolder()) || spawnSync("mvn", ["--version"]).status === 0) return;
  throw new Missing(`Kafka's jars have to be fetched once, which needs Maven (mvn). ${REMEDY}`);
}

/**
 * Makes sure the jars are there and tells their folder. The folder appears at once and complete: Maven fills another
 * beside it, which is then renamed. Several processes may call this at the same time: one fetches, the others wait.
 */
export async function fetchJars(say: Say): Promise<string> {
  const folder = jarsFolder();
  if (existsSync(folder)) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  await withLock(
    `${folder}.lock`,
    FETCH_LIMIT_MS,
    (holder) => say(`Kafka ${KAFKA_VERSION}: process ${holder} fetches it already; waiting for that`),
    async () => {
      if (existsSync(folder)) return;
      removeLeftovers(folder);
      const fresh = `${folder}.${process.pid}`;
      await runMaven(fresh, say);
      putInPlace(fresh, folder);
    },
  );
  return folder;
}

/** What a fetch that was killed left behind: folders `kafka-4.3.1.PID` of processes that are gone. */
function removeLeftovers(folder: string): void {
  for (const name of readdirSync(dirname(folder))) {
    const pid = name.startsWith(`${basename(folder)}.`) ? Number(name.slice(basename(folder).length + 1)) : Number.NaN;
    if (pid > 0 && !isRunning(pid)) rmSync(join(dirname(folder), name), { recursive: true });
  }
}

function putInPlace(fresh: string, folder: string): void {
  try {
    renameSync(fresh, folder);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    // Another process was faster; its jars are as good.
    if (!existsSync(folder)) throw error;
  }
}

async function runMaven(target: string, say: Say): Promise<void> {
  const log: string[] = [];
  const progress = createProgress(say);
  const maven = await spawnGuarded({
    file: "mvn",
    args: ["-B", "-f", POM, "dependency:copy-dependencies", "-DincludeScope=runtime", `-DoutputDirectory=${target}`],
    output: (line) => {
      log.push(line);
      if (log.length > 200) log.shift();
      progress.line(line);
    },
  });
  const timer = setTimeout(() => void endProcess(maven, "SIGTERM", 5_000), FETCH_LIMIT_MS);
  const code = await maven.exited;
  clearTimeout(timer);
  if (code !== 0) {
    rmSync(target, { recursive: true, force: true });
    const errors = log.filter((line) => line.startsWith("[ERROR]")).slice(0, 8);
    throw new Error(
      `Kafka ${KAFKA_VERSION} could not be fetched: mvn ${maven.ended}.\n${(errors.length > 0 ? errors : log.slice(-8)).join("\n")}`,
    );
  }
  progress.end(readdirSync(target).length);
}

/** Condenses Maven's lines: on a terminal one line that counts up, elsewhere a line for every twenty files. */
function createProgress(say: Say): { line(text: string): void; end(jars: number): void } {
  const terminal = process.stdout.isTTY === true;
  let files = 0;
  let kilobytes = 0;
  say(`Kafka ${KAFKA_VERSION}: fetching Apache Kafka's jars with Maven, once (about 50 MB)`);
  return {
    line: (text) => {
      const [, amount, unit] = /Downloaded .*\.jar \(([\d.]+) (B|kB|MB)/.exec(text) ?? [];
      if (amount === undefined) return;
      files += 1;
      kilobytes += Number(amount) * (unit === "MB" ? 1000 : unit === "kB" ? 1 : 0.001);
      const state = `Kafka ${KAFKA_VERSION}: ${files} files, ${(kilobytes / 1000).toFixed(1)} MB fetched`;
      if (terminal) process.stdout.write(`\r${state}`);
      else if (files % 20 === 0) say(state);
    },
    end: (jars) => {
      if (terminal && files > 0) process.stdout.write("\n");
      say(`Kafka ${KAFKA_VERSION}: complete, ${jars} jars in ${jarsFolder()}`);
    },
  };
}
