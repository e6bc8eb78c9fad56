/** Several roles' readiness → the process'. Pure. */
import type { Readiness } from "#lib/http.ts";

/** Ready when all are; what each misses is told with its role, and what weakens one (`degraded`) without making it unready too. */
export function bothReady(roles: Readonly<Record<string, Readiness>>): Readiness {
  const told = (list: (state: Readiness) => unknown): string[] =>
    Object.entries(roles).flatMap(([role, state]) => {
      const lines = list(state);
      return Array.isArray(lines) ? lines.map((line) => `${role}: ${line}`) : [];
    });
  return {
    ready: Object.values(roles).every(({ ready }) => ready),
    missing: told(({ missing }) => missing),
    degraded: told((state) => state["degraded"]),
  };
}
