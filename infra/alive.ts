/** Whether a process runs, and signals to process groups. */
import { readFileSync } from "node:fs";

/** False for a zombie too: it is dead, only nobody has asked how. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  try {
    // "PID (name) STATE …"; the name may hold blanks and brackets.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3) !== "Z";
  } catch {
    return process.platform !== "linux";
  }
}

/** Sends to the group that `pid` leads; to `pid` alone where there is no such group. False when nobody was there. */
export function signalGroup(pid: number, signal: NodeJS.Signals): boolean {
  for (const target of [-pid, pid]) {
    try {
      return process.kill(target, signal);
    } catch {
      // No such group, or no such process: try the next.
    }
  }
  return false;
}
