/** A small disk of a test's own, to be filled: tmpfs in a mount namespace that lasts as long as one process. */
import { closeSync, openSync, rmSync, statSync, truncateSync, writeSync } from "node:fs";
import { endProcess, spawnGuarded } from "../../../infra/process.ts";
import { newFolder } from "../../support/folder.ts";
import { until } from "../../support/until.ts";

export interface SmallDisk extends AsyncDisposable {
  /** An empty folder on it, seen by this process and by the one that it was made for, whose user owns it. */
  readonly folder: string;
  /** Leaves not a byte. */
  fill(): void;
  /** Takes away what `fill` wrote. */
  free(): void;
}

/**
 * Asks for no right but that to make user namespaces, which some machines and most containers refuse.
 * @param pid of the process that is to use it
 * @returns why there is none, where this machine gives none
 */
export async function smallDisk(pid: number, sizeMiB: number): Promise<SmallDisk | string> {
  const mountPoint = newFolder("disk");
  // Whoever is root inside the namespace is that process' user outside, who may look in through /proc; nobody else may own
  // files there, so all are made from inside.
  const { uid, gid } = statSync(`/proc/${pid}`);
  const lines: string[] = [];
  const script = [
    `mount -t tmpfs -o size=${sizeMiB}m,mode=777 tmpfs ${mountPoint}`,
    `cd ${mountPoint}`,
    "mkdir -m 700 data",
    ": > ballast",
    "chmod 666 ballast",
    "echo mounted",
    "exec sleep 100000",
  ].join(" && ");
  const holder = await spawnGuarded({
    file: "unshare",
    args: ["--user", "--map-root-user", "--mount", "sh", "-c", script],
    ...(process.getuid?.() === uid ? {} : { uid, gid }),
    output: (line) => lines.push(line),
  }).catch((error: Error) => error.message);
  const remove = async (): Promise<void> => {
    if (typeof holder !== "string") await endProcess(holder, "SIGKILL", 10_000);
    rmSync(mountPoint, { recursive: true, force: true });
  };
  if (typeof holder === "string") {
    await remove();
    return holder;
  }
  await until("a disk, or none", () => lines.includes("mounted") || holder.ended !== undefined);
  if (holder.ended !== undefined) {
    await remove();
    return `no disk to fill: ${lines.join(" ")}`;
  }
  const inside = `/proc/${holder.pid}/root${mountPoint}`;
  return {
    folder: `${inside}/data`,
    fill: () => fillUp(`${inside}/ballast`),
    free: () => truncateSync(`${inside}/ballast`),
    [Symbol.asyncDispose]: remove,
  };
}

function fillUp(file: string): void {
  const descriptor = openSync(file, "a");
  try {
    for (let bytes = 1024 * 1024; bytes >= 4_096; bytes /= 2)
      for (let left = true; left; )
        try {
          left = writeSync(descriptor, Buffer.alloc(bytes)) > 0;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
          left = false;
        }
  } finally {
    closeSync(descriptor);
  }
}
