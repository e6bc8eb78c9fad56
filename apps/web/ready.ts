/** Several roles' readiness → the process'. Pure. */
import type { Readiness, Reason } from "#lib/operator.ts";

/** Ready when all are; what each misses is told with its role, and what weakens one (`degraded`) without making it unready too. */
export function bothReady(roles: Readonly<Record<string, Readiness>>): Readiness {
  const told = (list: (state: Readiness) => readonly Reason[]): Reason[] =>
    Object.entries(roles).flatMap(([role, state]) =>
      list(state).map(({ what, sinceMs }) => ({ what: `${role}: ${what}`, sinceMs })),
    );
  return {
    ready: Object.values(roles).every(({ ready }) => ready),
    missing: told(({ missing }) => missing),
    degraded: told(({ degraded = [] }) => degraded),
  };
}
