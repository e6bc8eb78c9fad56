/** What a process of ours says of itself at /readyz. */

const ANSWER_LIMIT_MS = 5_000;

/** "ready", "silent" when nobody answers, or what is missing. */
export async function readinessOf(url: string): Promise<"ready" | "silent" | { readonly missing: string }> {
  try {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(ANSWER_LIMIT_MS) });
    if (answer.ok) return "ready";
    const state = (await answer.json()) as { readonly missing?: readonly string[] };
    return { missing: state.missing?.join("; ") ?? `status ${answer.status}` };
  } catch {
    return "silent";
  }
}
