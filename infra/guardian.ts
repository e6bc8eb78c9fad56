/**
 * A small program that ends the processes of its parent once the parent is gone, however it went: kill -9 included.
 * Reads lines from its standard input: `+PID SIGNAL` watches the process group PID, `-PID` forgets it. When the input
 * ends (the parent closed it, or died), each group gets its signal, and SIGKILL if it still runs after `GRACE_MS`.
 */
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { isRunning, signalGroup } from "./alive.ts";

const GRACE_MS = 5_000;
const LOOK_MS = 50;
const watched = new Map<number, NodeJS.Signals>();

// Ctrl-C and a closing terminal reach the whole session: the parent decides then, not this program.
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => undefined);

for await (const line of createInterface({ input: process.stdin })) {
  const [pid = "", signal] = line.split(" ");
  if (pid.startsWith("+")) watched.set(Number(pid), signal as NodeJS.Signals);
  else watched.delete(-Number(pid));
}

const left = [...watched.keys()];
for (const [pid, signal] of watched) signalGroup(pid, signal);
for (let waitedMs = 0; waitedMs < GRACE_MS && left.some(isRunning); waitedMs += LOOK_MS) await delay(LOOK_MS);
for (const pid of left) if (isRunning(pid)) signalGroup(pid, "SIGKILL");
