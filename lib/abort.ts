/** Waits that a signal ends. */

/**
 * What `work` leads to, unless `signal` aborts first: then `work` goes on, and nobody waits for it any more. For requests that
 * a silent server can hold up for longer than a stop may take.
 * @throws `signal`'s reason when it aborts first
 */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
