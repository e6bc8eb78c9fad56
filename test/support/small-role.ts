/** The smallest process that `main` can run: how it behaves is its MODE. */
import { type Clock, systemClock } from "#lib/clock.ts";
import { readSettings, text } from "#lib/config.ts";
import { main, runAll, type Task } from "#lib/run.ts";

const mode = process.env["MODE"] ?? "";

const waits = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));

const tasks: Readonly<Record<string, Task["run"]>> = {
  clean: waits,
  stuck: () => new Promise(() => undefined),
  fails: () => Promise.reject(new Error("the disk is full")),
  crashes: (signal) => {
    process.nextTick(() => {
      throw new Error("nobody catches this");
    });
    return waits(signal);
  },
};

/** Its timers are over as soon as they are set. */
const hasty: Clock = {
  ...systemClock,
  after: (_ms, run) => {
    setImmediate(run);
    return () => undefined;
  },
};

await main(
  "small",
  async (signal, log) => {
    if (mode === "unset") readSettings({ NEVER_SET: text("What this role cannot do without.") });
    const work: Task = { name: "work", run: tasks[mode.replace("-late", "")] ?? waits };
    log.info("started");
    await runAll([work], signal, log);
  },
  mode.endsWith("-late") ? hasty : systemClock,
);
