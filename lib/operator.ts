/** What an operator asks of every role: does it live, can it do its job, how is it doing, what does it offer. */
import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import type { Clock } from "./clock.ts";
import type { Metrics } from "./metrics.ts";

/** What is the matter, in a few words, and since when, in the clock's ms: an operator asks that first. */
export interface Reason {
  readonly what: string;
  readonly sinceMs: number;
}

/** None while there is nothing the matter: `sinceMs` is null then. */
export const reasons = (what: string, sinceMs: number | null): readonly Reason[] =>
  sinceMs === null ? [] : [{ what, sinceMs }];

/** Whether a role can do its job. */
export interface Readiness {
  readonly ready: boolean;
  /** Empty when ready. */
  readonly missing: readonly Reason[];
  /** What weakens it and leaves it ready. */
  readonly degraded?: readonly Reason[];
}

const Told = Type.Array(Type.String());
const ReadinessSchema = Type.Object({ ready: Type.Boolean(), missing: Told, degraded: Type.Optional(Told) });
const tags = ["operator"];

/** @param ready must answer by itself within a second or so, also when what it asks is away */
export function addOperatorRoutes(
  server: FastifyInstance,
  { metrics, clock, ready }: { metrics: Metrics; clock: Clock; ready: () => Promise<Readiness> | Readiness },
): void {
  const readiness = whoeverTells(ready, clock);
  const open = { access: "open" } as const;
  const Alive = Type.Object({ alive: Type.Boolean(), process: Type.Integer() });
  const lives = { tags, summary: "The process lives, and its id", response: { 200: Alive } };
  // The id tells who started it whether the answer is that of another program on the port.
  server.get("/healthz", { config: open, schema: lives }, () => ({ alive: true, process: process.pid }));
  const able = {
    tags,
    summary: "Whether this role can do its job, and what is missing since when",
    response: { 200: ReadinessSchema, 503: ReadinessSchema },
  };
  server.get("/readyz", { config: open, schema: able }, async (_request, reply) => {
    const state = await readiness();
    return reply.code(state.ready ? 200 : 503).send(printed(state));
  });
  const numbers = { tags, summary: "Prometheus metrics", produces: ["text/plain"], response: { 200: Type.String() } };
  server.get("/metrics", { config: { access: "operate" }, schema: numbers }, async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
  const document = { tags, summary: "This document", response: { 200: Type.Object({}) } };
  server.get("/openapi.json", { schema: document }, () => server.swagger());
}

/** A role that cannot even tell is not ready, and says why. */
function whoeverTells(ready: () => Promise<Readiness> | Readiness, clock: Clock): () => Promise<Readiness> {
  let muteSinceMs: number | null = null;
  return async () => {
    try {
      const state = await ready();
      muteSinceMs = null;
      return state;
    } catch (error) {
      muteSinceMs ??= clock.now();
      const what = error instanceof Error ? error.message : String(error);
      return { ready: false, missing: [{ what, sinceMs: muteSinceMs }] };
    }
  };
}

function printed({ ready, missing, degraded }: Readiness): Record<string, unknown> {
  const told = (list: readonly Reason[]): string[] =>
    list.map(({ what, sinceMs }) => `${what} (since ${new Date(sinceMs).toISOString()})`);
  return { ready, missing: told(missing), ...(degraded && { degraded: told(degraded) }) };
}
