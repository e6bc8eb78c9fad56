/** Work that belongs to one log, and begins anew with the one that succeeds it. */
import type { Control, LogIdentity } from "#lib/control.ts";
import type { Task } from "#lib/run.ts";

/** Which log is in use, and when that changes. */
type InUse = Pick<Control, "identity" | "onMoved">;

/** Resolves when a later log than that of `epoch` is in use, or when `signal` aborts. */
export async function succeeded(control: InUse, epoch: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = (): void => {
    if ((control.identity()?.epoch ?? epoch) > epoch) resolve();
  };
  const onAbort = (): void => resolve();
  const ignore = control.onMoved(look);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  look();
  await promise;
  ignore();
  signal.removeEventListener("abort", onAbort);
}

/**
 * One task after the other, each for the log in use, each stopped when another log is adopted.
 * @param make a task that ends when its signal aborts
 */
export function eachEpoch(
  name: string,
  { control, identity: first }: { readonly control: InUse; readonly identity: LogIdentity },
  make: (identity: LogIdentity) => Pick<Task, "run">,
): Task {
  return {
    name,
    run: async (signal) => {
      while (!signal.aborted) {
        const identity = control.identity() ?? first;
        const over = new AbortController();
        const done = new AbortController();
        const watching = succeeded(control, identity.epoch, AbortSignal.any([signal, done.signal])).then(() =>
          over.abort(),
        );
        let isOver: boolean;
        try {
          // What it was waiting for may be told by the signal's own error, as at the end of a process.
          await make(identity)
            .run(over.signal)
            .catch((error: unknown) => {
              if (error !== over.signal.reason) throw error;
            });
          isOver = over.signal.aborted;
        } finally {
          done.abort();
          await watching;
        }
        // By itself it ends for no good reason: its owner is to know.
        if (!isOver) return;
      }
    },
  };
}
