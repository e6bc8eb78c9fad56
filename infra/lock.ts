/** A lock file between processes of one machine; that of a process which is gone is taken over. */
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { isRunning } from "./alive.ts";

const LOOK_MS = 200;
/** From making the file to writing the number into it takes no longer. */
const UNWRITTEN_MS = 5_000;

/**
 * Runs `work` while holding `file`, which holds the process id of its owner.
 * @param limitMs how long to wait for another's work, and the age at which a lock is taken over in any case
 * @param waiting called once, when another process has it
 */
export async function withLock(
  file: string,
  limitMs: number,
  waiting: (holder: number) => void,
  work: () => Promise<void>,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  for (let told = false; !take(file); ) {
    const holder = holderOf(file, limitMs);
    if (holder === "gone") continue;
    if (holder === "stale") rmSync(file, { force: true });
    else if (performance.now() > deadline)
      throw new Error(`${file} is held by process ${holder}: end it, or remove the file`);
    else {
      if (!told) waiting(holder);
      told = true;
      await delay(LOOK_MS);
    }
  }
  try {
    await work();
  } finally {
    rmSync(file, { force: true });
  }
}

/**
 * Takes `file` for this process' life; the function returned gives it back.
 * @throws Error when a running process has it; `work` names what that does
 */
export function claim(file: string, work: string): () => void {
  while (!take(file)) {
    const holder = holderOf(file, Number.POSITIVE_INFINITY);
    if (holder === "gone") continue;
    if (holder !== "stale")
      throw new Error(`${work} runs already, as process ${holder}: end it first (or remove ${file})`);
    rmSync(file, { force: true });
  }
  return () => {
    if (holds(file)) rmSync(file, { force: true });
  };
}

/** Whether this process still has `file`: somebody may have removed it, and another process taken it since. */
export function holds(file: string): boolean {
  try {
    return Number(readFileSync(file, "utf8")) === process.pid;
  } catch (error) {
    // Anything but its absence, such as too many open files, says nothing about whose it is.
    return !["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
  }
}

function take(file: string): boolean {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function holderOf(file: string, limitMs: number): number | "gone" | "stale" {
  try {
    const ageMs = Date.now() - statSync(file).mtimeMs;
    const holder = Number(readFileSync(file, "utf8"));
    const stale = holder > 0 ? !isRunning(holder) || ageMs > limitMs : ageMs > UNWRITTEN_MS;
    return stale ? "stale" : holder;
  } catch {
    return "gone";
  }
}
