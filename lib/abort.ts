/** Waits that a signal ends. */

/**
 * What `work` leads to, unless `signal` aborts first: then `work` goes on, and nobody waits for it any more. For requests that
 * a silent server can hold up for longer than a stop may take.
 * @throws `signal`'s reason when it aborts first
 */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  work.then(resolve, reject);
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Resolves when `signal` aborts: its only listener, gone once it fired. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
