/** What a process of ours says of itself at /readyz. */

const ANSWER_LIMIT_MS = 5_000;

/**
 * "ready", "silent" when nobody answers, or what is missing.
 * @param pid the process that is meant, when it is known: what another says there is not its word
 */
export async function readinessOf(
  url: string,
  pid?: number,
): Promise<"ready" | "silent" | { readonly missing: string }> {
  try {
    if (pid !== undefined && (await processAt(url)) !== pid) return { missing: `another program answers at ${url}` };
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
    if (answer.ok) return "ready";
    const state = (await answer.json()) as { readonly missing?: readonly string[] };
    return { missing: state.missing?.join("; ") ?? `status ${answer.status}` };
  } catch {
    return "silent";
  }
}

/** Undefined when it is none of ours. */
async function processAt(url: string): Promise<number | undefined> {
  const answer = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
  const told = (await answer.json().catch(() => ({}))) as { readonly process?: number };
  return told.process;
}
